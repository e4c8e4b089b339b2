"""Spend alerts: noted in the transaction of the money that reaches a threshold, told by mail once, shown while they are true."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Max
from django.urls import reverse

from accounts import audit, letters, members
from accounts.callers import Caller, Staff
from accounts.errors import Refusal
from accounts.models import Letter, User
from accounts.roles import Right
from billing import limits, tasks
from billing.models import LimitPeriod, LimitScope, SpendAlert, SpendLimit, SpendLimitQuerySet, TopUp

log = structlog.get_logger(__name__)

MAIL = "spend_alert"
AT_ONCE = 200
TRIAL_EVERY = timedelta(minutes=1)


class TriedLately(Refusal):
    """A trial alert of this limit was sent a moment ago."""

    code = "rate_limited"
    status = 429


@dataclass(frozen=True)
class Shown:
    """An alert and its proof: `sent` of its mails went out, the last at `sent_at`. `stands` while its threshold is still reached."""

    alert: SpendAlert
    sent: int
    sent_at: datetime | None
    stands: bool

    @property
    def limit(self) -> SpendLimit:
        return self.alert.period.limit


@dataclass(frozen=True)
class Trial:
    """The latest trial of a limit's alerts: when it was asked for, and how many of its mails were sent."""

    asked_at: datetime
    recipients: int
    sent: int
    sent_at: datetime | None


def note(periods: Iterable[LimitPeriod], *, now: datetime) -> None:
    """Note each threshold that these periods have reached for the first time, and ring the bell that tells of it.

    The caller has locked the periods, they follow their limits, and their figures are those that will be committed.
    """
    due = {
        (period.pk, percent): period
        for period in periods
        if period.limit.is_enabled
        for percent in limits.reached(period.total, period.room)
    }
    if not due:
        return
    known = SpendAlert.objects.filter(period__in=due.values()).values_list("period_id", "threshold_percent")
    for noted in known:
        due.pop(noted, None)
    if due:
        SpendAlert.objects.bulk_create(
            [
                SpendAlert(period=period, threshold_percent=percent, total=period.total, room=period.room, reached_at=now)
                for (_, percent), period in due.items()
            ],
            ignore_conflicts=True,
        )
        transaction.on_commit(lambda: tasks.watch_limits.delay(), robust=True)


def look_again(*, now: datetime) -> None:
    """Note what no hold has noted: thresholds reached since a limit was lowered or a top-up expired. The latter is taken out.

    Nobody's figures depend on it: whoever locks a period next does the same.
    """
    used = limits.open_now(SpendLimit.objects.enabled(), now=now).filter(settled__gte=F("limit__amount") / 2 - F("held"))
    due = {period.limit_id for period in used.select_related("limit") if _is_due(period)}
    expired = TopUp.objects.counted().filter(expires_at__lte=now, period__ends_at__gt=now)
    due |= set(expired.values_list("period__limit_id", flat=True))
    for limit_id in sorted(due):
        with transaction.atomic():
            note(limits.lock_periods(SpendLimit.objects.filter(pk=limit_id), now=now), now=now)


def _is_due(period: Any) -> bool:
    """Whether a threshold is reached that was not noted."""
    return max(limits.reached(period.total, period.limit.amount + period.in_force), default=0) > (period.noted or 0)


def tell_waiting(*, now: datetime) -> int:
    """Write the mails for alerts that nobody was told of, and say for how many holds. Those of one hold are one mail, the highest named."""
    waiting = SpendAlert.objects.filter(told_at=None).order_by("reached_at", "period").values_list("period_id", "reached_at").distinct()
    return sum(_tell(period_id, reached_at, now=now) for period_id, reached_at in waiting[:AT_ONCE])


def _tell(period_id: int, reached_at: datetime, *, now: datetime) -> bool:
    """Tell of the thresholds that were reached in one moment, unless somebody else does; mails and mark commit together."""
    with transaction.atomic():
        untold = SpendAlert.objects.filter(period=period_id, reached_at=reached_at, told_at=None).order_by("threshold_percent")
        locked = untold.select_for_update(of=("self",), no_key=True).select_related("period__limit__team", "period__limit__user")
        alerts = list(locked)
        if not alerts:
            return False
        limit, highest = alerts[-1].period.limit, alerts[-1]
        written = letters.write(event=MAIL, to=recipients(limit), team=limit.team, facts=_facts(highest))
        for alert in alerts:
            alert.letters.set(written)
        SpendAlert.objects.filter(pk__in=[alert.pk for alert in alerts]).update(told_at=now, recipients=len(written))
    log.info("spend_alert.told", limit=limit.pk, percent=highest.threshold_percent, recipients=len(written))
    return True


