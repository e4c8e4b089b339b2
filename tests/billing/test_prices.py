from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import prices

rates = st.decimals(min_value=0, max_value=99999, places=9)
seconds = st.decimals(min_value=0, max_value=10**8, places=6)


@given(rate=rates, whole_seconds=st.integers(0, 10**8))
def test_a_worst_case_is_the_least_whole_micro_dollar_that_covers_the_time(rate, whole_seconds):
    exact = Fraction(rate) * whole_seconds * 1_000_000

    worst = prices.worst_case(usd_per_second=rate, seconds=whole_seconds)

    assert worst - 1 < exact <= worst


@given(rate=rates, billed=seconds)
def test_a_charge_is_the_nearest_micro_dollar_and_a_half_goes_to_the_even_one(rate, billed):
    charged = prices.charge(usd_per_second=rate, seconds=billed)

    assert charged == round(Fraction(rate) * Fraction(billed) * 1_000_000)  # round() of a fraction is half-even


@given(rate=rates, ceiling=st.integers(1, 86_400), share=st.decimals(min_value=0, max_value=1, places=4))
def test_time_below_the_ceiling_never_costs_more_than_its_worst_case(rate, ceiling, share):
    worst = prices.worst_case(usd_per_second=rate, seconds=ceiling)

    assert prices.charge(usd_per_second=rate, seconds=ceiling * share) <= worst


def test_a_charge_does_not_depend_on_the_precision_that_the_caller_works_with():
    with localcontext() as context:
        context.prec = 4
        charged = prices.charge(usd_per_second=Decimal("0.000972222"), seconds=Decimal("3600.5"))

    assert charged == 3_500_485


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (4_000_000, "$4.00"),
        (0, "$0.00"),
        (1_234_567_890, "$1,234.57"),
        (10_005_000, "$10.01"),
        (4_200, "$0.0042"),
        (1, "$0.000001"),
        (-1_500_000, "-$1.50"),
    ],
)
def test_dollars_are_written_for_people(micros, text):
    assert prices.dollars(micros) == text


@given(micros=st.integers(-(10**16), 10**16))
def test_a_number_says_the_micro_dollars_exactly(micros):
    assert prices.as_number(micros) * 1_000_000 == micros
    assert f"{prices.as_number(micros):f}".partition(".")[2].__len__() == 6


def test_what_is_below_zero_has_no_price():
    with pytest.raises(ValueError, match="is not a price"):
        prices.worst_case(usd_per_second=Decimal("-0.001"), seconds=10)
    with pytest.raises(ValueError, match="is not a price"):
        prices.charge(usd_per_second=Decimal("0.001"), seconds=Decimal(-1))
