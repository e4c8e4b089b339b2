"""The inbox: take a delivery in, and later tell jobs what it says, once."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from accounts import audit
from accounts.callers import Caller, is_within
from accounts.errors import Conflict, InvalidInput
from accounts.models import Team
from accounts.roles import Right
from jobs import settingkeys
from jobs import tasks as job_tasks
from jobs.models import Job, JobProgress
from jobs.replicate import predictions
from jobs.replicate.predictions import MalformedPrediction, Prediction
from jobs.services import logs, news, progress, provider, provider_settings
from webhooks import alarms, tasks, trainer_events
from webhooks.models import Delivery, DeliveryQuerySet, DeliveryState, Proof, Source
from webhooks.trainer_events import TrainerEvent

log = structlog.get_logger(__name__)

KEPT_HEADERS = ("webhook-id", "webhook-timestamp", "content-type", "user-agent")
# Not stored: the input may hold what people put into prompts and settings, the log is kept once, with the job, and the
# callback's address holds the job's key.
LEFT_OUT = frozenset({"input", "logs", "webhook"})
# Tried so often within about an hour, with longer and longer rests, before it is put aside.
ATTEMPTS = 13
FIRST_REST = timedelta(seconds=5)
LONGEST_REST = timedelta(minutes=10)
AT_ONCE = 500
ALTERED = "The same id came before with other content."
OUTSIDE = "It came from an address outside the team's list."


class InvalidPayload(InvalidInput):
    code = "invalid_payload"


class NotHeld(Conflict):
    """The delivery waits for nobody."""

    code = "delivery_not_held"


class NotReplayable(Conflict):
    """The delivery is held, or contradicts what came before under its id."""

    code = "delivery_not_replayable"


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """How a request came: its headers, from where, what proved it, and whether it must wait for a person."""

    address: str
    headers: Mapping[str, str] = field(default_factory=dict)
    proof: str = Proof.SIGNATURE
    is_outside: bool = False
    is_held: bool = False


# --- Taking in --------------------------------------------------------------------------------------------


def receive(*, webhook_id: str, job: Job, body: bytes, arrival: Arrival) -> tuple[Delivery, bool]:
    """Keep a verified delivery: its headers, the hash of its body, its content, and its log at the end of the job's.

    Returns the delivery and whether it is new. Everything is committed on return. The same id with another body
    is kept apart, in quarantine. One that must be held is kept as well, its log with it, and tells the job nothing until
    it is released or comes again from an allowed address. Raises InvalidPayload for a body that is no prediction;
    nothing is kept then.
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
            _lock(job)
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
                JobProgress.objects.filter(job=job).update(heard_at=now)
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
    """Keep what a trainer says of itself; the same rules for ids count. Returns the delivery and whether it is new."""
    sha256 = hashlib.sha256(body).hexdigest()
    event, raw = trainer_events.parse(said), predictions.storable(said)
    try:
        with transaction.atomic():
            _lock(job)
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
        alarms.note_outside(delivery, is_held=arrival.is_held, now=timezone.now())
    if delivery.state == DeliveryState.HELD and not arrival.is_held:
        return delivery, let_go(delivery)
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


# --- Applying ---------------------------------------------------------------------------------------------


def apply(delivery: Delivery) -> None:
    """Tell jobs what a delivery says; what it changes and its mark commit together, so that it is applied once."""
    with transaction.atomic():
        # Before the delivery, as `receive` does: the other way round a repeat that comes meanwhile and this wait for each other.
        _lock(delivery.job)
        unapplied = Delivery.objects.unapplied().filter(pk=delivery.pk)
        marks = {"state": DeliveryState.APPLIED, "applied_at": timezone.now(), "try_after": None, "reason": ""}
        if not unapplied.update(attempts=F("attempts") + 1, **marks):
            return
        before = Job.objects.values_list("state", flat=True).get(pk=delivery.job_id)
        if delivery.source == Source.TRAINER:
            _take(delivery, trainer_events.parse(delivery.content))
        else:
            progress.record(delivery.job, _said(delivery), cause="webhook")
        after = Job.objects.values_list("state", flat=True).get(pk=delivery.job_id)
        if after != before:
            Delivery.objects.filter(pk=delivery.pk).update(moved_to=after)


def attempt(delivery: Delivery) -> bool:
    """Apply a delivery and say whether that went well. One that fails rests longer each time, and in the end is put aside."""
    try:
        apply(delivery)
    except Exception as error:
        # Whatever it is: the others must not wait for this one.
        log.exception("delivery.failed", delivery=delivery.webhook_id, job=delivery.job.job_id)
        _note_failure(delivery, f"{type(error).__name__}: {error}"[:500])
        return False
    return True


