"""Take a delivery in: keep it whole before it is answered. What it means is worked out later."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F
from django.utils import timezone
from psycopg.errors import LockNotAvailable

from accounts.errors import InvalidInput, Refusal
from jobs import tasks as job_tasks
from jobs.models import Job
from jobs.replicate import predictions
from jobs.replicate.predictions import MalformedPrediction
from jobs.services import news, progress
from webhooks import alarms, releasing, tasks, trainer_events
from webhooks.models import Delivery, DeliveryQuerySet, DeliveryState, Proof, Source

log = structlog.get_logger(__name__)

KEPT_HEADERS = ("webhook-id", "webhook-timestamp", "content-type", "user-agent")
# Not stored: the input may hold what people put into prompts and settings, the log is kept once, with the job, and the
# callback's address holds the job's key.
LEFT_OUT = frozenset({"input", "logs", "webhook"})
ALTERED = "The same id came before with other content."
OUTSIDE = "It came from an address outside the team's list."
# The provider waits for about as long, and counts it as failed after that.
PATIENCE_SECONDS = 5.0


class InvalidPayload(InvalidInput):
    code = "invalid_payload"


class JobBusy(Refusal):
    """The job's row is held by somebody who hangs, or by very much work."""

    code = "not_ready"
    status = 503


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """How a request came: its headers, from where, what proved it, and whether it must wait for a person."""

    address: str
    headers: Mapping[str, str] = field(default_factory=dict)
    proof: str = Proof.SIGNATURE
    is_outside: bool = False
    is_held: bool = False


def receive(*, webhook_id: str, job: Job, body: bytes, arrival: Arrival) -> tuple[Delivery, bool]:
    """Keep a verified delivery: its headers, the hash of its body, its content, and its log at the end of the job's.

    Returns the delivery and whether it is new. Everything is committed on return. The same id with another body
    is kept apart, in quarantine. One that must be held is kept as well, its log with it, and tells the job nothing until
    it is released or comes again from an allowed address. Raises InvalidPayload for a body that is no prediction,
    and JobBusy; nothing is kept then.
    """
    try:
        prediction = predictions.parse(body)
    except MalformedPrediction as error:
        raise InvalidPayload(f"Invalid webhook payload: {error}") from None
    sha256 = hashlib.sha256(body).hexdigest()
    now = timezone.now()
    try:
        with transaction.atomic():
            # Who comes second with the same delivery waits here and then finds it, and nobody waits for a delivery with a job in hand.
            job = _taken(job)
            same, is_altered = _came_before(webhook_id, sha256)
            if same is not None:
                return _again(same, arrival)
            is_heard = not is_altered and not arrival.is_held
            # Of one in quarantine, or held, nothing counts but its name.
            event = progress.hear(job, prediction, now=now) if is_heard else news.word_of(job, prediction, log_grew=False)
            delivery = Delivery.objects.create(
                webhook_id=webhook_id,
                job=job,
                event=event,
                received_at=now,
                body_sha256=sha256,
                body_bytes=len(body),
                **_state(arrival, is_altered=is_altered),
                **_arrived(arrival),
                **_content(prediction.raw),
                held_log=(prediction.logs or "") if arrival.is_held and not is_altered else "",
            )
            if is_heard:
                transaction.on_commit(lambda: tasks.apply.delay(delivery_pk=delivery.pk), robust=True)
            if arrival.is_outside:
                alarms.note_outside(delivery, is_held=arrival.is_held, now=now)
            if arrival.is_held and prediction.is_terminal:
                # What is held may be true, and the provider can be asked.
                transaction.on_commit(lambda: job_tasks.poll_job.delay(job_pk=job.pk), robust=True)
    except IntegrityError:
        # The same id came for another job at the same time, and that one is kept.
        return receive(webhook_id=webhook_id, job=job, body=body, arrival=arrival)
    if is_altered:
        log.error("delivery.quarantined", team=job.team.slug, job=job.job_id, delivery=webhook_id)
    return delivery, True


