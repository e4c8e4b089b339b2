"""What a training run likely costs: by what runs like it took, or while there are too few of them by a table of typical figures.

Everything here works on figures that it is given; who gathers them knows what runs are alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from statistics import median

from billing.models import PriceLine
from billing.prices import MICROS_PER_USD

# The figures were given for one L40S, at this rate.
L40S_USD_PER_SECOND = Decimal("0.000975")
# With fewer runs than this, the ends of a range would be a guess.
FEWEST_RUNS = 5
# Loading the model and preparing the data takes about this long, however many steps follow.
START_UP_SECONDS = 120.0
# With runs whose steps differ by this factor, their own start-up can be told from their steps.
APART = 1.5
# One in ten runs is below the range, one in ten above.
SHARES = (0.1, 0.9)
# By so much the range is widened at both ends: no two runs are quite alike, and the past is not the future.
MARGIN = 0.05
# Few runs show less than there is: of n, the range reaches 1 + FEW / n times as far from its middle.
FEW = 2.5


@dataclass(frozen=True)
class PastRun:
    """A run that completed: its billed seconds, and the steps that it trained."""

    seconds: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A likely range, p10 to p90, in micro-dollars and in seconds, with what lies in the middle.

    `runs` is how many past runs it rests on, 0 for the table that ships; `source` says so in a sentence.
    """

    low: int
    high: int
    low_seconds: float
    high_seconds: float
    seconds: float
    runs: int = 0
    source: str


@dataclass(frozen=True)
class TypicalCost:
    """One row of the table: a run of `steps` on one L40S, or of more where that is the least (`is_least`)."""

    kind: str
    # Empty: any.
    model_family: str
    steps: int
    label: str
    duration: str
    usd: tuple[int, int]
    is_least: bool = False


# Source: SimpleTuner documentation, guide to cloud training on Replicate, costs.
TYPICAL_COSTS = (
    TypicalCost("lora", "flux", 1000, "LoRA of Flux, 1000 steps", "30 to 60 min", (2, 4)),
    TypicalCost("lora", "flux", 2000, "LoRA of Flux, 2000 steps", "1 to 2 h", (4, 8)),
    TypicalCost("lora", "sdxl", 2000, "LoRA of SDXL, 2000 steps", "45 to 90 min", (3, 6)),
    TypicalCost("full", "", 5000, "full fine-tune, 5000 steps or more", "4 to 12 h", (15, 50), is_least=True),
)


def likely(
    *, price_line: PriceLine, model_family: str, kind: str, steps: int, runs: Sequence[PastRun] = (), likeness: str = ""
) -> Estimate:
    """The range that a run likely costs: by `runs` that were like it if they are enough, else by the table.

    `kind` is "lora" or "full"; `likeness` says in what the runs were like it. Raises ValueError for another kind and for steps below 1.
    """
    if steps < 1:
        raise ValueError(f"A run of {steps} steps has no cost.")
    if len(runs) < FEWEST_RUNS:
        return _typical(price_line, model_family.lower(), kind, steps, known=len(runs))
    scaled = f", scaled to {steps} steps" if any(run.steps != steps for run in runs) else ""
    source = f"From {len(runs)} of your own runs{_blank(likeness)}{scaled}."
    return _ranging(_scaled(runs, steps), price_line, source)


def lasting(*, price_line: PriceLine, runs: Sequence[PastRun], likeness: str = "") -> Estimate:
    """The range of what runs have cost so far, for one of which nobody knows the steps. Raises ValueError without any."""
    if not runs:
        raise ValueError("Without a run there is no range.")
    source = f"From {len(runs)} of your own runs{_blank(likeness)}, whatever they trained."
    if len(runs) < FEWEST_RUNS:
        source = f"{source} From {FEWEST_RUNS} on, they make a range to rely on."
    return _ranging(sorted(run.seconds for run in runs), price_line, source)


def _blank(text: str) -> str:
    return f" {text}" if text else ""


def _ranging(seconds: list[float], price_line: PriceLine, source: str) -> Estimate:
    """The estimate of these durations, the shortest first."""
    low, high = _range(seconds)
    return Estimate(
        low=_cost(low, price_line),
        high=_cost(high, price_line),
        low_seconds=low,
        high_seconds=high,
        seconds=median(seconds),
        runs=len(seconds),
        source=source,
    )


