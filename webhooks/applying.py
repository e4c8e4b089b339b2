"""Tell jobs what the inbox's deliveries say, once each, in whatever order they came."""

import json
from datetime import timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from jobs import tasks as job_tasks
from jobs.models import Job
from jobs.replicate import predictions
from jobs.replicate.predictions import Prediction
from jobs.services import logs, progress
from webhooks import alarms, trainer_events
from webhooks.models import Delivery, DeliveryState, Source
from webhooks.trainer_events import TrainerEvent

log = structlog.get_logger(__name__)

# Tried so often within about an hour, with longer and longer rests, before it is put aside.
ATTEMPTS = 13
FIRST_REST = timedelta(seconds=5)
LONGEST_REST = timedelta(minutes=10)
AT_ONCE = 500


def apply(delivery: Delivery) -> None:
    """Tell jobs what a delivery says; what it changes and its mark commit together, so that it is applied once."""
    with transaction.atomic():
        # Before the delivery, as `receive` does: the other way round a repeat that comes meanwhile and this wait for each other.
        job = Job.objects.locked(delivery.job_id)
        unapplied = Delivery.objects.unapplied().filter(pk=delivery.pk)
        marks = {"state": DeliveryState.APPLIED, "applied_at": timezone.now(), "try_after": None, "reason": ""}
        if not unapplied.update(attempts=F("attempts") + 1, **marks):
            return
        if delivery.source == Source.TRAINER:
            _take(job, delivery, trainer_events.parse(delivery.content))
        else:
            progress.record(job, _said(delivery), cause="webhook")
        after = Job.objects.values_list("state", flat=True).get(pk=delivery.job_id)
        if after != job.state:
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


def _said(delivery: Delivery) -> Prediction:
    """The prediction as it was delivered. Its log was taken in already; that it had one still tells that it is here."""
    content = dict(delivery.content)
    if delivery.logs_length is not None:
        content["logs"] = ""
    # Through JSON text, so that numbers become exact decimals again.
    return predictions.parse(json.dumps(content))


def _take(job: Job, delivery: Delivery, event: TrainerEvent) -> None:
    """Take over a trainer's word, which is of progress only: whether a job is over the provider says, and is asked.

    The log stays the provider's alone, since it grows by difference; an error goes on the timeline.
    """
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
