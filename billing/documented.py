"""The cost limit as SimpleTuner's provider settings know it: four values, kept as the team's limit of this name.

Each period has a row of its own, so that its figures stay its own; at most one of them is enabled.
"""

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from accounts.models import Team
from billing import limits
from billing.limits import WARNING_PERCENT
from billing.models import LimitAction, LimitPeriodKind, LimitScope, SpendLimit, SpendLimitQuerySet
from billing.prices import dollars
from billing.spending import Spending, in_period

NAME = "documented"


@dataclass(frozen=True, kw_only=True)
class CostLimit:
    """What a team set, or the defaults. `amount` is micro-dollars; enabled with 0 it blocks everything."""

    is_enabled: bool = False
    amount: int = 0
    period: str = LimitPeriodKind.MONTHLY
    action: str = LimitAction.WARN


def read(team: Team) -> CostLimit:
    """The team's cost limit: the enabled row, else the one that was changed last."""
    row = _rows(team).order_by("-is_enabled", "-updated_at", "-pk").first()
    if row is None:
        return CostLimit()
    return CostLimit(is_enabled=row.is_enabled, amount=row.amount, period=row.period, action=row.action)


def save(team: Team, limit: CostLimit) -> None:
    """Keep the limit for its period and switch those of other periods off; the next hold goes by it."""
    with transaction.atomic():
        # Two who save at once take turns, and the later one stays.
        Team.objects.select_for_update(no_key=True).get(pk=team.pk)
        _rows(team).exclude(period=limit.period).enabled().update(is_enabled=False)
        SpendLimit.objects.put(
            scope=LimitScope.TEAM,
            team=team,
            user=None,
            token=None,
            name=NAME,
            period=limit.period,
            amount=limit.amount,
            action=limit.action,
            is_enabled=limit.is_enabled,
        )


@dataclass(frozen=True)
class Standing:
    """The cost limit beside what its period has seen. `percent` is of the room, 100 of a room of 0 that is on."""

    limit: CostLimit
    spending: Spending
    top_up: int = 0

    @property
    def room(self) -> int:
        """The amount with the period's top-ups."""
        return self.limit.amount + self.top_up

    @property
    def percent(self) -> float:
        if not self.room:
            return 100.0 if self.limit.is_enabled else 0.0
        return round(self.spending.total * 100 / self.room, 2)

    @property
    def is_exceeded(self) -> bool:
        return self.limit.is_enabled and self.spending.total >= self.room

    @property
    def is_warning(self) -> bool:
        return self.limit.is_enabled and self.percent >= WARNING_PERCENT

    @property
    def message(self) -> str:
        """A sentence from 80 % of the limit on, else nothing."""
        if not self.is_warning:
            return ""
        fact = "Spending limit exceeded" if self.is_exceeded else "Approaching limit"
        return f"{fact}: {dollars(self.spending.total)} / {dollars(self.room)} ({self.limit.period})"


def standing(team: Team, *, now: datetime) -> Standing:
    """How the team's cost limit stands in its current period."""
    limit = read(team)
    top_up = sum(status.top_up for status in limits.standing(_rows(team).enabled(), now=now).values())
    return Standing(limit, in_period(team, limit.period, now=now), top_up)


def _rows(team: Team) -> SpendLimitQuerySet:
    return SpendLimit.objects.filter(scope=LimitScope.TEAM, team=team, name=NAME)
