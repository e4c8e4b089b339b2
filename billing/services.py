"""Money set aside and settled: what jobs call, in their own transaction.

Locks are taken in one order everywhere: hold, periods by key, the team's ledger head last. A transaction
takes one hold, or settles one.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Greatest, Least

from accounts.errors import Refusal
from accounts.models import APIToken, Team, User
from billing import ledger, limits
from billing.limits import LimitStatus
from billing.models import Hold, LimitAction, LimitPeriod, LineKind, PriceLine
from billing.prices import dollars

log = structlog.get_logger(__name__)


class LimitReached(Refusal):
    """A blocking limit leaves less than is asked; `details.limits` shows every limit that applies."""

    code = "cost_limit_exceeded"
    status = 402

    def __init__(self, what_for: str, statuses: list[LimitStatus]) -> None:
        tightest = min((status for status in statuses if status.binding), key=lambda status: status.left)
        super().__init__(
            f"Cost limit exceeded: {what_for} can cost up to {dollars(tightest.requested)}, but the {tightest.scope}'s {tightest.window} "
            f"limit of {dollars(tightest.limit)} has {dollars(tightest.left)} left ({dollars(tightest.used)} used, "
            f"{dollars(tightest.held)} held). It resets at {tightest.resets_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC.",
            hint="Ask for less, wait until running jobs are settled or the limit resets, or ask an owner to raise it.",
            details={"limits": [status.to_json() for status in statuses]},
        )


@dataclass(frozen=True)
class Held:
    """A hold that was taken, the limits that it counts against as they stood before it, and what to tell the caller."""

    hold: Hold
    limits: list[LimitStatus]
    warnings: list[str]
    needs_approval: bool


def hold(
    *,
    team: Team,
    amount: int,
    reference: str,
    what_for: str,
    price_line: PriceLine,
    user: User | None,
    token: APIToken | None = None,
    is_rehearsal: bool = False,
    now: datetime,
) -> Held:
    """Set the most that something can cost aside, in the caller's transaction: all limits are asked, or nothing happens.

    `amount` is micro-dollars. A rehearsal gets its hold and lines but is held against no limit.

    Raises LimitReached.
    """
    if amount < 0:
        raise ValueError(f"{amount} micro-dollars cannot be held.")
    with transaction.atomic():
        periods = [] if is_rehearsal else limits.lock_periods(team=team, user=user, token=token, now=now)
        asked = limits.in_order(limits.status_of(period, requested=amount) for period in periods if period.limit.is_enabled)
        if any(status.binding for status in asked):
            log.warning("hold.refused", team=team.slug, reference=reference, amount=amount)
            raise LimitReached(what_for, asked)
        held = Hold.objects.create(
            team=team,
            user=user,
            token=token,
            amount=amount,
            reference=reference,
            what_for=what_for,
            price_line=price_line,
            is_rehearsal=is_rehearsal,
            created_at=now,
        )
        for period in periods:
            _take(period, amount)
        held.periods.add(*periods)
        limits.raise_alerts([(period, period.settled + period.held + amount) for period in periods], now=now)
        _write(held, LineKind.HOLD, amount, at=now, made_by=user)
    log.info("hold.taken", team=team.slug, reference=reference, amount=amount)
    return Held(
        hold=held,
        limits=asked,
        warnings=[status.warning for status in asked if status.warning],
        needs_approval=any(status.action == LimitAction.REQUIRE_APPROVAL and status.is_beyond for status in asked),
    )


def _take(period: LimitPeriod, amount: int) -> None:
    """The second wall: the row itself refuses what must not fit, whatever was decided before."""
    fits = Q(is_blocking=False) | Q(ceiling__gte=F("settled") + F("held") + amount)
    if not LimitPeriod.objects.filter(fits, pk=period.pk).update(held=F("held") + amount):
        raise RuntimeError(f"Period {period.pk} was decided to have room for {amount} micro-dollars, and has not.")


def settle(hold: Hold, *, charge: int, now: datetime, flag: str = "") -> bool:
    """Charge a hold and release the rest, once; say whether this call did it.

    `charge` is micro-dollars and is cut to the hold. With a `flag` (why somebody must look) it may exceed the
    hold: what is beyond becomes an adjustment in the ledger and an overrun of the limits. The money goes to
    the periods in which the hold was taken, however late this comes.
    """
    if charge < 0:
        raise ValueError(f"{charge} micro-dollars cannot be charged.")
    charge = charge if flag else min(charge, hold.amount)
    beyond = max(0, charge - hold.amount)
    with transaction.atomic():
        if not Hold.objects.open().filter(pk=hold.pk).update(settled_at=now, charge=charge, flag=flag):
            return False
        _give_back(hold, charge=charge, beyond=beyond, now=now)
        _write(hold, LineKind.CHARGE, charge - beyond, at=now)
        _write(hold, LineKind.RELEASE, hold.amount - (charge - beyond), at=now)
        if beyond:
            _write(hold, LineKind.ADJUST, beyond, at=now, reason=f"Beyond the hold: {flag}")
    hold.refresh_from_db(fields=["settled_at", "charge", "flag"])
    log.info("hold.settled", reference=hold.reference, amount=hold.amount, charge=charge, flag=flag)
    return True


def _give_back(hold: Hold, *, charge: int, beyond: int, now: datetime) -> None:
    """Move the money of the hold from held to settled in each of its periods."""
    periods = list(hold.periods.locked().select_related("limit"))
    after = F("settled") + F("held") + (charge - hold.amount)
    # An overrun may grow by a flagged charge only, and shrinks with what is released.
    overrun = Greatest(Value(0), Least(F("overrun") + beyond, after - F("ceiling")))
    LimitPeriod.objects.filter(pk__in=[period.pk for period in periods]).update(
        held=F("held") - hold.amount,
        settled=F("settled") + charge,
        overrun=Case(When(is_blocking=True, then=overrun), default=Value(0)),
    )
    if beyond:
        limits.raise_alerts([(period, period.settled + period.held + beyond) for period in periods], now=now)


def _write(hold: Hold, kind: LineKind, amount: int, *, at: datetime, made_by: User | None = None, **more: Any) -> None:
    ledger.append(
        team=hold.team,
        kind=kind,
        amount=amount,
        at=at,
        hold=hold,
        price_line=hold.price_line,
        reference=hold.reference,
        is_rehearsal=hold.is_rehearsal,
        made_by_id=made_by.pk if made_by else None,
        **more,
    )


def statuses(*, team: Team, user: User | None = None, token: APIToken | None = None, now: datetime) -> list[LimitStatus]:
    """How the enabled limits of a team, person and token stand now: for the money bar, the form and the API."""
    return limits.statuses(team=team, user=user, token=token, now=now)