def apply_unapplied() -> int:
    """Apply every delivery that is due: those whose bell was lost, those to be replayed, those that failed and have rested."""
    due = Delivery.objects.due(now=timezone.now()).select_related("job__team").defer("held_log").order_by("received_at", "pk")
    return sum(attempt(delivery) for delivery in due[:AT_ONCE])


def rest_after(attempts: int) -> timedelta:
    """How long a delivery rests that has failed so often."""
    return min(LONGEST_REST, FIRST_REST * 2 ** min(attempts - 1, 20))


def _note_failure(delivery: Delivery, reason: str) -> None:
    now, attempts = timezone.now(), delivery.attempts + 1
    is_dead = attempts >= ATTEMPTS
    changes: dict[str, Any] = {"state": DeliveryState.DEAD} if is_dead else {"try_after": now + rest_after(attempts)}
    with transaction.atomic():
        failed = Delivery.objects.unapplied().filter(pk=delivery.pk)
        if failed.update(attempts=attempts, reason=reason, **changes) and is_dead:
            alarms.tell_of_dead(delivery, reason=reason, now=now)


def _lock(job: Job) -> None:
    """Let nobody else work on the job until the caller's transaction ends."""
    Job.objects.select_for_update(no_key=True).only("pk").get(pk=job.pk)


def _said(delivery: Delivery) -> Prediction:
    """The prediction as it was delivered. Its log was taken in already; that it had one still tells that it is here."""
    content = dict(delivery.content)
    if delivery.logs_length is not None:
        content["logs"] = ""
    # Through JSON text, so that numbers become exact decimals again.
    return predictions.parse(json.dumps(content))


def _take(delivery: Delivery, event: TrainerEvent) -> None:
    """Take over a trainer's word, which is of progress only: whether a job is over the provider says, and is asked.

    The log stays the provider's alone, since it grows by difference; an error goes on the timeline.
    """
    job = Job.objects.get(pk=delivery.job_id)
    if job.is_terminal or delivery.is_of_another_run:
        return
    told = logs.Figures(
        stage=event.stage,
        step=event.step,
        total_steps=event.total_steps,
        loss=event.loss,
        learning_rate=event.learning_rate,
        seconds_left=event.seconds_left,
    )
    if told != logs.Figures():
        logs.take_figures(job, told)
    said = event.trouble or (event.checkpoint and f"Saved {event.checkpoint}.")
    if said and not job.events.filter(cause="trainer", detail=said).exists():
        job.events.create(cause="trainer", detail=said)
    if event.asks_provider:
        transaction.on_commit(lambda: job_tasks.poll_job.delay(job_pk=job.pk), robust=True)


# --- Again, and letting go --------------------------------------------------------------------------------


def replay(delivery: Delivery) -> bool:
    """Apply a delivery again, and say whether it may be. What it says is old news, unless it was put aside.

    One in quarantine contradicts what was delivered under its id before, and stays there; one that is held is released.
    """
    if not _mark_for_replay(Delivery.objects.filter(pk=delivery.pk)):
        return False
    delivery.attempts = 0
    attempt(delivery)
    return True


def replay_one(caller: Caller, delivery: Delivery) -> Delivery:
    """The same for a person, with a line in the audit trail; returns the delivery as it is afterwards. Raises NotReplayable."""
    caller.require(Right.MANAGE, permission="admin.config")
    if not replay(delivery):
        raise NotReplayable(
            f"The delivery cannot be applied again: it is {delivery.state}.",
            hint="Release one that is held. One that contradicts an earlier one of the same id stays apart.",
        )
    _audit_replay(caller.team, caller, count=1, what=delivery.webhook_id, job=delivery.job)
    delivery.refresh_from_db()
    return delivery


def replay_all(caller: Caller, deliveries: DeliveryQuerySet, *, what: str = "") -> int:
    """Mark all of these to be applied again, which the sweep then does in the order in which they came; says how many."""
    caller.require(Right.MANAGE, permission="admin.config")
    return replay_of_team(caller.team, deliveries, caller=caller, what=what)


def replay_of_team(team: Team, deliveries: DeliveryQuerySet, *, caller: Caller | None = None, what: str = "") -> int:
    """The same without a person, for whoever operates the server."""
    with transaction.atomic():
        marked = _mark_for_replay(deliveries.of(team))
        if marked:
            _audit_replay(team, caller, count=marked, what=what)
            transaction.on_commit(lambda: tasks.apply_unapplied.delay(), robust=True)
    log.info("deliveries.replayed", team=team.slug, count=marked)
    return marked


