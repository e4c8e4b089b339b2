"""What can be trained on, with today's price: the catalogue's trainers beside the price book."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from accounts.models import Team
from billing import pricebook
from billing.models import PriceLine
from jobs.models import Trainer
from jobs.services.provider import settings_of


@dataclass(frozen=True)
class Offer:
    """A trainer with the price line in force; without one, no job on it can be admitted."""

    trainer: Trainer
    price_line: PriceLine

    @property
    def profile(self) -> str:
        return self.trainer.profile

    @property
    def info(self) -> dict[str, Any]:
        """What provider settings and billing say of a hardware. Rates are JSON numbers, in US dollars."""
        return {
            "name": self.trainer.label,
            "hardware_type": self.trainer.hardware_type,
            "gpu_count": self.trainer.gpu_count,
            **rates(self.price_line),
        }


def rates(line: PriceLine) -> dict[str, float]:
    """The rate by the second and by the hour, as SimpleTuner's clients multiply it."""
    return {"cost_per_second": float(line.usd_per_second), "cost_per_hour": float(round(line.usd_per_second * 3600, 6))}


def offers(*, now: datetime) -> list[Offer]:
    """Every trainer on offer that has a price, the default first."""
    lines = pricebook.in_force(on=now)
    trainers = Trainer.objects.filter(is_offered=True).order_by("-is_default", "hardware_type", "gpu_count", "profile")
    return [Offer(trainer, lines[trainer.hardware]) for trainer in trainers if trainer.hardware in lines]


def hardware(*, now: datetime) -> dict[str, dict[str, Any]]:
    """What the price book has, by the provider's name of it, in the form of Offer.info; without a trainer the type is the name."""
    types = dict(Trainer.objects.values_list("hardware", "hardware_type"))
    return {
        sku: {"name": line.name, "hardware_type": types.get(sku, line.name), "gpu_count": line.gpu_count, **rates(line)}
        for sku, line in pricebook.in_force(on=now).items()
    }


def default_profile(team: Team) -> str:
    """The profile of a submission that names none: the team's, else the catalogue's; "" where neither has one."""
    own = settings_of(team).hardware_profile
    return own or Trainer.objects.filter(is_offered=True, is_default=True).values_list("profile", flat=True).first() or ""
