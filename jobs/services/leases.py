"""Having a job or a delivery in hand: a short lease on its row, renewed while the work goes on, that a killed worker lets run out."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import Error, connection
from django.utils import timezone

from jobs.models import Job, ResultDelivery

log = structlog.get_logger(__name__)

Leased = Job | ResultDelivery


@contextmanager
def lease(row: Leased) -> Iterator[bool]:
    """Take the row in hand if nobody else has it; yields whether we have.

    A thread of its own renews the lease, since an upload may take longer than the lease. Whoever slept through its
    end (a stopped machine, a database that was away) may no longer have it: what must not happen twice is decided
    by rows, not by the lease.
    """
    span = timedelta(seconds=settings.LEASE_SECONDS)
    now = timezone.now()
    same = type(row).objects.filter(pk=row.pk)
    if not same.unleased(now=now).update(leased_until=now + span):
        yield False
        return
    keeper = _Keeper(row, until=now + span, span=span)
    keeper.start()
    try:
        yield True
    finally:
        keeper.stop()
        same.filter(leased_until=keeper.until).update(leased_until=None)


class _Keeper(threading.Thread):
    """Renews a lease until it is stopped, or until the lease is another worker's. `until` is what we wrote last."""

    def __init__(self, row: Leased, *, until: datetime, span: timedelta) -> None:
        super().__init__(name=f"lease-{row.pk}", daemon=True)
        self.until = until
        self._row = row
        self._job = row.job_id if isinstance(row, Job) else row.job.job_id
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
            is_ours = type(self._row).objects.filter(pk=self._row.pk, leased_until=self.until).update(leased_until=until)
        except Error as error:
            log.warning("lease.not_renewed", job=self._job, reason=str(error))
            connection.close()
            return True  # the database may be back in time
        if not is_ours:
            log.warning("lease.lost", job=self._job)
            return False
        self.until = until
        return True
