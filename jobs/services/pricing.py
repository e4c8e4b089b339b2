"""What a run costs: at which rate, likely, and at most; and when it is stopped. One answer for form, API and admission."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings

from accounts.errors import InvalidInput
from accounts.models import Team
from billing import pricebook, prices
from billing.estimates import Estimate
from billing.models import PriceLine
from jobs.models import ProviderSettings, Trainer
from jobs.services import experience

# The provider's own bound is higher; ours is a day.
LONGEST_RUN_SECONDS = 86_400
SHORTEST_CEILING_SECONDS = 1_800
SHORTEST_RUN_SECONDS = 60
# Cancelling takes the provider a moment, and that moment is billed.
MARGIN_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Price:
    """The price line that the job is pinned to, its estimate, and the times in seconds by which it ends."""

    line: PriceLine
    estimate: Estimate
    ceiling_seconds: int
    stop_after_seconds: int

    @property
    def worst_case(self) -> int:
        """Micro-dollars: what is held."""
        return worst_case(self.line, ceiling_seconds=self.ceiling_seconds)

    @property
    def warnings(self) -> list[str]:
        """What whoever submits should know of the times."""
        likely, stop = round(self.estimate.high_seconds / 60), self.stop_after_seconds // 60
        if likely <= stop:
            return []
        return [f"It may well take {likely} minutes, and is stopped after {stop}. Allow it more time, or fewer steps."]


def price(
    team: Team,
    *,
    own: ProviderSettings,
    trainer: Trainer,
    config: dict[str, Any],
    steps: int,
    max_seconds: int | None = None,
    stop_after_seconds: int | None = None,
    now: datetime,
) -> Price:
    """Price a run of a normalised config without problems. Raises UnknownHardware, and InvalidInput for times out of bounds."""
    line = pricebook.line_for(hardware=trainer.hardware, on=now)
    estimate = experience.likely(team, trainer=trainer, price_line=line, config=config, steps=steps)
    ceiling = ceiling_for(max_seconds, own, likely_seconds=estimate.high_seconds)
    return Price(line=line, estimate=estimate, ceiling_seconds=ceiling, stop_after_seconds=stop_after(stop_after_seconds, ceiling=ceiling))


def worst_case(line: PriceLine, *, ceiling_seconds: int) -> int:
    """The most that a run with this ceiling can cost, in micro-dollars: what is held for it."""
    return prices.worst_case(usd_per_second=line.usd_per_second, seconds=ceiling_seconds + MARGIN_SECONDS)


def longest(own: ProviderSettings) -> int:
    """Seconds that a job of this team may run: the least of a day, the platform's bound and the team's."""
    bounds = (settings.MAX_RUNTIME_MINUTES, own.max_runtime_minutes)
    return min(LONGEST_RUN_SECONDS, *(minutes * 60 for minutes in bounds if minutes))


def ceiling_for(asked: int | None, own: ProviderSettings, *, likely_seconds: float) -> int:
    """Seconds after which the provider itself ends the run: what was asked, else twice what it likely takes at most.

    Raises InvalidInput for a ceiling out of bounds.
    """
    most = longest(own)
    if asked is None:
        return min(most, max(SHORTEST_CEILING_SECONDS, math.ceil(likely_seconds * 2 / 60) * 60))
    if not SHORTEST_RUN_SECONDS <= asked <= most:
        raise InvalidInput(f"max_seconds must lie between {SHORTEST_RUN_SECONDS} and {most}.", field="max_seconds")
    return asked


def stop_after(asked: int | None, *, ceiling: int) -> int:
    """Seconds after which we stop the run: what was asked, else the ceiling. Raises InvalidInput for what is out of bounds."""
    if asked is None:
        return ceiling
    if not SHORTEST_RUN_SECONDS <= asked <= ceiling:
        raise InvalidInput(
            f"stop_after_seconds must lie between {SHORTEST_RUN_SECONDS} and the job's ceiling, {ceiling}.",
            hint="The ceiling is max_seconds, or else twice what the job likely takes.",
            field="stop_after_seconds",
        )
    return asked
