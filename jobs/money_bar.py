"""The money bar: of the limits that refuse, the one with the least left."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from accounts.models import Team, User
from billing import services as billing
from billing.limits import LimitStatus
from billing.models import LimitAction, LimitPeriodKind, LimitScope

TIGHT_PERCENT = 90


@dataclass(frozen=True)
class MoneyBar:
    """The limit that will refuse first, with what its picture needs. Percents are whole and within 0 and 100."""

    limit: LimitStatus

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

    @property
    def window(self) -> str:
        return str(LimitPeriodKind(self.limit.window).label)

    def _percent(self, amount: int) -> int:
        return min(100, amount * 100 // self.limit.limit) if self.limit.limit else 100


def bar_for(*, team: Team, user: User, now: datetime) -> MoneyBar | None:
    """The bar for a person in a team; None where no blocking limit applies."""
    return tightest(billing.statuses(team=team, user=user, now=now))


def tightest(statuses: Iterable[LimitStatus]) -> MoneyBar | None:
    """The bar of those of these limits that refuse."""
    blocking = [status for status in statuses if status.action == LimitAction.BLOCK]
    return MoneyBar(min(blocking, key=lambda status: status.left)) if blocking else None
