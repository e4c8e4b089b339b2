"""Looking at flagged charges: staff say what is true, and the ledger gets a line that says so. The charge itself stays."""

from datetime import datetime
from decimal import Decimal

import structlog
from django.db import transaction

from accounts import audit
from accounts.errors import Conflict, InvalidInput
from accounts.models import User
from billing import prices, services
from billing.models import Hold
from billing.prices import dollars

log = structlog.get_logger(__name__)


class NothingToReview(Conflict):
    """The hold is not flagged, or somebody has looked at it before."""


def settle_as(
    hold: Hold, *, seconds: Decimal | None = None, amount: int | None = None, reason: str, by: User | None, address: str = "", now: datetime
) -> Hold:
    """Close the review of a flagged charge: it was right, or it is adjusted to what is true. Audited.

    What is true is `seconds` of billed time, priced by the rate that the hold is pinned to, or an `amount` in
    micro-dollars. Who looked, when and why stays in the hold, and so does the flag.

    Raises NothingToReview, InvalidInput for less than nothing or without a reason.
    """
    if (seconds is None) == (amount is None):
        raise InvalidInput("Say either the billed seconds or the amount.", field="seconds")
    if not reason.strip():
        raise InvalidInput("Say why: the reason stays beside the charge.", field="reason")
    if min(seconds or 0, amount or 0) < 0:
        raise InvalidInput("Nothing costs less than $0.00.", field="seconds" if amount is None else "amount")
    with transaction.atomic():
        hold = services.locked_hold(hold)
        if not hold.needs_a_look:
            raise NothingToReview(_why_not(hold))
        before = hold.charge or 0
        true = prices.charge(usd_per_second=hold.price_line.usd_per_second, seconds=seconds) if seconds is not None else amount or 0
        hold.reviewed_at, hold.reviewed_by, hold.review = now, by, reason
        if seconds is not None:
            hold.billed_seconds = seconds
        hold.save(update_fields=["reviewed_at", "reviewed_by", "review", "billed_seconds"])
        if true != before:
            services.move_charge(hold, true - before, reason=reason, by=by, now=now)
        audit.record(
            team=hold.team,
            event_type="hold.reviewed",
            action=f"Settled {hold.reference} as {dollars(true)}",
            by=by,
            address=address,
            target_type="hold",
            target_id=hold.reference,
            before={"charged": before},
            after={"charged": true, "seconds": seconds},
            reason=reason,
        )
    log.info("hold.reviewed", team=hold.team.slug, reference=hold.reference, charge=true, reason=reason)
    return hold


def _why_not(hold: Hold) -> str:
    if hold.settled_at is None:
        return f"{hold.reference} is not settled yet."
    if not hold.flag:
        return f"The charge of {hold.reference} is not flagged; adjust it instead."
    return f"Somebody has looked at {hold.reference} before: {hold.review}"
