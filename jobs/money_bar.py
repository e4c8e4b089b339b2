"""The money bar: of the limits that refuse, the one with the least left; where none does, of the others."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from accounts.models import Team, User
from billing import services as billing
from billing.limits import LimitStatus
from billing.models import LimitAction, LimitScope

TIGHT_PERCENT = 90


@dataclass(frozen=True)
class MoneyBar:
    """The limit that will refuse first, with what its picture needs. Percents are whole and within 0 and 100.

    `alerts` are the limits of the team and the person of which an alert stands, the highest first.
    """

    limit: LimitStatus
    alerts: tuple[LimitStatus, ...] = ()

    @property
    def used_percent(self) -> int:
        return self._percent(self.limit.used)

    @property
    def held_percent(self) -> int:
        return min(100 - self.used_percent, self._percent(self.limit.held))

    @property
    def is_tight(self) -> bool:
        return self.used_percent + self.held_percent >= TIGHT_PERCENT

    @property
    def is_platform(self) -> bool:
        """Of the platform's limit only what is left is shown: the rest is other teams' spending."""
        return self.limit.scope == LimitScope.PLATFORM

    def _percent(self, amount: int) -> int:
        return min(100, amount * 100 // self.limit.room) if self.limit.room else 100


def bar_for(*, team: Team, user: User, now: datetime) -> MoneyBar | None:
    """The bar for a person in a team; None where no limit applies."""
    statuses = billing.statuses(team=team, user=user, now=now)
    if not statuses:
        return None
    shown = tightest(statuses) or min(statuses, key=lambda status: status.left)
    # Of the platform's limit its own staff are told: the rest of it is other teams' spending.
    alerted = [status for status in statuses if status.alerted and status.scope != LimitScope.PLATFORM]
    return MoneyBar(shown, tuple(sorted(alerted, key=lambda status: -status.alerted)))


def tightest(statuses: Iterable[LimitStatus]) -> LimitStatus | None:
    """Of those of these limits that refuse, the one with the least left."""
    blocking = [status for status in statuses if status.action == LimitAction.BLOCK]
    return min(blocking, key=lambda status: status.left) if blocking else None
