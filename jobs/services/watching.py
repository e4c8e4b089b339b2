"""Noting that somebody looks at a job, so that the poller asks the provider more often."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import Q

from accounts.models import Team
from jobs.models import Job, JobProgress
from jobs.states import LAUNCHED, TERMINAL

NOTED_EVERY = timedelta(seconds=5)


def note(job: Job, *, now: datetime) -> None:
    """Note a look at a job that is not over, at most every few seconds however many people look."""
    if not job.is_terminal:
        JobProgress.objects.filter(Q(watched_at=None) | Q(watched_at__lt=now - NOTED_EVERY), job=job).update(watched_at=now)


def note_each(jobs: Iterable[int], *, now: datetime) -> None:
    """Note a look at jobs, by their keys, in the same rhythm."""
    theirs = JobProgress.objects.filter(job__in=list(jobs)).exclude(job__state__in=TERMINAL)
    theirs.filter(Q(watched_at=None) | Q(watched_at__lt=now - NOTED_EVERY)).update(watched_at=now)


def note_all(team: Team, *, now: datetime) -> None:
    """Note a look at all of a team's jobs that the provider has, in the same rhythm."""
    theirs = JobProgress.objects.filter(job__team=team, job__state__in=LAUNCHED)
    theirs.filter(Q(watched_at=None) | Q(watched_at__lt=now - NOTED_EVERY)).update(watched_at=now)
