"""Money set aside and settled: what jobs call, in their own transaction.

Locks are taken in one order everywhere: hold, periods by key, the team's ledger head, the end of its audit trail. A
transaction takes one hold, settles one, adjusts one, or puts one in the place of another.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Greatest, Least

from accounts import audit
from accounts.errors import Conflict, InvalidInput, Refusal
from accounts.models import APIToken, Team, User
from billing import alerts, ledger, limits
from billing.limits import LimitStatus
from billing.models import Hold, LedgerHead, LedgerLine, LimitAction, LimitPeriod, LimitScope, LineKind, PriceLine, SpendLimit
from billing.prices import dollars

log = structlog.get_logger(__name__)

BEYOND = "An adjustment made it cost more than was held."


class LimitReached(Refusal):
    """A blocking limit leaves less than is asked; `details.limits` shows every limit that applies."""

    code = "cost_limit_exceeded"
    status = 402

    def __init__(self, what_for: str, statuses: list[LimitStatus]) -> None:
        tightest = min((status for status in statuses if status.binding), key=lambda status: status.left)
        topped_up = f" plus {dollars(tightest.top_up)} topped up" if tightest.top_up else ""
        whom = "the platform's staff" if tightest.scope == LimitScope.PLATFORM else "an owner"
        super().__init__(
            f"Cost limit exceeded: {what_for} can cost up to {dollars(tightest.requested)}, but the {tightest.scope}'s {tightest.window} "
            f"limit of {dollars(tightest.limit)}{topped_up} has {dollars(tightest.left)} left ({dollars(tightest.used)} used, "
            f"{dollars(tightest.held)} held) until it resets at {tightest.resets_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC.",
            hint=f"Ask for less, wait until running jobs are settled or the limit resets, or ask {whom} for a top-up.",
            details={"limits": [status.to_json() for status in statuses]},
        )


@dataclass(frozen=True)
class Held:
    """A hold that was taken, the limits that it counts against as they stood before it, and what to tell the caller."""

    hold: Hold
    limits: list[LimitStatus]

    @property
    def warnings(self) -> list[str]:
        return [status.warning for status in self.limits if status.warning]

    @property
    def asking(self) -> list[LimitStatus]:
        """The limits beyond which somebody has to approve, and that this passes."""
        return [status for status in self.limits if status.action == LimitAction.REQUIRE_APPROVAL and status.is_beyond]

    @property
    def needs_approval(self) -> bool:
        return bool(self.asking)


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
        applying = SpendLimit.objects.applying_to(team=team, user=user, token=token)
        periods = [] if is_rehearsal else limits.lock_periods(applying, now=now)
        new = Hold(
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
        asked = _decide(new, periods)
        _take_all(new, periods)
    log.info("hold.taken", team=team.slug, reference=reference, amount=amount)
    return Held(hold=new, limits=asked)


def rehold(old: Hold, *, amount: int, price_line: PriceLine, now: datetime) -> Held:
    """Hold what something can cost at most by another price (micro-dollars), in the periods of `now`, in the place of an open hold.

    The old hold is released whole and a new one with its reference is taken, both or neither; the ledger gets the three
    lines of that. A hold that is the same at the same price in the same periods stays, and only the limits are asked again.

    Raises LimitReached, and then the old hold is as it was; ValueError for a hold that is settled.
    """
    if amount < 0:
        raise ValueError(f"{amount} micro-dollars cannot be held.")
    with transaction.atomic():
        # Opened before the hold is locked: whoever opens a period waits for holds.
        applying = SpendLimit.objects.applying_to(team=old.team, user=old.user, token=old.token)
        current = [] if old.is_rehearsal else limits.open_periods(applying, now=now)
        if not Hold.objects.open().select_for_update(of=("self",), no_key=True).filter(pk=old.pk).first():
            raise ValueError(f"The hold for {old.reference} is settled.")
        former = set(old.periods.values_list("pk", flat=True))
        # All that both holds touch at once, since periods are locked in key order.
        periods = {period.pk: period for period in limits.lock({*former, *current})}
        asking = [periods[key] for key in sorted(current)]
        limits.follow(asking, now=now)
        for period in asking:
            period.held -= old.amount if period.pk in former else 0
        new = Hold(
            team=old.team,
            user=old.user,
            token=old.token,
            amount=amount,
            reference=old.reference,
            what_for=old.what_for,
            price_line=price_line,
            is_rehearsal=old.is_rehearsal,
            replaces=old,
            created_at=now,
        )
        asked = _decide(new, asking)
        if (amount, price_line.pk, former) == (old.amount, old.price_line_id, set(current)):
            return Held(hold=old, limits=asked)
        settle(old, charge=0, now=now)
        _take_all(new, asking)
    log.info("hold.replaced", team=old.team.slug, reference=old.reference, before=old.amount, amount=amount)
    return Held(hold=new, limits=asked)


def _decide(new: Hold, periods: list[LimitPeriod]) -> list[LimitStatus]:
    """How the enabled limits stand towards a hold that nobody has taken yet. Raises LimitReached if one of them refuses."""
    asked = limits.in_order(limits.status_of(period, requested=new.amount) for period in periods if period.limit.is_enabled)
    if any(status.binding for status in asked):
        log.warning("hold.refused", team=new.team.slug, reference=new.reference, amount=new.amount)
        raise LimitReached(new.what_for, asked)
    return asked


def _take_all(new: Hold, periods: list[LimitPeriod]) -> None:
    """Write a hold, count it in its periods and put it into the ledger."""
    new.save(force_insert=True)
    for period in periods:
        _take(period, new.amount)
    new.periods.add(*periods)
    alerts.note(periods, now=new.created_at)
    _write(new, LineKind.HOLD, new.amount, at=new.created_at, made_by=new.user)


def _take(period: LimitPeriod, amount: int) -> None:
    """The second wall: the row itself refuses what must not fit, whatever was decided before."""
    fits = Q(is_blocking=False) | Q(ceiling__gte=F("settled") + F("held") + amount - F("topped_up"))
    if not LimitPeriod.objects.filter(fits, pk=period.pk).update(held=F("held") + amount):
        raise RuntimeError(f"Period {period.pk} was decided to have room for {amount} micro-dollars, and has not.")
    period.held += amount


def identify(hold: Hold, *, provider_reference: str, provider_account: str) -> None:
    """Note what the provider calls the work and who pays for it there, so that its invoice finds the hold."""
    Hold.objects.filter(pk=hold.pk).update(provider_reference=provider_reference, provider_account=provider_account)


def settle(hold: Hold, *, charge: int, now: datetime, flag: str = "", billed_seconds: Decimal | None = None) -> bool:
    """Charge a hold and release the rest, once; say whether this call did it.

    `charge` is micro-dollars and is cut to the hold; `billed_seconds` is what it was worked out from, if from that.
    With a `flag` (why somebody must look) it may exceed the hold: what is beyond becomes an adjustment in the ledger
    and an overrun of the limits. The money goes to the periods in which the hold was taken, however late this comes.
    """
    if charge < 0:
        raise ValueError(f"{charge} micro-dollars cannot be charged.")
    charge = charge if flag else min(charge, hold.amount)
    beyond = max(0, charge - hold.amount)
    with transaction.atomic():
        if not Hold.objects.open().filter(pk=hold.pk).update(settled_at=now, charge=charge, flag=flag, billed_seconds=billed_seconds):
            return False
        _shift(hold, released=hold.amount, settled=charge, beyond=beyond, now=now)
        _write(hold, LineKind.CHARGE, charge - beyond, at=now)
        _write(hold, LineKind.RELEASE, hold.amount - (charge - beyond), at=now)
        if beyond:
            _write(hold, LineKind.ADJUST, beyond, at=now, reason=f"Beyond the hold: {flag}")
    hold.refresh_from_db(fields=["settled_at", "charge", "flag", "billed_seconds"])
    log.info("hold.settled", reference=hold.reference, amount=hold.amount, charge=charge, flag=flag)
    return True


def _shift(hold: Hold, *, released: int = 0, settled: int, beyond: int, now: datetime) -> None:
    """Take money of the hold out of held and put some into settled (less than 0: take it out), in each of its periods.

    An overrun grows by what is `beyond` what was held, and by no more; it shrinks with what is released.
    """
    periods = list(hold.periods.locked().select_related("limit"))
    if beyond > 0:
        limits.follow([period for period in periods if period.starts_at <= now < period.ends_at], now=now)
    after = F("settled") + F("held") + (settled - released)
    overrun = Greatest(Value(0), Least(F("overrun") + beyond, after - F("ceiling") - F("topped_up")))
    LimitPeriod.objects.filter(pk__in=[period.pk for period in periods]).update(
        held=F("held") - released,
        settled=F("settled") + settled,
        overrun=Case(When(is_blocking=True, then=overrun), default=Value(0)),
    )
    if beyond:
        for period in periods:
            period.held, period.settled = period.held - released, period.settled + settled
        alerts.note(periods, now=now)


def flag(hold: Hold, *, why: str) -> bool:
    """Have staff look at what a settled hold cost; say whether nobody had been asked before."""
    return bool(Hold.objects.filter(pk=hold.pk, settled_at__isnull=False, flag="").update(flag=why[:200]))


class NothingToAdjust(Conflict):
    """The adjustment would change nothing, or something that is not settled yet."""


def adjust(
    *, hold: Hold | None = None, team: Team | None = None, amount: int, reason: str, by: User | None, address: str = "", now: datetime
) -> LedgerLine:
    """Correct what a settled hold cost, or what a team was charged beside its holds, by a line of its own. Audited.

    `amount` is micro-dollars, and less than 0 gives money back. The hold's charge, its limit periods and the team's total
    follow; beside a hold no limit is asked, since a limit counts holds. For the platform's staff: nobody in a team
    rewrites what the team costs.

    Raises InvalidInput without a reason or where more would be given back than was charged, NothingToAdjust.
    """
    with transaction.atomic():
        if hold is not None:
            locked = locked_hold(hold)
            line = move_charge(locked, amount, reason=reason, by=by, now=now)
            target, before, after = locked.reference, (locked.charge or 0) - amount, locked.charge or 0
        else:
            assert team is not None  # one of the two is given
            line, before, after = _adjust_team(team, amount, reason=reason, by=by, now=now)
            target = team.slug
        audit.record(
            team=line.team,
            event_type="ledger.adjusted",
            action=f"Adjusted what {target} cost by {dollars(amount)}",
            by=by,
            address=address,
            target_type="hold" if hold else "team",
            target_id=target,
            before={"charged": before},
            after={"charged": after},
            reason=reason,
        )
    return line


def locked_hold(hold: Hold) -> Hold:
    """The hold as its row says now, locked until the caller's transaction ends: the first lock that it takes."""
    return Hold.objects.select_for_update(of=("self",), no_key=True).select_related("team", "price_line").get(pk=hold.pk)


