"""Asking the provider how jobs are: polling is the truth, webhooks make it quick."""

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from accounts import audit
from accounts.callers import Caller
from jobs import tasks
from jobs.models import Job, JobProgress
from jobs.replicate.gateway import NotFound, ReplicateError
from jobs.services import ending, progress, provider
from jobs.states import LAUNCHED, TERMINAL

log = structlog.get_logger(__name__)

WATCHED_FOR = timedelta(seconds=15)
GIVE_UP_AFTER = timedelta(hours=1)


def poll_due(*, now: datetime | None = None) -> int:
    """Ring for every job whose turn to be asked about has come; returns how many.

    While somebody watches, or as long as no webhook was heard, a job is polled often; else rarely. A finished
    job is polled until its log is here or the provider has forgotten it.
    """
    now = now or timezone.now()
    often = now - timedelta(seconds=settings.POLL_SECONDS_SILENT)
    rarely = now - timedelta(seconds=settings.POLL_SECONDS)
    unsaved = Q(job__state__in=TERMINAL, job__archived_at=None, job__provider_forgot_at=None)
    of_interest = Q(job__state__in=LAUNCHED) | unsaved
    is_lively = Q(heard_at=None) | Q(watched_at__gt=now - WATCHED_FOR) | unsaved
    due = Q(polled_at=None) | Q(polled_at__lt=rarely) | (is_lively & Q(polled_at__lt=often))
    rung = 0
    for row in (
        JobProgress.objects.filter(of_interest, due).exclude(job__prediction_id=None).order_by(F("polled_at").asc(nulls_first=True))[:200]
    ):
        # Whoever moves the stamp rings, so that two clocks do not ask twice.
        if JobProgress.objects.filter(pk=row.pk, polled_at=row.polled_at).update(polled_at=now):
            tasks.poll_job.delay(job_pk=row.job_id)
            rung += 1
    return rung


def poll_soon(job: Job, *, caller: Caller) -> bool:
    """Ring for one job whether or not its turn has come, and note who asked; False for one that the provider never got."""
    if not job.prediction_id:
        return False
    with transaction.atomic():
        audit.record(
            team=job.team,
            caller=caller,
            event_type="job.polled",
            action=f"Asked the provider about {job.job_id}",
            target_type="job",
            target_id=job.job_id,
        )
        transaction.on_commit(lambda: tasks.poll_job.delay(job_pk=job.pk), robust=True)
    return True


def poll(job: Job, *, cause: str = "poll") -> None:
    """Ask the provider about one job and take over what it says. Raises nothing: the next poll tries again."""
    if not job.prediction_id:
        return
    try:
        with provider.gateway(team=job.team, credential=job.credential) as replicate:
            prediction = replicate.prediction(job.prediction_id)
    except NotFound:
        _missing(job)
    except ReplicateError as error:
        log.warning("poll.failed", team=job.team.slug, job=job.job_id, reason=str(error))
    else:
        progress.record(job, prediction, cause=cause)


def _missing(job: Job) -> None:
    """The provider does not know the run. After its ceiling and an hour that is final; before, it may be a passing fault."""
    now = timezone.now()
    log.error("poll.not_found", team=job.team.slug, job=job.job_id, prediction=job.prediction_id)
    if job.is_terminal:
        Job.objects.filter(pk=job.pk, provider_forgot_at=None).update(provider_forgot_at=now)
    elif job.created_at_provider and now > job.created_at_provider + timedelta(seconds=job.ceiling_seconds) + GIVE_UP_AFTER:
        ending.lose(job, cause="poll")