def _mark_for_replay(deliveries: DeliveryQuerySet) -> int:
    # Named by their keys: what passes a filter may be joined and ordered, and an UPDATE is neither.
    chosen = Delivery.objects.replayable().filter(pk__in=deliveries.order_by().values("pk"))
    return chosen.update(state=DeliveryState.RECEIVED, attempts=0, try_after=None)


def _audit_replay(team: Team, caller: Caller | None, *, count: int, what: str, job: Job | None = None) -> None:
    audit.record(
        team=team,
        caller=caller,
        event_type="webhook.replayed",
        action=f"Applied the delivery {what} again" if job else f"Had {count} deliveries applied again",
        target_type="job" if job else "inbox",
        target_id=job.job_id if job else "",
        after={} if job else {"count": count, "filter": what},
    )


def release(caller: Caller, delivery: Delivery, *, allow: str = "") -> Delivery:
    """Let a held delivery go, to be applied like any. Returns it.

    `allow` is an address or network to put on the team's list first; whatever else is held from there goes along.
    Raises NotHeld, and InvalidInput for an `allow` that is neither.
    """
    caller.require(Right.MANAGE, permission="admin.config")
    if delivery.state != DeliveryState.HELD:
        raise NotHeld(f"The delivery is not held, it is {delivery.state}.")
    held = Delivery.objects.filter(pk=delivery.pk)
    if allow:
        (allow,) = settingkeys.networks("allow", [allow])
        _allow(caller, allow)
        others = Delivery.objects.of(caller.team).held().exclude(address=None)[:AT_ONCE]
        held = Delivery.objects.filter(pk__in=[delivery.pk, *(other.pk for other in others if is_within(other.address or "", [allow]))])
    if not release_all(caller, held, allowed=allow):
        raise NotHeld("Somebody else has released the delivery.")
    delivery.refresh_from_db()
    return delivery


def release_all(caller: Caller, deliveries: DeliveryQuerySet, *, allowed: str = "") -> int:
    """Let all of these go that are held, in the order in which they came; says how many."""
    caller.require(Right.MANAGE, permission="admin.config")
    held = deliveries.held().select_related("job__team").order_by("received_at", "pk")[:AT_ONCE]
    return sum(_release(caller, delivery, allowed=allowed) for delivery in held)


def _release(caller: Caller, delivery: Delivery, *, allowed: str) -> bool:
    with transaction.atomic():
        if not let_go(delivery):
            return False
        audit.record(
            team=caller.team,
            caller=caller,
            event_type="webhook.released",
            action=f"Released the delivery {delivery.webhook_id} for {delivery.job.job_id}"[:300],
            target_type="job",
            target_id=delivery.job.job_id,
            after={"address": delivery.address or "", **({"allowed": allowed} if allowed else {})},
        )
    log.info("delivery.released", team=caller.team.slug, job=delivery.job.job_id, delivery=delivery.webhook_id)
    return True


def _allow(caller: Caller, address: str) -> None:
    """Put one more on the team's list, unless it is there. Raises InvalidInput."""
    listed = provider.settings_of(caller.team).webhook_allowed_ips
    if listed and address not in listed:  # without a list everybody is let in, and one address would keep all others out
        provider_settings.save(caller, {"webhook_allowed_ips": [*listed, address]})


def let_go(delivery: Delivery) -> bool:
    """Put a held delivery among those that are applied, its log at the end of the job's; False if it is held no more."""
    now = timezone.now()
    with transaction.atomic():
        _lock(delivery.job)
        held = Delivery.objects.held().filter(pk=delivery.pk)
        if not held.update(state=DeliveryState.RECEIVED, reason=""):
            return False
        text = Delivery.objects.values_list("held_log", flat=True).get(pk=delivery.pk)
        changes: dict[str, Any] = {"held_log": ""}
        if delivery.source == Source.PROVIDER:
            content = {**delivery.content, **({"logs": text} if delivery.logs_length is not None else {})}
            changes["event"] = progress.hear(delivery.job, predictions.parse(json.dumps(content)), now=now)
            JobProgress.objects.filter(job=delivery.job).update(heard_at=now)
        Delivery.objects.filter(pk=delivery.pk).update(**changes)
        transaction.on_commit(lambda: tasks.apply.delay(delivery_pk=delivery.pk), robust=True)
    delivery.refresh_from_db()
    return True
