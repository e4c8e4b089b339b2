"""Rates, seconds and micro-dollars. Pure functions: values in, values out."""

from decimal import ROUND_CEILING, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext

MICROS_PER_USD = 1_000_000
CENT = Decimal("0.01")


def worst_case(*, usd_per_second: Decimal, seconds: int) -> int:
    """The most that `seconds` can cost, in micro-dollars, rounded up. Raises ValueError for what is below zero."""
    return _micros(usd_per_second, Decimal(seconds), rounding=ROUND_CEILING)


def charge(*, usd_per_second: Decimal, seconds: Decimal) -> int:
    """What billed seconds cost, in micro-dollars, rounded half to even. Raises ValueError for what is below zero."""
    return _micros(usd_per_second, seconds, rounding=ROUND_HALF_EVEN)


def _micros(usd_per_second: Decimal, seconds: Decimal, *, rounding: str) -> int:
    if usd_per_second < 0 or seconds < 0:
        raise ValueError(f"A rate of {usd_per_second} USD/s for {seconds} s is not a price.")
    with localcontext() as context:
        # Nine decimals of rate, six of seconds and large whole parts: the product must not be rounded before the end.
        context.prec = 60
        return int((usd_per_second * seconds * MICROS_PER_USD).to_integral_value(rounding=rounding))


def as_number(micros: int) -> Decimal:
    """US dollars with six decimals, exactly."""
    return Decimal(micros).scaleb(-6)


def dollars(micros: int) -> str:
    """For people: $1,234.50. Amounts below a cent keep the decimals that they need ($0.0042)."""
    amount = abs(as_number(micros))
    sign = "-" if micros < 0 else ""
    if 0 < amount < CENT:
        return f"{sign}${amount.normalize():f}"
    return f"{sign}${amount.quantize(CENT, rounding=ROUND_HALF_UP):,f}"
