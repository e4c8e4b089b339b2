"""What a training run likely costs, from the typical figures that SimpleTuner's users are told."""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from billing.models import PriceLine
from billing.prices import MICROS_PER_USD

# The figures were given for one L40S, at this rate.
L40S_USD_PER_SECOND = Decimal("0.000975")


@dataclass(frozen=True)
class Estimate:
    """A likely range in micro-dollars, and a sentence that says what it rests on."""

    low: int
    high: int
    source: str


@dataclass(frozen=True)
class TypicalCost:
    """One row of the table: a run of `steps` on one L40S."""

    kind: str
    # Empty: any.
    model_family: str
    steps: int
    label: str
    duration: str
    usd: tuple[int, int]


# Source: SimpleTuner documentation, guide to cloud training on Replicate, costs.
TYPICAL_COSTS = (
    TypicalCost("lora", "flux", 1000, "LoRA of Flux, 1000 steps", "30 to 60 min", (2, 4)),
    TypicalCost("lora", "flux", 2000, "LoRA of Flux, 2000 steps", "1 to 2 h", (4, 8)),
    TypicalCost("lora", "sdxl", 2000, "LoRA of SDXL, 2000 steps", "45 to 90 min", (3, 6)),
    TypicalCost("full", "", 5000, "full fine-tune, 5000 steps or more", "4 to 12 h", (15, 50)),
)


def likely(*, price_line: PriceLine, model_family: str, kind: str, steps: int) -> Estimate:
    """The range that a run likely costs: the nearest typical run, scaled by steps and by the rate of the hardware.

    `kind` is "lora" or "full"; a family that is not in the table is taken for the largest that is, Flux.
    Raises ValueError for another kind and for steps below 1.
    """
    if steps < 1:
        raise ValueError(f"A run of {steps} steps has no cost.")
    typical = _nearest(kind, model_family.lower(), steps)
    factor = MICROS_PER_USD * steps * price_line.usd_per_second / (typical.steps * L40S_USD_PER_SECOND)
    low, high = (int((usd * factor).to_integral_value(rounding=ROUND_HALF_EVEN)) for usd in typical.usd)
    source = f"Typical cost of a {typical.label} on one L40S ({typical.duration}, ${typical.usd[0]} to ${typical.usd[1]})"
    if steps != typical.steps or price_line.usd_per_second != L40S_USD_PER_SECOND:
        source += f", scaled to {steps} steps on {price_line.hardware}"
    return Estimate(low=low, high=high, source=f"{source}.")


def _nearest(kind: str, model_family: str, steps: int) -> TypicalCost:
    of_kind = [typical for typical in TYPICAL_COSTS if typical.kind == kind]
    if not of_kind:
        raise ValueError(f"Unknown kind of training: {kind!r}.")
    of_family = [typical for typical in of_kind if typical.model_family in (model_family, "")]
    largest = [typical for typical in of_kind if typical.model_family == "flux"]
    return min(of_family or largest, key=lambda typical: abs(typical.steps - steps))
