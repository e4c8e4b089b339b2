"""The price book: which line is in force, and what of it may still change."""

from datetime import datetime

from django.db.models import Exists, OuterRef

from accounts.errors import Refusal
from billing.models import Hold, LedgerLine, PriceLine


class UnknownHardware(Refusal):
    """No price is known, and none is guessed."""


class PriceIsFrozen(Refusal):
    """What was said about the past, or is in force now, stays said."""

    code = "price_is_frozen"
    status = 409


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


def coming(*, after: datetime) -> list[PriceLine]:
    """The prices that are announced, the next one first."""
    return list(PriceLine.objects.filter(effective_from__gt=after).order_by("effective_from", "hardware"))


def is_frozen(line: PriceLine, *, now: datetime) -> bool:
    """Whether the line must stay as it is: its time has come, or money was held or booked by it. The database refuses the latter, too."""
    return line.effective_from <= now or is_used(line)


def is_used(line: PriceLine) -> bool:
    """Whether money was held or booked by this line."""
    of_line = {"price_line": OuterRef("pk")}
    used = Exists(Hold.objects.filter(**of_line)) | Exists(LedgerLine.objects.filter(**of_line))
    return PriceLine.objects.filter(used, pk=line.pk).exists()


def require_changeable(line: PriceLine, *, now: datetime) -> None:
    """Raises PriceIsFrozen for a line that is in force or used."""
    if is_frozen(line, now=now):
        raise PriceIsFrozen(
            f"The price of {line.hardware} from {line.effective_from:%Y-%m-%d} is in force or was used, and stays as it is.",
            hint="A new price is a new line with a later date.",
        )


def require_beginning(*, hardware: str, effective_from: datetime, now: datetime) -> None:
    """Raises PriceIsFrozen for a price that would begin in the past of a hardware that had another one then.

    A hardware without any price so far may have had one all along: nothing was held by another.
    """
    if effective_from < now and PriceLine.objects.in_force(hardware=hardware, on=now).exists():
        raise PriceIsFrozen(
            f"This would change what {hardware} cost in the past.",
            hint="Leave the time empty for a price from now on, or name a later one.",
            field="effective_from",
        )
