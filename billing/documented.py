"""The cost limit as SimpleTuner's provider settings know it: four values, kept as the team's limit of this name.

Each period has a row of its own, so that its figures stay its own; at most one of them is enabled.
"""

from dataclasses import dataclass

from django.db import transaction

from accounts.models import Team
from billing.models import LimitAction, LimitPeriodKind, LimitScope, SpendLimit, SpendLimitQuerySet

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
        SpendLimit.objects.update_or_create(
            scope=LimitScope.TEAM,
            team=team,
            user=None,
            token=None,
            name=NAME,
            period=limit.period,
            defaults={"amount": limit.amount, "action": limit.action, "is_enabled": limit.is_enabled},
        )


def _rows(team: Team) -> SpendLimitQuerySet:
    return SpendLimit.objects.filter(scope=LimitScope.TEAM, team=team, name=NAME)
