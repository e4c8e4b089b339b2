"""One-off top-ups: more room for one period of one limit, which stays as it is."""

from datetime import UTC, datetime

import structlog
from django.db import transaction

from accounts import audit
from accounts.callers import Caller, Staff
from accounts.errors import Conflict, InvalidInput, NotFound, NotPermitted
from accounts.roles import Right
from billing import ledger, limits
from billing.models import LimitPeriod, LimitScope, LineKind, SpendLimit, SpendLimitQuerySet, TopUp
from billing.prices import dollars

log = structlog.get_logger(__name__)

LONGEST_REASON = 500
MOST = 1_000_000 * 1_000_000


def add(
    by: Caller | Staff, limit: SpendLimit, *, amount: int, reason: str, expires_at: datetime | None = None, key: str = "", now: datetime
) -> TopUp:
    """Make room for `amount` micro-dollars more in the present period of a limit, until `expires_at` or the period's end.

    It leaves a line in the team's ledger and in the audit trail; the platform has no ledger, so a top-up of one of its
    limits stands in the platform's audit trail alone. The same `key` again answers the first top-up.

    Raises NotPermitted, NotFound for another team's limit, InvalidInput, Conflict for a limit that is switched off.
    """
    _require_allowed(by, limit)
    reason = reason.strip()
    if not 0 < amount <= MOST:
        raise InvalidInput(f"A top-up is more than $0.00 and at most {dollars(MOST)}.", field="amount")
    if not 0 < len(reason) <= LONGEST_REASON:
        raise InvalidInput(f"Say in at most {LONGEST_REASON} characters why the limit is topped up.", field="reason")
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("A top-up must expire in the future. Leave it empty for the end of the period.", field="expires_at")
    with transaction.atomic():
        (period,) = limits.lock_periods(SpendLimit.objects.filter(pk=limit.pk), now=now)
        if key and (first := period.top_ups.filter(key=key).first()):
            return first
        _require_fits(period, expires_at)
        top_up = TopUp.objects.create(
            period=period, amount=amount, reason=reason, made_by=by.user, created_at=now, expires_at=expires_at, key=key
        )
        before = period.topped_up
        period.top_up(amount)
        if limit.team is not None:
            ledger.append(
                team=limit.team,
                kind=LineKind.TOP_UP,
                amount=amount,
                at=now,
                reference=f"top-up:{top_up.pk}",
                reason=reason,
                made_by_id=by.user.pk,
            )
        _record(by, top_up, before=before)
    log.info("limit.topped_up", team=limit.team.slug if limit.team else "", limit=limit.pk, amount=amount)
    return top_up


def of_period(limit: SpendLimit, *, now: datetime) -> list[TopUp]:
    """The top-ups of the limit's present period, also those that have expired, as they were made."""
    starts_at, ends_at = limits.window_of(limit, now)
    found = TopUp.objects.filter(period__limit=limit, period__starts_at=starts_at, period__ends_at=ends_at)
    return list(found.select_related("period", "made_by"))


def in_force(found: SpendLimitQuerySet, *, now: datetime) -> list[TopUp]:
    """The top-ups that give room to these limits now."""
    given = TopUp.objects.in_force(now).filter(period__limit__in=found, period__starts_at__lte=now, period__ends_at__gt=now)
    return list(given.select_related("period", "made_by"))


def _require_allowed(by: Caller | Staff, limit: SpendLimit) -> None:
    if isinstance(by, Staff):
        if limit.scope != LimitScope.PLATFORM:
            raise NotPermitted("A team's limit is topped up by the owners of the team.")
        return
    by.require(Right.MANAGE, permission="quota.manage")
    if limit.team_id != by.team.pk:
        raise NotFound("No such limit.")
    if by.token is not None and limit.scope == LimitScope.TOKEN:
        raise NotPermitted("A token cannot change what a token may spend.", hint="Do it on the page of the limit.")


def _require_fits(period: LimitPeriod, expires_at: datetime | None) -> None:
    if not period.limit.is_enabled:
        raise Conflict("The limit is switched off, so that a top-up of it would do nothing.", hint="Switch it on first.")
    if expires_at is not None and expires_at > period.ends_at:
        raise InvalidInput(
            f"A top-up ends with its period at the latest, at {period.ends_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC.", field="expires_at"
        )


def _record(by: Caller | Staff, top_up: TopUp, *, before: int) -> None:
    period, limit = top_up.period, top_up.period.limit
    audit.record(
        team=limit.team,
        event_type="quota.topped_up",
        action=f"Topped the limit {limit.name} up by {dollars(top_up.amount)}",
        caller=by if isinstance(by, Caller) else None,
        by=by.user,
        address=by.address,
        target_type="quota",
        target_id=str(limit.pk),
        before={"topped_up_micros": before},
        after={
            "topped_up_micros": period.topped_up,
            "top_up": top_up.pk,
            "amount_micros": top_up.amount,
            "expires_at": top_up.ends_at.isoformat(),
        },
        reason=top_up.reason,
    )
