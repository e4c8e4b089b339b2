import random
from decimal import Decimal

import pytest

from billing.estimates import FEWEST_RUNS, TYPICAL_COSTS, PastRun, lasting, likely
from billing.models import PriceLine
from tests.billing.factories import USD

L40S = PriceLine(hardware="gpu-l40s", usd_per_second=Decimal("0.000975"))
FLUX = {"price_line": L40S, "model_family": "flux", "kind": "lora"}


def runs(*pairs):
    return [PastRun(seconds=seconds, steps=steps) for seconds, steps in pairs]


# --- By the table that ships ------------------------------------------------------------------------------------


def test_the_table_that_ships_is_the_documented_one():
    assert [(row.kind, row.model_family, row.steps, row.is_least, row.duration, row.usd) for row in TYPICAL_COSTS] == [
        ("lora", "flux", 1000, False, "30 to 60 min", (2, 4)),
        ("lora", "flux", 2000, False, "1 to 2 h", (4, 8)),
        ("lora", "sdxl", 2000, False, "45 to 90 min", (3, 6)),
        ("full", "", 5000, True, "4 to 12 h", (15, 50)),
    ]


@pytest.mark.parametrize(
    ("family", "kind", "steps", "low", "high"),
    [
        ("flux", "lora", 1000, 2, 4),
        ("flux", "lora", 2000, 4, 8),
        ("Flux", "lora", 500, 1, 2),
        ("sdxl", "lora", 2000, 3, 6),
        ("sdxl", "full", 5000, 15, 50),
        ("flux", "full", 10_000, 30, 100),
        ("pixart_sigma", "lora", 2000, 4, 8),
    ],
)
def test_a_run_costs_what_the_table_says_scaled_by_its_steps(family, kind, steps, low, high):
    estimate = likely(price_line=L40S, model_family=family, kind=kind, steps=steps)

    assert (estimate.low, estimate.high, estimate.runs) == (low * USD, high * USD, 0)
    assert estimate.high_seconds == pytest.approx(high / 0.000975)


def test_dearer_hardware_scales_the_range_and_the_source_says_so():
    line = PriceLine(hardware="gpu-l40s-2x", usd_per_second=Decimal("0.001950"))

    estimate = likely(price_line=line, model_family="flux", kind="lora", steps=1000)

    assert (estimate.low, estimate.high) == (4 * USD, 8 * USD)
    assert estimate.source == (
        "From the table that ships: LoRA of Flux, 1000 steps, on one L40S (30 to 60 min, $2 to $4), scaled to 1000 steps on gpu-l40s-2x. "
        "From 5 runs like it on, your own count; so far there are none."
    )


def test_too_few_runs_leave_it_to_the_table_which_says_how_many_there_are():
    estimate = likely(**FLUX, steps=1000, runs=runs(*[(600, 1000)] * (FEWEST_RUNS - 1)))

    assert (estimate.low, estimate.runs) == (2 * USD, 0)
    assert estimate.source.endswith("so far there are 4.")


def test_what_is_not_a_run_has_no_estimate():
    with pytest.raises(ValueError, match="no cost"):
        likely(**FLUX, steps=0)
    with pytest.raises(ValueError, match="Unknown kind"):
        likely(price_line=L40S, model_family="flux", kind="lycoris", steps=100)
    with pytest.raises(ValueError, match="Without a run"):
        lasting(price_line=L40S, runs=[])


# --- By own runs ------------------------------------------------------------------------------------------------


def test_enough_runs_make_a_range_of_their_own_and_the_source_counts_them():
    known = runs(*((1000 + 10 * number, 1000) for number in range(12)))

    estimate = likely(**FLUX, steps=1000, runs=known, likeness="on gpu-l40s with the same model")

    assert estimate.low < (1000 * 975) < (1110 * 975) < estimate.high
    assert estimate.low_seconds > 900
    assert estimate.high_seconds < 1250
    assert (estimate.runs, estimate.seconds) == (12, 1055)
    assert estimate.source == "From 12 of your own runs on gpu-l40s with the same model."


def test_runs_of_other_lengths_are_scaled_with_a_start_up_that_stays():
    # Five minutes of start-up and a second a step, exactly.
    known = runs(*((300 + steps, steps) for steps in (500, 600, 800, 1000, 1500, 2000)))

    estimate = likely(**FLUX, steps=4000, runs=known)

    assert estimate.seconds == pytest.approx(4300)
    assert estimate.source == "From 6 of your own runs, scaled to 4000 steps."


def test_runs_of_one_length_are_scaled_with_the_usual_start_up():
    estimate = likely(**FLUX, steps=2000, runs=runs(*[(1120, 1000)] * 5))

    assert estimate.seconds == pytest.approx(2120)


def test_a_range_is_never_below_nothing_and_never_a_point():
    wild = likely(**FLUX, steps=100, runs=runs((60, 100), (80, 100), (5000, 100), (6000, 100), (7000, 100)))
    same = likely(**FLUX, steps=100, runs=runs(*[(600, 100)] * 8))

    assert wild.low > 0
    assert same.low_seconds == pytest.approx(570)
    assert same.high_seconds == pytest.approx(630)


def test_without_steps_the_lengths_of_any_runs_are_the_range_and_few_are_said_to_be_few():
    one = lasting(price_line=L40S, runs=runs((600, 1)), likeness="on gpu-l40s")
    many = lasting(price_line=L40S, runs=runs(*((600 + number, 1) for number in range(20))), likeness="on gpu-l40s")

    assert (one.low_seconds, one.seconds, one.high_seconds, one.high) == (300, 600, 1200, (1200 * 975))
    assert one.source == "From 1 of your own runs on gpu-l40s, whatever they trained. From 5 on, they make a range to rely on."
    assert many.source == "From 20 of your own runs on gpu-l40s, whatever they trained."


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.2, 0.4])
@pytest.mark.parametrize("outliers", [0, 0.05])
def test_on_replayed_histories_the_range_holds_the_real_cost_of_four_jobs_in_five(noise, outliers):
    rng = random.Random(f"{noise} {outliers}")
    held = seen = 0

    # From histories that have only begun to such that are long; each job is estimated from those before it alone.
    for length in (10, 20, 60, 300):
        for _ in range(600 // length):
            past = []
            for _ in range(length):
                steps = rng.choice([500, 1000, 2000, 4000])
                start_up = 240 * rng.lognormvariate(0, 0.3)
                seconds = (start_up + 1.4 * steps) * rng.lognormvariate(0, noise) * (1.8 if rng.random() < outliers else 1)
                if len(past) >= FEWEST_RUNS:
                    estimate = likely(**FLUX, steps=steps, runs=past[-50:])
                    held += estimate.low <= seconds * 975 <= estimate.high
                    seen += 1
                past.append(PastRun(seconds, steps))

    assert seen > 1500
    assert held / seen >= 0.8
