"""What happened to all jobs, in the order of the rows that say so: none left out, none told twice.

Numbers are given out before transactions commit, so that a row may appear behind one with a higher number. A gap is therefore
waited for until every transaction that could fill it is over.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from django.db import connection
from django.db.models import Max, OuterRef, QuerySet, Subquery

from accounts.models import Team
from jobs.models import JobEvent

# How far before its beginning a log looks for rows that were not there yet.
LOOK_BACK = 200
ROWS_AT_ONCE = 500


@dataclass(frozen=True)
class Gap:
    """Numbers up to `top` of which some are missing. `xmax`: all transactions that may bring them began before this one."""

    top: int
    xmax: int | None = None


class EventLog:
    """Reads on from one step to the next. `told` is the number up to which everything has been told."""

    def __init__(self) -> None:
        self.told = 0
        self._begins_at: int | None = None
        self._old: set[int] = set()
        self._gap: Gap | None = None

    @property
    def is_ready(self) -> bool:
        """Whether everything is told that was there when the log began."""
        return self._begins_at is not None and self.told >= self._begins_at

    def step(self) -> list[JobEvent]:
        """The new events, in order, since the log began."""
        if self._begins_at is None:
            self._begin()
        # In this order: whoever was over before the rows are read is in them.
        xmin, _ = _snapshot()
        rows = list(with_jobs(JobEvent.objects.filter(pk__gt=self.told)).order_by("pk")[:ROWS_AT_ONCE])
        settled = self._gap.top if self._gap and self._gap.xmax is not None and xmin >= self._gap.xmax else 0
        taken = self._take(rows, settled)
        rest = rows[len(taken) :]
        if settled and (rest or len(rows) < ROWS_AT_ONCE):
            self.told, self._gap = max(self.told, settled), None
        if rest:
            self._wait_for(rest[-1].pk)
        elif not settled:
            self._gap = None
        new = [row for row in taken if row.pk not in self._old]
        if self.is_ready:
            self._old = set()
        return new

    def _begin(self) -> None:
        self._begins_at = JobEvent.objects.aggregate(last=Max("pk"))["last"] or 0
        self.told = max(0, self._begins_at - LOOK_BACK)
        self._old = set(JobEvent.objects.filter(pk__gt=self.told, pk__lte=self._begins_at).values_list("pk", flat=True))

    def _take(self, rows: Iterable[JobEvent], settled: int) -> list[JobEvent]:
        """The rows up to the first gap that may yet be filled."""
        taken = []
        for row in rows:
            if row.pk != self.told + 1 and row.pk > settled:
                break
            self.told = row.pk
            taken.append(row)
        return taken

    def _wait_for(self, top: int) -> None:
        """Note a gap, and at the next step who may fill it: by then whoever has one of its numbers has begun to write."""
        if self._gap is None:
            self._gap = Gap(top)
        elif self._gap.xmax is None:
            self._gap = replace(self._gap, xmax=_snapshot()[1])


def with_jobs(events: "QuerySet[JobEvent]") -> "QuerySet[JobEvent]":
    """Events with what is told of their jobs, and the state before (`old_state`)."""
    earlier = JobEvent.objects.filter(job=OuterRef("job"), pk__lt=OuterRef("pk")).exclude(state="").order_by("-pk")
    return events.select_related("job__team", "job__hold", "job__price_line").annotate(old_state=Subquery(earlier.values("state")[:1]))


def of_team(team: Team) -> "QuerySet[JobEvent]":
    """What happened to a team's jobs."""
    return with_jobs(JobEvent.objects.filter(job__team=team, job__deleted_at=None))


# Writers in this database alone: a snapshot's own xmin would wait for those of every database on the server.
WRITERS = """
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
       ARRAY(SELECT backend_xid::text::bigint FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL)
"""


def _snapshot() -> tuple[int, int]:
    """Before which transaction all of this database's are over, and from which on none had begun."""
    with connection.cursor() as cursor:
        cursor.execute(WRITERS)
        xmax, writers = cursor.fetchone()
    return min([xmax, *(_in_full(xid, xmax) for xid in writers)]), xmax


def _in_full(xid: int, xmax: int) -> int:
    """The number of a transaction that has begun before `xmax`; only its last 32 bits are shown. Of a later one, `xmax` or more."""
    return xmax + ((xid - xmax + 2**31) % 2**32) - 2**31
