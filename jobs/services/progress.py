"""What the provider says of a job, taken into our rows: by webhook, by poll, by search, it is the same."""

from datetime import datetime

import structlog
from django.db import transaction
from django.utils import timezone

from billing import services as billing
from jobs.models import Job, JobProgress, LaunchIntent
from jobs.models.job import IntentOutcome
from jobs.replicate.predictions import Prediction
from jobs.services import ending, logs, news, rescuing, strays
from jobs.states import EventWord, State, WaitingReason

log = structlog.get_logger(__name__)


def record(job: Job, prediction: Prediction, *, cause: str, now: datetime | None = None) -> None:
    """Take over what this says, as far as it is news. Old, doubled and late sayings change nothing.

    The log grows first, then the state moves; a terminal state settles the money in the same transaction.
    """
    now = now or timezone.now()
    with transaction.atomic():
        job = Job.objects.locked(job.pk, "team", "hold", "price_line", "credential")
        if not _is_ours(job, prediction):
            return
        if cause != "webhook":  # which was heard when it came, and may be applied again at any time
            JobProgress.objects.filter(job=job).update(told_at=now)
        log_grew = bool(logs.append(job, prediction.logs))
        _note_words(job, prediction, now=now)
        rescuing.take(job, prediction, now=now)
        _move(job, prediction, cause=cause, now=now)
        news.note(job, prediction, log_grew=log_grew, cause=cause, now=now)


def hear(job: Job, prediction: Prediction, *, now: datetime) -> EventWord:
    """Keep the log that came with a webhook, and nothing else of it: the part that is not stored twice. Returns its event.

    Call it with the job locked.
    """
    if not _is_ours(job, prediction):
        JobProgress.objects.filter(job=job).update(heard_at=now)
        return news.word_of(job, prediction, log_grew=False)
    log_grew = bool(logs.append(job, prediction.logs))
    JobProgress.objects.filter(job=job).update(heard_at=now, told_at=now)
    return news.hear(job, prediction, log_grew=log_grew, now=now)


def _is_ours(job: Job, prediction: Prediction) -> bool:
    """Tie the job to its one prediction at first sight; a job that has one takes no other's news."""
    if job.prediction_id:
        if job.prediction_id != prediction.id:
            log.error("job.foreign_prediction", team=job.team.slug, job=job.job_id, prediction=prediction.id)
            strays.note_one(job, prediction, now=timezone.now())
        return job.prediction_id == prediction.id
    if not LaunchIntent.objects.filter(job=job).exists():
        log.error("job.prediction_without_intent", team=job.team.slug, job=job.job_id, prediction=prediction.id)
        return False
    if job.is_terminal:
        # It would run on unseen and be paid by nobody's leave.
        strays.note_one(job, prediction, now=timezone.now())
        return False
    LaunchIntent.objects.filter(job=job, outcome=IntentOutcome.OPEN).update(outcome=IntentOutcome.CREATED, is_settled=True)
    created = prediction.created_at or timezone.now()
    Job.objects.filter(pk=job.pk).update(prediction_id=prediction.id, created_at_provider=created, waiting_reason=WaitingReason.NONE)
    job.refresh_from_db()
    if job.hold is not None:
        billing.identify(job.hold, provider_reference=prediction.id, provider_account=job.credential.account_username)
    return True


def _note_words(job: Job, prediction: Prediction, *, now: datetime) -> None:
    """Keep the provider's own word; one that we do not know moves nothing and raises an alarm."""
    if not job.is_terminal and prediction.status != job.provider_status:
        Job.objects.filter(pk=job.pk).update(provider_status=prediction.status)
        if not prediction.is_known:
            job.events.create(cause="provider", at=now, detail=f"The provider uses a word that we do not know: {prediction.status}"[:500])
            log.error("job.unknown_status", team=job.team.slug, job=job.job_id, reason=prediction.status)


def _move(job: Job, prediction: Prediction, *, cause: str, now: datetime) -> None:
    if prediction.state is None:
        return
    state = State(prediction.state)
    if state == State.QUEUED:
        job.move_to(State.QUEUED, cause=cause, at=now, queued_at=prediction.created_at or now)
        return
    if job.queued_at is None:
        Job.objects.filter(pk=job.pk).update(queued_at=prediction.created_at or now)
    if state == State.RUNNING:
        job.move_to(State.RUNNING, cause=cause, at=now, started_at=prediction.started_at or now)
        return
    if job.started_at is None and prediction.started_at is not None:
        Job.objects.filter(pk=job.pk).update(started_at=prediction.started_at)
    ending.conclude(job, prediction, state, cause=cause)
