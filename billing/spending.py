"""What a team has spent and set aside in the calendar periods of now, by the holds that also decide its limits."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, Sum

from accounts.models import Team
from billing.models import Hold
from billing.periods import bounds


@dataclass(frozen=True)
class Spending:
    """One period, in micro-dollars; it ends at `ends_at`. Rehearsals are not counted."""

    settled: int
    held: int
    ends_at: datetime

    @property
    def total(self) -> int:
        return self.settled + self.held


def in_period(team: Team, kind: str, *, now: datetime) -> Spending:
    """The team's money in the daily, weekly or monthly period that `now` lies in, in the team's own zone.

    Money belongs to the period in which it was set aside, as it does for the limits.
    """
    starts_at, ends_at = bounds(kind, now, time_zone=team.time_zone, first_weekday=team.first_weekday)
    holds = Hold.objects.filter(team=team, is_rehearsal=False, created_at__gte=starts_at, created_at__lt=ends_at)
    sums = holds.aggregate(settled=Sum("charge"), held=Sum("amount", filter=Q(settled_at=None)))
    return Spending(settled=sums["settled"] or 0, held=sums["held"] or 0, ends_at=ends_at)
