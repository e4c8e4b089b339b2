"""Having a job in hand: a short lease on its row, renewed while the work goes on, that a killed worker lets run out."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import Error, connection
from django.utils import timezone

from jobs.models import Job

log = structlog.get_logger(__name__)


@contextmanager
def lease(job: Job) -> Iterator[bool]:
    """Take the job in hand if nobody else has it; yields whether we have.

    A thread of its own renews the lease, since an upload may take longer than the lease. Whoever slept through its
    end (a stopped machine, a database that was away) may no longer have it: what must not happen twice is decided
    by rows, not by the lease.
    """
    span = timedelta(seconds=settings.LEASE_SECONDS)
    now = timezone.now()
    if not Job.objects.filter(pk=job.pk).unleased(now=now).update(leased_until=now + span):
        yield False
        return
    keeper = _Keeper(job, until=now + span, span=span)
    keeper.start()
    try:
        yield True
    finally:
        keeper.stop()
        Job.objects.filter(pk=job.pk, leased_until=keeper.until).update(leased_until=None)


class _Keeper(threading.Thread):
    """Renews a lease until it is stopped, or until the lease is another worker's. `until` is what we wrote last."""

    def __init__(self, job: Job, *, until: datetime, span: timedelta) -> None:
        super().__init__(name=f"lease-{job.job_id}", daemon=True)
        self.until = until
        self._job = job
        self._span = span
        self._done = threading.Event()

    def stop(self) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        try:
            while not self._done.wait(self._span.total_seconds() / 3):
                if not self._renew():
                    return
        finally:
            connection.close()

    def _renew(self) -> bool:
        until = timezone.now() + self._span
        try:
            is_ours = Job.objects.filter(pk=self._job.pk, leased_until=self.until).update(leased_until=until)
        except Error as error:
            log.warning("lease.not_renewed", job=self._job.job_id, reason=str(error))
            connection.close()
            return True  # the database may be back in time
        if not is_ours:
            log.warning("lease.lost", job=self._job.job_id)
            return False
        self.until = until
        return True