def recipients(limit: SpendLimit) -> list[User]:
    """Whom a limit's alerts go to: the team's owners, and the person whose limit it is; of the platform's limits the staff."""
    if limit.team is None:
        return list(User.objects.filter(is_staff=True, is_active=True).order_by("username"))
    found = members.owners(limit.team)
    person = limit.user
    if person and person not in found and person.is_active and limit.team.memberships.filter(user=person).exists():
        found.append(person)
    return found


def send_trial(by: Caller | Staff, limit: SpendLimit, *, site: str = "", now: datetime) -> int:
    """Send a mail that says it is a trial on the way that alerts go, and say to how many people.

    Raises NotPermitted, TriedLately.
    """
    if isinstance(by, Caller):
        by.require(Right.MANAGE)
    with transaction.atomic():
        SpendLimit.objects.select_for_update(no_key=True).get(pk=limit.pk)
        if _trials(limit).filter(written_at__gt=now - TRIAL_EVERY).exists():
            raise TriedLately("A trial alert of this limit was sent less than a minute ago. Look at what became of it, then try again.")
        status = limits.standing(SpendLimit.objects.filter(pk=limit.pk), now=now)[limit]
        period = LimitPeriod(limit=limit, settled=status.used, held=status.held, ceiling=status.limit, topped_up=status.top_up)
        period.ends_at = status.resets_at
        trial = SpendAlert(period=period, threshold_percent=80, total=period.total, room=period.room, reached_at=now)
        facts = _facts(trial, site=site) | {"trial": limit.pk}
        written = letters.write(event=MAIL, to=recipients(limit), team=limit.team, facts=facts, now=now)
        audit.record(
            team=limit.team,
            event_type="spend_alert.tried",
            action=f"Sent a trial alert of the limit {limit.name} to {len(written)} people",
            caller=by if isinstance(by, Caller) else None,
            by=by.user,
            address=by.address,
            target_type="quota",
            target_id=str(limit.pk),
        )
    return len(written)


def latest_trial(limit: SpendLimit) -> Trial | None:
    """What became of the trial that was asked for last."""
    latest = _trials(limit).order_by("-written_at").first()
    if latest is None:
        return None
    together = _trials(limit).filter(written_at=latest.written_at)
    found = together.aggregate(recipients=Count("pk"), sent=Count("sent_at"), sent_at=Max("sent_at"))
    return Trial(asked_at=latest.written_at, **found)


def shown(found: SpendLimitQuerySet, *, now: datetime) -> list[Shown]:
    """The alerts of the present periods of these limits, the newest first."""
    stand = limits.standing(found.enabled(), now=now)
    alerts = (
        SpendAlert.objects.filter(period__limit__in=stand, period__starts_at__lte=now, period__ends_at__gt=now)
        .select_related("period__limit__user", "period__limit__token", "period__limit__team")
        .annotate(sent=Count("letters__sent_at"), last_sent_at=Max("letters__sent_at"))
        .order_by("-reached_at", "-threshold_percent")
    )
    return [
        Shown(
            alert=alert,
            sent=alert.sent,
            sent_at=alert.last_sent_at,
            stands=alert.threshold_percent <= stand[alert.period.limit].alerted,
        )
        for alert in alerts
    ]


def _trials(limit: SpendLimit) -> Any:
    return Letter.objects.filter(event=MAIL, team=limit.team, facts__trial=limit.pk)


def _facts(alert: SpendAlert, *, site: str = "") -> dict[str, Any]:
    """What the mail says, as it was when the threshold was reached; amounts in micro-dollars."""
    period, limit = alert.period, alert.period.limit
    base = site or settings.PUBLIC_URL
    address = reverse("billing:limit", args=[limit.team.slug, limit.pk]) if limit.team else reverse("admin:billing_spendlimit_changelist")
    whose = {LimitScope.PERSON: str(limit.user or ""), LimitScope.TOKEN: str(limit.token or "")}
    return {
        "percent": alert.threshold_percent,
        "scope": limit.scope,
        "whose": whose.get(LimitScope(limit.scope), ""),
        "team": limit.team.name if limit.team else "",
        "name": limit.name,
        "window": limit.period,
        "action": "block" if limit.is_blocking else limit.action,
        "total": alert.total,
        "room": alert.room,
        "reached_at": alert.reached_at.isoformat(),
        "resets_at": period.ends_at.isoformat(),
        "time_zone": limit.team.time_zone if limit.team else settings.TIME_ZONE,
        "link": base + address if base else "",
    }