def _range(seconds: Sequence[float]) -> tuple[float, float]:
    """Between which two durations the next run lies in at least four of five cases; of too few runs, half and twice what they took."""
    if len(seconds) < FEWEST_RUNS:
        return seconds[0] / 2, seconds[-1] * 2
    middle, reach = median(seconds), 1 + FEW / len(seconds)
    low, high = (middle + (_quantile(seconds, share) - middle) * reach for share in SHARES)
    return max(low, seconds[0] / 2) * (1 - MARGIN), high * (1 + MARGIN)


def _cost(seconds: float, price_line: PriceLine) -> int:
    cost = Decimal(str(seconds)) * price_line.usd_per_second * MICROS_PER_USD
    return int(cost.to_integral_value(rounding=ROUND_HALF_EVEN))


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which the next run lies with this probability, interpolated between those that are known.

    The next of n + 1 runs lies as likely in any of the gaps between n of them, so that the place is counted in n + 1 parts;
    where it lies beyond the outermost value, the slope there goes on.
    """
    place = share * (len(ordered) + 1) - 1
    left = min(max(math.floor(place), 0), len(ordered) - 2)
    return ordered[left] + (place - left) * (ordered[left + 1] - ordered[left])


def _scaled(runs: Sequence[PastRun], steps: int) -> list[float]:
    """How long each of these runs would have taken with so many steps, the shortest first."""
    start_up, a_step = _fitted(runs)
    expected = start_up + a_step * steps
    return sorted(expected * run.seconds / (start_up + a_step * run.steps) for run in runs)


def _fitted(runs: Sequence[PastRun]) -> tuple[float, float]:
    """The start-up and the time of one step that tell these runs best, each run's error taken relative to its length."""
    shortest = min(run.seconds for run in runs)
    start_up = min(START_UP_SECONDS, shortest / 2)
    if max(run.steps for run in runs) >= APART * min(run.steps for run in runs):
        start_up = min(max(_intercept(runs), 0.0), shortest * 0.9)
    rates = [((run.seconds - start_up) * run.steps / run.seconds**2, (run.steps / run.seconds) ** 2) for run in runs]
    return start_up, sum(over for over, _ in rates) / sum(under for _, under in rates)


def _intercept(runs: Sequence[PastRun]) -> float:
    """Where the line through these runs begins, by least squares of the relative errors."""
    ones = [1 / run.seconds for run in runs]
    slopes = [run.steps / run.seconds for run in runs]
    one_one, slope_slope = sum(one * one for one in ones), sum(slope * slope for slope in slopes)
    one_slope = sum(one * slope for one, slope in zip(ones, slopes, strict=True))
    divisor = one_one * slope_slope - one_slope**2
    # Runs that all lie on one line through zero leave nothing to divide by.
    return (sum(ones) * slope_slope - sum(slopes) * one_slope) / divisor if divisor > 1e-12 * one_one * slope_slope else 0.0


def _typical(price_line: PriceLine, model_family: str, kind: str, steps: int, *, known: int) -> Estimate:
    """The nearest row of the table, scaled by steps and by the rate of the hardware."""
    row = _nearest(kind, model_family, steps)
    factor = MICROS_PER_USD * steps * price_line.usd_per_second / (row.steps * L40S_USD_PER_SECOND)
    low, high = (int((usd * factor).to_integral_value(rounding=ROUND_HALF_EVEN)) for usd in row.usd)
    # Dearer hardware costs more by the second and is not taken to be faster, so the time is that of one L40S.
    shortest, longest = (usd * steps / row.steps / float(L40S_USD_PER_SECOND) for usd in row.usd)
    source = f"From the table that ships: {row.label}, on one L40S ({row.duration}, ${row.usd[0]} to ${row.usd[1]})"
    if steps != row.steps or price_line.usd_per_second != L40S_USD_PER_SECOND:
        source += f", scaled to {steps} steps on {price_line.hardware}"
    source += f". From {FEWEST_RUNS} runs like it on, your own count; so far there {'is' if known == 1 else 'are'} {known or 'none'}."
    return Estimate(low=low, high=high, low_seconds=shortest, high_seconds=longest, seconds=(shortest + longest) / 2, source=source)


def _nearest(kind: str, model_family: str, steps: int) -> TypicalCost:
    """The row of the table for a run; a family that is not in it is taken for the largest that is, Flux."""
    of_kind = [typical for typical in TYPICAL_COSTS if typical.kind == kind]
    if not of_kind:
        raise ValueError(f"Unknown kind of training: {kind!r}.")
    of_family = [typical for typical in of_kind if typical.model_family in (model_family, "")]
    largest = [typical for typical in of_kind if typical.model_family == "flux"]
    return min(of_family or largest, key=lambda typical: abs(typical.steps - steps))
