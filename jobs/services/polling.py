"""Asking the provider how jobs are: polling is the truth, webhooks make it quick.

Whose turn has come is worked out here, and rung for account by account; `reconciling` asks about all jobs of one at once.
"""

from collections import defaultdict
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from accounts import audit
from accounts.callers import Caller
from jobs import tasks
from jobs.models import AccountWatch, Job, JobProgress
from jobs.replicate.gateway import Gateway, NotFound, ReplicateError
from jobs.services import accountwatch, ending, progress, provider
from jobs.states import LAUNCHED

log = structlog.get_logger(__name__)

WATCHED_FOR = timedelta(seconds=15)
# Whoever had webhooks and has none any more is silent, too.
SILENT_AFTER = timedelta(minutes=5)
GIVE_UP_AFTER = timedelta(hours=1)
MOST_AT_ONCE = 2000


def poll_due(*, now: datetime | None = None) -> int:
    """Ring for every account with jobs whose turn to be asked about has come; returns for how many jobs.

    While somebody watches, or when no webhook was heard for a while, a job's turn comes often; else rarely. A job that has
    ended is no longer asked about here: what it left is rescued by `results`.
    """
    now = now or timezone.now()
    accounts: dict[tuple[int, int], list[int]] = defaultdict(list)
    with transaction.atomic():
        # Whoever moves the stamp rings, so that two clocks do not ask twice.
        rows = list(_due(now).select_for_update(of=("self",), skip_locked=True, no_key=True)[:MOST_AT_ONCE])
        JobProgress.objects.filter(pk__in=[row.pk for row in rows]).update(polled_at=now)
    for row in rows:
        accounts[row.job.team_id, row.job.credential_id].append(row.job_id)
    for (team_pk, credential_pk), job_pks in accounts.items():
        tasks.reconcile.delay(team_pk=team_pk, credential_pk=credential_pk, job_pks=job_pks)
    return len(rows)


def _due(now: datetime) -> QuerySet[JobProgress]:
    often = now - timedelta(seconds=settings.POLL_SECONDS_SILENT)
    rarely = now - timedelta(seconds=settings.POLL_SECONDS)
    is_silent = Q(heard_at=None) | Q(heard_at__lt=now - SILENT_AFTER)
    is_lively = is_silent | Q(watched_at__gt=now - WATCHED_FOR)
    due = Q(polled_at=None) | Q(polled_at__lt=rarely) | (is_lively & Q(polled_at__lt=often))
    resting = AccountWatch.objects.filter(team=OuterRef("job__team"), credential=OuterRef("job__credential"), try_after__gt=now)
    found = JobProgress.objects.filter(due, ~Exists(resting), job__state__in=LAUNCHED).exclude(job__prediction_id=None)
    return found.select_related("job").order_by(F("polled_at").asc(nulls_first=True))


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
    now = timezone.now()
    try:
        with provider.gateway(team=job.team, credential=job.credential) as replicate:
            ask(job, replicate, cause=cause)
    except ReplicateError as error:
        log.warning("poll.failed", team=job.team.slug, job=job.job_id, reason=str(error))
        accountwatch.note_failure(team=job.team, credential=job.credential, error=error, now=now)
    else:
        accountwatch.note_answer(team=job.team, credential=job.credential)


def ask(job: Job, replicate: Gateway, *, cause: str) -> None:
    """Ask about one job alone, which brings its log as well. Raises what the gateway raises, but for NotFound."""
    assert job.prediction_id is not None
    now = timezone.now()
    JobProgress.objects.filter(job=job).update(asked_at=now)
    try:
        prediction = replicate.prediction(job.prediction_id)
    except NotFound:
        _missing(job, now=now)
        return
    progress.record(job, prediction, cause=cause)
    if not prediction.is_known and is_overdue(job, now=now):
        # Whatever that word means, the run is over by now, and its hold is not kept for ever.
        ending.lose(job, cause=cause)


def is_overdue(job: Job, *, now: datetime) -> bool:
    """Whether the run must have ended by itself, and its data is gone: its ceiling and an hour are over."""
    created = job.created_at_provider
    return not job.is_terminal and created is not None and now > created + timedelta(seconds=job.ceiling_seconds) + GIVE_UP_AFTER


def _missing(job: Job, *, now: datetime) -> None:
    """The provider does not know the run. After its ceiling and an hour that is final; before, it may be a passing fault."""
    log.error("poll.not_found", team=job.team.slug, job=job.job_id, prediction=job.prediction_id)
    if job.is_terminal:
        Job.objects.filter(pk=job.pk, provider_forgot_at=None).update(provider_forgot_at=now)
    elif is_overdue(job, now=now):
        ending.lose(job, cause="poll")
