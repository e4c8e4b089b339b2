from decimal import Decimal

import pytest

from billing.estimates import likely
from billing.models import PriceLine
from tests.billing.factories import USD

L40S = PriceLine(hardware="gpu-l40s", usd_per_second=Decimal("0.000975"))


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

    assert (estimate.low, estimate.high) == (low * USD, high * USD)


def test_dearer_hardware_scales_the_range_and_the_source_says_so():
    line = PriceLine(hardware="gpu-l40s-2x", usd_per_second=Decimal("0.001950"))

    estimate = likely(price_line=line, model_family="flux", kind="lora", steps=1000)

    assert (estimate.low, estimate.high) == (4 * USD, 8 * USD)
    assert estimate.source == (
        "Typical cost of a LoRA of Flux, 1000 steps on one L40S (30 to 60 min, $2 to $4), scaled to 1000 steps on gpu-l40s-2x."
    )


def test_what_is_not_a_run_has_no_estimate():
    with pytest.raises(ValueError, match="no cost"):
        likely(price_line=L40S, model_family="flux", kind="lora", steps=0)
    with pytest.raises(ValueError, match="Unknown kind"):
        likely(price_line=L40S, model_family="flux", kind="lycoris", steps=100)
