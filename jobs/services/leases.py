"""Having a job in hand: a short lease on its row, renewed while the work goes on, that a killed worker lets run out."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.utils import timezone

from jobs.models import Job


@contextmanager
def lease(job: Job) -> Iterator[bool]:
    """Take the job in hand if nobody else has it; yields whether we have.

    A thread of its own renews the lease, since an upload may take longer than the lease.
    """
    span = timedelta(seconds=settings.LEASE_SECONDS)
    now = timezone.now()
    if not Job.objects.filter(pk=job.pk).unleased(now=now).update(leased_until=now + span):
        yield False
        return
    done = threading.Event()
    keeper = threading.Thread(target=_renew, args=(job.pk, span, done), name=f"lease-{job.job_id}", daemon=True)
    keeper.start()
    try:
        yield True
    finally:
        done.set()
        keeper.join()
        Job.objects.filter(pk=job.pk).update(leased_until=None)


def _renew(pk: int, span: timedelta, done: threading.Event) -> None:
    try:
        while not done.wait(span.total_seconds() / 3):
            Job.objects.filter(pk=pk).update(leased_until=timezone.now() + span)
    finally:
        connection.close()