def receive_event(*, webhook_id: str, job: Job, body: bytes, said: Mapping[str, Any], arrival: Arrival) -> tuple[Delivery, bool]:
    """Keep what a trainer says of itself; the same rules for ids count. Returns the delivery and whether it is new. Raises JobBusy."""
    sha256 = hashlib.sha256(body).hexdigest()
    event, raw = trainer_events.parse(said), predictions.storable(said)
    try:
        with transaction.atomic():
            job = _taken(job)
            same, is_altered = _came_before(webhook_id, sha256)
            if same is not None:
                return _again(same, arrival)
            delivery = Delivery.objects.create(
                webhook_id=webhook_id,
                job=job,
                source=Source.TRAINER,
                event=event.word or "",
                body_sha256=sha256,
                body_bytes=len(body),
                **_state(arrival, is_altered=is_altered),
                **_arrived(arrival),
                **_content(raw),
            )
            if arrival.is_outside:
                alarms.note_outside(delivery, is_held=arrival.is_held, now=delivery.received_at)
            if delivery.state == DeliveryState.RECEIVED:
                transaction.on_commit(lambda: tasks.apply.delay(delivery_pk=delivery.pk), robust=True)
    except IntegrityError:
        return receive_event(webhook_id=webhook_id, job=job, body=body, said=said, arrival=arrival)
    return delivery, True


def _taken(job: Job) -> Job:
    """Lock the job. Raises JobBusy where somebody else keeps it for long: the provider comes again, and who waits here keeps others out."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{PATIENCE_SECONDS * 1000:.0f}ms"])
    try:
        return Job.objects.locked(job.pk)
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable):
            raise JobBusy(
                f"Job {job.job_id} is worked on, and could not take this in. Deliver it again.", details={"retry_after": 5}
            ) from error
        raise


def _came_before(webhook_id: str, sha256: str) -> tuple[DeliveryQuerySet | None, bool]:
    """The same delivery, if it came before, and whether any came under its id. Call it with the job locked."""
    known = Delivery.objects.filter(webhook_id=webhook_id)
    hashes = set(known.values_list("body_sha256", flat=True))
    return (known.filter(body_sha256=sha256) if sha256 in hashes else None), bool(hashes)


def _again(same: DeliveryQuerySet, arrival: Arrival) -> tuple[Delivery, bool]:
    """Count a repeat. One that was held and now comes from where it may is let in by that."""
    same.update(repeats=F("repeats") + 1)
    delivery = same.select_related("job__team").get()
    if arrival.is_outside:
        alarms.note_outside(delivery, is_held=arrival.is_held, now=timezone.now(), is_repeat=True)
    if delivery.state == DeliveryState.HELD and not arrival.is_held:
        return delivery, releasing.let_go(delivery)
    return delivery, False


def _state(arrival: Arrival, *, is_altered: bool) -> dict[str, str]:
    if is_altered:
        return {"state": DeliveryState.QUARANTINED, "reason": ALTERED}
    return {"state": DeliveryState.HELD, "reason": OUTSIDE} if arrival.is_held else {"state": DeliveryState.RECEIVED}


def _arrived(arrival: Arrival) -> dict[str, Any]:
    return {
        "address": arrival.address or None,
        "headers": {name: arrival.headers[name] for name in KEPT_HEADERS if name in arrival.headers},
        "proof": arrival.proof,
        "is_outside": arrival.is_outside,
    }


def _content(raw: Mapping[str, Any]) -> dict[str, object]:
    """What is kept of a body; of its log only how long it was, and its hash."""
    text = raw.get("logs")
    text = text if isinstance(text, str) else None
    return {
        "content": {key: value for key, value in raw.items() if key not in LEFT_OUT},
        "logs_length": len(text) if text is not None else None,
        "logs_sha256": hashlib.sha256(text.encode()).hexdigest() if text is not None else "",
    }
