"""Spend limits and their calendar periods: opening, locking, and saying how a limit stands."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import reduce
from operator import or_

from django.conf import settings
from django.db import transaction
from django.db.models import Max, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _

from accounts.models import APIToken, Team, User
from billing.models import Hold, HoldQuerySet, LimitAction, LimitPeriod, LimitPeriodKind, LimitScope, SpendLimit, SpendLimitQuerySet, TopUp
from billing.periods import bounds
from billing.prices import as_number, dollars

WARNING_PERCENT = 80
ALERT_PERCENTS = (50, 80, 95, 100)
SCOPES = list(LimitScope)
# A limit as people read it; the window is the word of its period.
TITLES = {
    LimitScope.PLATFORM: _("the platform's %(window)s limit"),
    LimitScope.TEAM: _("the team's %(window)s limit"),
    LimitScope.PERSON: _("the person's %(window)s limit"),
    LimitScope.TOKEN: _("the token's %(window)s limit"),
}


@dataclass(frozen=True)
class LimitStatus:
    """How a limit stands in its current period. Amounts are micro-dollars; `binding` means that it refuses.

    limit + top_up = used + held + left, unless more is used and held than that. `alerted` is the highest threshold (in
    percent) that was noted in the period and is still reached, 0 for none.
    """

    scope: str
    name: str
    window: str
    action: str
    limit: int
    top_up: int
    used: int
    held: int
    left: int
    requested: int
    resets_at: datetime
    binding: bool
    alerted: int = 0

    @property
    def room(self) -> int:
        """The limit with its top-ups."""
        return self.limit + self.top_up

    @property
    def title(self) -> str:
        """The limit in the person's language: "the team's monthly limit"."""
        return str(TITLES[LimitScope(self.scope)]) % {"window": LimitPeriodKind(self.window).label}

    @property
    def is_beyond(self) -> bool:
        """What is asked does not fit. Nothing fits into a limit that is used up."""
        return self.would_pass(self.requested)

    def would_pass(self, amount: int) -> bool:
        """Whether so much (micro-dollars) would go beyond it."""
        return amount > self.left or self.left == 0

    @property
    def after(self) -> int:
        """Used and held once what is asked is held."""
        return self.used + self.held + self.requested

    @property
    def warning(self) -> str:
        """A sentence from 80 % of the limit on, else nothing."""
        if self.after * 100 < self.room * WARNING_PERCENT:
            return ""
        fact = "Spending limit exceeded" if self.after > self.room else "Approaching limit"
        which = self.window if self.scope == LimitScope.TEAM else f"{self.window}, {self.scope}"
        return f"{fact}: {dollars(self.after)} / {dollars(self.room)} ({which})"

    def to_json(self) -> dict[str, object]:
        """Decimal strings in US dollars, each with an exact sibling in micro-dollars."""
        amounts = {
            "limit": self.limit,
            "top_up": self.top_up,
            "used": self.used,
            "held": self.held,
            "left": self.left,
            "requested": self.requested,
        }
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


def lock_periods(limits: SpendLimitQuerySet, *, now: datetime) -> list[LimitPeriod]:
    """The current periods of these limits, locked in key order, with their limits and top-ups as they are now.

    Periods that are missing are opened first.
    """
    periods = lock(open_periods(limits, now=now))
    follow(periods, now=now)
    return periods


def open_periods(limits: SpendLimitQuerySet, *, now: datetime) -> list[int]:
    """The keys of the current periods of these limits. Those that are missing are opened, which locks holds and no period."""
    windows = {limit: window_of(limit, now) for limit in limits.select_related("team").order_by("pk")}
    covering = LimitPeriod.objects.filter(limit__in=windows).covering(now)
    keys = {(period.limit_id, period.starts_at, period.ends_at): period.pk for period in covering}
    return [keys.get((limit.pk, *window)) or _open(limit, *window).pk for limit, window in windows.items()]


def lock(keys: Iterable[int]) -> list[LimitPeriod]:
    """These periods, locked in key order."""
    return list(LimitPeriod.objects.filter(pk__in=keys).locked())


