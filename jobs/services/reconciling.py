"""Asking about all jobs of one account at once: one list tells which of them changed, and only those are asked about singly.

A list holds no logs. A job's log comes with its webhooks, while somebody watches, now and then, and at its end.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import islice

import structlog
from django.conf import settings
from django.utils import timezone

from accounts.models import Credential, Team
from jobs.models import Job, JobProgress
from jobs.replicate.gateway import Gateway, ReplicateError, Retries, Unauthorized, Unavailable
from jobs.replicate.predictions import Prediction
from jobs.services import accountwatch, ending, polling, provider, strays

log = structlog.get_logger(__name__)

# A failure is noted and tried again later; nobody waits for it in a worker that others need.
ONCE = Retries(attempts=1)
PATIENCE_SECONDS = 10.0
# So few are asked about singly, which is no more calls than a list and brings their logs.
FEW = 2
PAGE = 100
# Of a busy account's list so much is read for each job that it may save a call of, and for runs that are looked for anyway.
JOBS_A_PAGE = 5
MOST_PAGES = 20
# In one cycle; what is left over has its turn in the next.
MOST_ASKED = 50
MOST_LOGS = 10
CLOCK_MARGIN = timedelta(minutes=1)


def reconcile(team: Team, credential: Credential, jobs: Iterable[Job], *, now: datetime | None = None) -> None:
    """Bring these jobs, all with this credential, to the provider's state. Raises nothing: the next cycle tries again."""
    now = now or timezone.now()
    if accountwatch.resting_until(team=team, credential=credential, now=now):
        return
    jobs = [job for job in jobs if job.prediction_id and not job.is_terminal]
    try:
        with provider.gateway(team=team, credential=credential, retries=ONCE, patience_seconds=PATIENCE_SECONDS) as replicate:
            _reconcile(team, credential, jobs, replicate, now=now)
    except ReplicateError as error:
        accountwatch.note_failure(team=team, credential=credential, error=error, now=now)
        if isinstance(error, Unauthorized):
            _lose_overdue(jobs, now=now)
    else:
        accountwatch.note_answer(team=team, credential=credential)


def _reconcile(team: Team, credential: Credential, jobs: list[Job], replicate: Gateway, *, now: datetime) -> None:
    doubtful_since = strays.look_since(team=team, credential=credential, now=now)
    if len(jobs) <= FEW and doubtful_since is None:
        _ask_each(jobs, replicate)
        return
    begins = [job.created_at_provider or job.submitted_at for job in jobs]
    since = min([*begins, *([doubtful_since] if doubtful_since else [])]) - CLOCK_MARGIN
    pages = MOST_PAGES if doubtful_since else min(MOST_PAGES, 1 + len(jobs) // JOBS_A_PAGE)
    listed = list(islice(replicate.predictions(created_after=since), pages * PAGE))
    if len(listed) < pages * PAGE:
        accountwatch.note_list(team=team, credential=credential, now=now)
    strays.note(team, credential, listed, now=now)
    asked = _worth_asking(jobs, {item.id: item for item in listed}, now=now)
    JobProgress.objects.filter(job__in=asked[MOST_ASKED:]).update(polled_at=None)
    _ask_each(asked[:MOST_ASKED], replicate)


def _worth_asking(jobs: list[Job], listed: dict[str, Prediction], *, now: datetime) -> list[Job]:
    """Those that changed or are not in the list, those that somebody watches, and some whose log is due, in this order."""
    changed = [job for job in jobs if _has_changed(job, listed.get(job.prediction_id or ""))]
    same = [job for job in jobs if job not in changed]
    watched = [job for job in same if _is_watched(job, now=now)]
    due = [job for job in same if job not in watched and _is_log_due(job, now=now)]
    # Longest unasked first; every row has a beginning to count from.
    due.sort(key=lambda job: job.progress.asked_at or job.submitted_at)
    return changed + watched + due[:MOST_LOGS]


def _has_changed(job: Job, item: Prediction | None) -> bool:
    return item is None or item.status != job.provider_status or item.is_terminal or item.data_removed or not item.is_known


def _is_watched(job: Job, *, now: datetime) -> bool:
    return job.progress.watched_at is not None and job.progress.watched_at > now - polling.WATCHED_FOR


def _is_log_due(job: Job, *, now: datetime) -> bool:
    return job.progress.asked_at is None or job.progress.asked_at < now - timedelta(seconds=settings.POLL_SECONDS_LOG)


def _ask_each(jobs: list[Job], replicate: Gateway) -> None:
    """Ask about each. One run of which nothing can be read must not stand in the way of the others; what fails twice is the account."""
    has_failed = False
    for job in jobs:
        try:
            polling.ask(job, replicate, cause="poll")
        except Unavailable as error:
            log.warning("poll.failed", team=job.team.slug, job=job.job_id, reason=str(error))
            if has_failed or error.status == 429 or error.trouble is not None or len(jobs) == 1:
                raise
            has_failed = True


def _lose_overdue(jobs: list[Job], *, now: datetime) -> None:
    """With a token that the provider refuses for good nobody learns how a run ended; that it has ended is certain in time."""
    for job in jobs:
        if polling.is_overdue(job, now=now):
            ending.lose(job, cause="poll")
