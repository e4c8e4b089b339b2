"""The price book: which line is in force."""

from datetime import datetime

from accounts.errors import Refusal
from billing.models import PriceLine


class UnknownHardware(Refusal):
    """No price is known, and none is guessed."""


def line_for(*, hardware: str, on: datetime) -> PriceLine:
    """The price of a hardware at a time. Raises UnknownHardware."""
    line = PriceLine.objects.in_force(hardware=hardware, on=on).first()
    if line is None:
        raise UnknownHardware(
            f"The price book has no price for the hardware {hardware!r}, so a job on it cannot be admitted.",
            hint="Choose other hardware, or ask the platform's staff to add its price in the admin.",
            field="hardware",
            details={"hardware": hardware},
        )
    return line


def in_force(*, on: datetime) -> dict[str, PriceLine]:
    """The prices of all hardware at a time, by hardware."""
    lines = PriceLine.objects.filter(effective_from__lte=on).order_by("hardware", "-effective_from").distinct("hardware")
    return {line.hardware: line for line in lines}