def move_charge(hold: Hold, amount: int, *, reason: str, by: User | None, now: datetime) -> LedgerLine:
    """Write the adjustment of a locked hold, and let its charge and its limits follow. Raises as `adjust` does."""
    _check_adjustment(amount, reason)
    if hold.charge is None:
        raise NothingToAdjust(f"{hold.reference} is not settled yet, so that there is no charge to adjust.")
    if hold.charge + amount < 0:
        raise InvalidInput(
            f"{hold.reference} cost {dollars(hold.charge)}; no more than that can be given back.", field="amount"
        )  # fmt: skip
    hold.charge += amount
    if hold.charge > hold.amount and not hold.flag:
        # Whoever adjusts it has looked at it.
        hold.flag, hold.reviewed_at, hold.reviewed_by, hold.review = BEYOND, now, by, reason
    hold.save(update_fields=["charge", "flag", "reviewed_at", "reviewed_by", "review"])
    _shift(hold, settled=amount, beyond=max(0, amount), now=now)
    line = _write(hold, LineKind.ADJUST, amount, at=now, made_by=by, reason=reason)
    log.info("hold.adjusted", team=hold.team.slug, reference=hold.reference, amount=amount, charge=hold.charge, reason=reason)
    return line


def _adjust_team(team: Team, amount: int, *, reason: str, by: User | None, now: datetime) -> tuple[LedgerLine, int, int]:
    """Write an adjustment that belongs to no hold; what the team was charged before and after it."""
    _check_adjustment(amount, reason)
    reference = f"team:{team.slug}"[:64]
    by_id = by.pk if by else None
    line = ledger.append(team=team, kind=LineKind.ADJUST, amount=amount, at=now, reference=reference, reason=reason, made_by_id=by_id)
    after = LedgerHead.objects.get(team=team).charged
    if after < 0:
        raise InvalidInput(f"The team was charged {dollars(after - amount)}; no more than that can be given back.", field="amount")
    log.info("team.adjusted", team=team.slug, amount=amount, reason=reason)
    return line, after - amount, after


def _check_adjustment(amount: int, reason: str) -> None:
    if amount == 0:
        raise NothingToAdjust("An adjustment of $0.00 changes nothing.")
    if not reason.strip():
        raise InvalidInput("An adjustment needs a reason.", field="reason")


def _write(hold: Hold, kind: LineKind, amount: int, *, at: datetime, made_by: User | None = None, **more: Any) -> LedgerLine:
    return ledger.append(
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