def follow(periods: list[LimitPeriod], *, now: datetime) -> None:
    """Bring locked periods to their limits as they are now, and take top-ups out that have expired."""
    # Read again: what an owner changed while we waited for the locks counts, and must not be undone.
    current = SpendLimit.objects.in_bulk([period.limit_id for period in periods])
    run_out = _take_out_expired(periods, now=now)
    for period in periods:
        period.limit = current[period.limit_id]
        period.follow(period.limit, run_out=run_out.get(period.pk, 0))


def _take_out_expired(periods: Iterable[LimitPeriod], *, now: datetime) -> dict[int, int]:
    """Mark the top-ups that have expired, and say for each period how much that is. One that is out stays out."""
    topped_up = [period.pk for period in periods if period.topped_up]
    if not topped_up:
        return {}
    run_out: dict[int, int] = {}
    expired = TopUp.objects.counted().filter(period__in=topped_up, expires_at__lte=now)
    for top_up in expired:
        run_out[top_up.period_id] = run_out.get(top_up.period_id, 0) + top_up.amount
    if run_out:
        expired.update(taken_out_at=now)
    return run_out


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
        top_up=period.topped_up,
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
    found = SpendLimit.objects.applying_to(team=team, user=user, token=token).enabled()
    return in_order(standing(found, now=now).values())


def standing(found: SpendLimitQuerySet, *, now: datetime) -> dict[SpendLimit, LimitStatus]:
    """How each of these limits stands, in three queries however many they are."""
    windows = {limit: window_of(limit, now) for limit in found.select_related("team", "user", "token").order_by("pk")}
    periods = {(period.limit_id, period.starts_at, period.ends_at): period for period in open_now(windows, now=now)}
    added_up = _added_up({limit: window for limit, window in windows.items() if (limit.pk, *window) not in periods})
    stand = {}
    for limit, (starts_at, ends_at) in windows.items():
        period = periods.get((limit.pk, starts_at, ends_at))
        if period is None:
            settled, held = added_up[limit]
            period = LimitPeriod(starts_at=starts_at, ends_at=ends_at, settled=settled, held=held)
        # As the next hold will find it, whatever was copied before the limit was changed or a top-up expired.
        period.limit, period.ceiling, period.topped_up = limit, limit.amount, getattr(period, "in_force", 0)
        stand[limit] = replace(status_of(period, requested=0), alerted=_alerted(period, getattr(period, "noted", None)))
    return stand


def open_now(limits: Iterable[SpendLimit], *, now: datetime) -> QuerySet[LimitPeriod]:
    """The open periods of these limits with `in_force`, their top-ups of this moment, and `noted`, the highest threshold noted."""
    in_force = TopUp.objects.in_force(now).filter(period=OuterRef("pk")).order_by().values("period").annotate(sum=Sum("amount"))
    return (
        LimitPeriod.objects.filter(limit__in=limits)
        .covering(now)
        .annotate(in_force=Coalesce(Subquery(in_force.values("sum")), 0), noted=Max("alerts__threshold_percent"))
    )


def reached(total: int, room: int) -> list[int]:
    """The thresholds (in percent) that so much money of a room has reached; none of a room of nothing."""
    return [percent for percent in ALERT_PERCENTS if room and total * 100 >= room * percent]


def _alerted(period: LimitPeriod, noted: int | None) -> int:
    return max((percent for percent in reached(period.total, period.room) if percent <= (noted or 0)), default=0)


def _added_up(windows: dict[SpendLimit, tuple[datetime, datetime]]) -> dict[SpendLimit, tuple[int, int]]:
    """What was settled and is held in the windows of limits whose periods nobody has opened."""
    if not windows:
        return {}
    inside = {
        limit: HoldQuerySet.spoken_of_by(limit) & Q(created_at__gte=begin, created_at__lt=end) for limit, (begin, end) in windows.items()
    }
    sums = Hold.objects.filter(reduce(or_, inside.values()), is_rehearsal=False).aggregate(
        **{f"settled_{limit.pk}": Sum("charge", filter=condition) for limit, condition in inside.items()},
        **{f"held_{limit.pk}": Sum("amount", filter=condition & Q(charge=None)) for limit, condition in inside.items()},
    )
    return {limit: (sums[f"settled_{limit.pk}"] or 0, sums[f"held_{limit.pk}"] or 0) for limit in windows}
