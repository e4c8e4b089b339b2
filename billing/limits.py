"""Spend limits and their calendar periods: opening, locking, and saying how a limit stands."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from django.conf import settings
from django.db import transaction

from accounts.models import APIToken, Team, User
from billing.models import Hold, HoldQuerySet, LimitAction, LimitPeriod, LimitScope, SpendAlert, SpendLimit
from billing.periods import bounds
from billing.prices import as_number, dollars

WARNING_PERCENT = 80
ALERT_PERCENTS = (50, 80, 95, 100)
SCOPES = list(LimitScope)


@dataclass(frozen=True)
class LimitStatus:
    """How a limit stands in its current period. Amounts are micro-dollars; `binding` means that it refuses."""

    scope: str
    name: str
    window: str
    action: str
    limit: int
    used: int
    held: int
    left: int
    requested: int
    resets_at: datetime
    binding: bool

    @property
    def is_beyond(self) -> bool:
        """What is asked does not fit. Nothing fits into a limit that is used up."""
        return self.requested > self.left or self.left == 0

    @property
    def after(self) -> int:
        """Used and held once what is asked is held."""
        return self.used + self.held + self.requested

    @property
    def warning(self) -> str:
        """A sentence from 80 % of the limit on, else nothing."""
        if self.after * 100 < self.limit * WARNING_PERCENT:
            return ""
        fact = "Spending limit exceeded" if self.after > self.limit else "Approaching limit"
        which = self.window if self.scope == LimitScope.TEAM else f"{self.window}, {self.scope}"
        return f"{fact}: {dollars(self.after)} / {dollars(self.limit)} ({which})"

    def to_json(self) -> dict[str, object]:
        """Decimal strings in US dollars, each with an exact sibling in micro-dollars."""
        amounts = {"limit": self.limit, "used": self.used, "held": self.held, "left": self.left, "requested": self.requested}
        return {
            "scope": self.scope,
            "name": self.name,
            "window": self.window,
            "action": self.action,
            **{name: f"{as_number(micros):f}" for name, micros in amounts.items()},
            **{f"{name}_micros": micros for name, micros in amounts.items()},
            "resets_at": self.resets_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "binding": self.binding,
        }


def window_of(limit: SpendLimit, now: datetime) -> tuple[datetime, datetime]:
    """The calendar period of a limit at `now`, in its team's zone; the platform's limits go by the server's."""
    if limit.team is None:
        return bounds(limit.period, now, time_zone=settings.TIME_ZONE, first_weekday=0)
    return bounds(limit.period, now, time_zone=limit.team.time_zone, first_weekday=limit.team.first_weekday)


def lock_periods(*, team: Team, user: User | None, token: APIToken | None, now: datetime) -> list[LimitPeriod]:
    """The current periods of all limits that apply, locked in key order, with their limits as they are now.

    Periods that are missing are opened first.
    """
    limits = SpendLimit.objects.applying_to(team=team, user=user, token=token).select_related("team").order_by("pk")
    windows = {limit: window_of(limit, now) for limit in limits}
    open_now = LimitPeriod.objects.filter(limit__in=windows).covering(now)
    keys = {(period.limit_id, period.starts_at, period.ends_at): period.pk for period in open_now}
    wanted = [keys.get((limit.pk, *window)) or _open(limit, *window).pk for limit, window in windows.items()]
    periods = list(LimitPeriod.objects.filter(pk__in=wanted).locked())
    # Read again: what an owner changed while we waited for the locks counts, and must not be undone.
    current = SpendLimit.objects.in_bulk([period.limit_id for period in periods])
    for period in periods:
        period.limit = current[period.limit_id]
        period.follow(period.limit)
    return periods


def _open(limit: SpendLimit, starts_at: datetime, ends_at: datetime) -> LimitPeriod:
    """Open a period with what it has already seen: a limit that is set in mid-month knows the month's spending.

    Of two that open it at once, the second waits for the first and takes its row. The holds are locked
    before any period is, so a settlement finds either the period or a hold that it has to wait for.
    """
    with transaction.atomic():
        period, is_new = LimitPeriod.objects.get_or_create(
            limit=limit, starts_at=starts_at, ends_at=ends_at, defaults={"ceiling": limit.amount, "is_blocking": False}
        )
        if is_new:
            seen = list(_holds_in(limit, starts_at, ends_at).order_by("pk").select_for_update(of=("self",), no_key=True))
            period.holds.add(*seen)
            period.settled, period.held = _settled_and_held(seen)
            period.save(update_fields=["settled", "held"])
    return period


def _holds_in(limit: SpendLimit, starts_at: datetime, ends_at: datetime) -> HoldQuerySet:
    return Hold.objects.counting_against(limit).filter(created_at__gte=starts_at, created_at__lt=ends_at)


def _settled_and_held(holds: Iterable[Hold]) -> tuple[int, int]:
    settled = held = 0
    for hold in holds:
        if hold.charge is None:
            held += hold.amount
        else:
            settled += hold.charge
    return settled, held


def status_of(period: LimitPeriod, *, requested: int) -> LimitStatus:
    """How the period's limit stands towards a request."""
    limit = period.limit
    status = LimitStatus(
        scope=limit.scope,
        name=limit.name,
        window=limit.period,
        action=LimitAction.BLOCK if limit.is_blocking else limit.action,
        limit=period.ceiling,
        used=period.settled,
        held=period.held,
        left=period.left,
        requested=requested,
        resets_at=period.ends_at,
        binding=False,
    )
    return replace(status, binding=limit.is_blocking and status.is_beyond)


def in_order(statuses: Iterable[LimitStatus]) -> list[LimitStatus]:
    """From the platform down to the token, the sooner reset first."""
    return sorted(statuses, key=lambda status: (SCOPES.index(LimitScope(status.scope)), status.resets_at, status.name))


def statuses(*, team: Team, user: User | None, token: APIToken | None, now: datetime) -> list[LimitStatus]:
    """How the enabled limits stand, without a lock and without writing: a period that is not open yet is added up."""
    limits = SpendLimit.objects.applying_to(team=team, user=user, token=token).enabled().select_related("team").order_by("pk")
    windows = {limit: window_of(limit, now) for limit in limits}
    open_now = LimitPeriod.objects.filter(limit__in=windows).covering(now)
    periods = {(period.limit_id, period.starts_at, period.ends_at): period for period in open_now}
    found = []
    for limit, (starts_at, ends_at) in windows.items():
        period = periods.get((limit.pk, starts_at, ends_at))
        if period is None:
            settled, held = _settled_and_held(_holds_in(limit, starts_at, ends_at))
            period = LimitPeriod(starts_at=starts_at, ends_at=ends_at, settled=settled, held=held)
        # As the next hold will find it, whatever was copied before the limit was changed.
        period.limit, period.ceiling = limit, limit.amount
        found.append(status_of(period, requested=0))
    return in_order(found)


def raise_alerts(spent: Iterable[tuple[LimitPeriod, int]], *, now: datetime) -> None:
    """Note each threshold that a period's settled and held money has reached; the unique key keeps it to once."""
    SpendAlert.objects.bulk_create(
        [
            SpendAlert(period=period, threshold_percent=percent, reached_at=now)
            for period, total in spent
            if period.limit.is_enabled and period.ceiling
            for percent in ALERT_PERCENTS
            if total * 100 >= period.ceiling * percent
        ],
        ignore_conflicts=True,
    )
