"""The inbox: take a delivery in, and later tell jobs what it says, once."""

import hashlib
import json
from collections.abc import Mapping

import structlog
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from accounts.errors import InvalidInput
from jobs.models import Job, JobProgress
from jobs.replicate import predictions
from jobs.replicate.predictions import MalformedPrediction, Prediction
from jobs.services import progress
from webhooks import tasks
from webhooks.models import Delivery, DeliveryState

log = structlog.get_logger(__name__)

KEPT_HEADERS = ("webhook-id", "webhook-timestamp", "content-type", "user-agent")
# Not stored: the input may hold what people put into prompts and settings, and the log is kept once, with the job.
LEFT_OUT = frozenset({"input", "logs"})
ATTEMPTS = 20


class InvalidPayload(InvalidInput):
    code = "invalid_payload"


def receive(*, webhook_id: str, job: Job, body: bytes, headers: Mapping[str, str], address: str) -> tuple[Delivery, bool]:
    """Keep a verified delivery: its headers, the hash of its body, its content, and its log at the end of the job's.

    Returns the delivery and whether it is new. Everything is committed on return. The same id with another body
    is kept apart, in quarantine. Raises InvalidPayload for a body that is no prediction; nothing is kept then.
    """
    try:
        prediction = predictions.parse(body)
    except MalformedPrediction as error:
        raise InvalidPayload(f"Invalid webhook payload: {error}") from None
    sha256 = hashlib.sha256(body).hexdigest()
    known = Delivery.objects.filter(webhook_id=webhook_id).order_by("pk")
    if any(delivery.body_sha256 == sha256 for delivery in known):
        known.filter(body_sha256=sha256).update(repeats=F("repeats") + 1)
        return known.get(body_sha256=sha256), False
    is_altered = known.exists()
    try:
        with transaction.atomic():
            delivery = Delivery.objects.create(
                webhook_id=webhook_id,
                job=job,
                received_at=timezone.now(),
                address=address or None,
                headers={name: headers[name] for name in KEPT_HEADERS if name in headers},
                body_sha256=sha256,
                body_bytes=len(body),
                state=DeliveryState.QUARANTINED if is_altered else DeliveryState.RECEIVED,
                reason="The same id came before with other content." if is_altered else "",
                **_content(prediction),
            )
            if not is_altered:
                progress.keep_log(job, prediction)
                JobProgress.objects.filter(job=job).update(heard_at=delivery.received_at)
                transaction.on_commit(lambda: tasks.apply.delay(delivery_pk=delivery.pk), robust=True)
    except IntegrityError:
        # The same delivery came twice at the same time, and the other one is kept.
        return receive(webhook_id=webhook_id, job=job, body=body, headers=headers, address=address)
    if is_altered:
        log.error("delivery.quarantined", team=job.team.slug, job=job.job_id, delivery=webhook_id)
    return delivery, True


def _content(prediction: Prediction) -> dict[str, object]:
    logs = prediction.logs
    return {
        "content": {key: value for key, value in prediction.raw.items() if key not in LEFT_OUT},
        "logs_length": len(logs) if logs is not None else None,
        "logs_sha256": hashlib.sha256(logs.encode()).hexdigest() if logs is not None else "",
    }


def apply(delivery: Delivery) -> None:
    """Tell jobs what a delivery says; what it changes and its mark commit together, so that it is applied once."""
    with transaction.atomic():
        unapplied = Delivery.objects.unapplied().filter(pk=delivery.pk)
        if unapplied.update(state=DeliveryState.APPLIED, applied_at=timezone.now(), attempts=F("attempts") + 1):
            progress.record(delivery.job, _said(delivery), cause="webhook")


def _said(delivery: Delivery) -> Prediction:
    """The prediction as it was delivered. Its log was taken in already; that it had one still tells that it is here."""
    content = dict(delivery.content)
    if delivery.logs_length is not None:
        content["logs"] = ""
    # Through JSON text, so that numbers become exact decimals again.
    return predictions.parse(json.dumps(content))


def apply_unapplied() -> int:
    """Apply every delivery whose bell was lost. One that fails again and again is put aside with the reason."""
    applied = 0
    for delivery in Delivery.objects.unapplied().select_related("job__team").order_by("received_at")[:500]:
        try:
            apply(delivery)
            applied += 1
        except Exception as error:
            attempts = delivery.attempts + 1
            state = DeliveryState.DEAD if attempts >= ATTEMPTS else DeliveryState.RECEIVED
            Delivery.objects.filter(pk=delivery.pk).update(attempts=attempts, state=state, reason=f"{type(error).__name__}: {error}"[:500])
            log.exception("delivery.failed", delivery=delivery.webhook_id, job=delivery.job.job_id)
    return applied


def replay(delivery: Delivery) -> bool:
    """Apply a delivery again, and say whether it may be. What it says is old news, unless it was put aside.

    One in quarantine contradicts what was delivered under its id before, and stays there.
    """
    may_be = Delivery.objects.filter(pk=delivery.pk).exclude(state=DeliveryState.QUARANTINED)
    if not may_be.update(state=DeliveryState.RECEIVED):
        return False
    apply(delivery)
    return True
