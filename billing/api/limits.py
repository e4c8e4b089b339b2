"""How a team's spend limits stand, and topping one up. These paths are our own: SimpleTuner has none for it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import moments
from accounts.api import caller_in, fields_of
from accounts.api.reading import text
from accounts.callers import Caller
from accounts.errors import InvalidInput, NotFound
from accounts.permissions import needs
from accounts.roles import Right
from billing import alerts, limits, top_ups
from billing.alerts import Shown
from billing.models import SpendLimit, TopUp
from billing.prices import MICROS_PER_USD, as_number

# Room enough for any amount that is allowed, so that a long text is not worked through.
LONGEST_AMOUNT = 20


class Limits(APIView):
    permission_classes = [needs(Right.SPEND, permission="quota.view")]

    def get(self, request: Request) -> Response:
        """The limits of the team, its people and its tokens that are in force: limit + top_up = used + held + left."""
        now = timezone.now()
        found = SpendLimit.objects.filter(team=caller_in(request).team).enabled()
        noted = alerts.shown(found, now=now)
        given = top_ups.in_force(found, now=now)
        stand = limits.standing(found, now=now)
        return Response({"limits": [_limit(limit, status.to_json(), given, noted) for limit, status in stand.items()]})


class TopUps(APIView):
    def get_permissions(self) -> list[Any]:
        if self.request.method == "POST":
            return [needs(Right.MANAGE, permission="quota.manage")()]
        return [needs(Right.SPEND, permission="quota.view")()]

    def get(self, request: Request, limit_id: str) -> Response:
        """The top-ups of the limit's present period, also those that have expired."""
        now = timezone.now()
        limit = _find(caller_in(request), limit_id)
        return Response({"top_ups": [_top_up(each, now=now) for each in top_ups.of_period(limit, now=now)]})

    def post(self, request: Request, limit_id: str) -> Response:
        """Make more room for the present period: `amount` (US dollars), `reason`, and `expires_at` where it ends before the period.

        The limit itself stays. `idempotency_key` (or the header Idempotency-Key) makes a repeat answer the first top-up.
        """
        caller, now = caller_in(request), timezone.now()
        limit = _find(caller, limit_id)
        given = fields_of(request)
        made = top_ups.add(
            caller,
            limit,
            amount=_amount(given),
            reason=text(given, "reason", least=1, most=top_ups.LONGEST_REASON),
            expires_at=_moment(given, "expires_at"),
            key=text(given, "idempotency_key", most=100) or request.headers.get("Idempotency-Key", "").strip()[:100],
            now=now,
        )
        status = limits.standing(SpendLimit.objects.filter(pk=limit.pk), now=now)[limit]
        return Response({"top_up": _top_up(made, now=now), "limit": {"id": limit.pk, **status.to_json()}}, status=201)


def _find(caller: Caller, limit_id: str) -> SpendLimit:
    limit = caller.team.spend_limits.select_related("team", "user", "token").filter(pk=int(limit_id)).first()
    if limit is None:
        raise NotFound("No such limit.")
    return limit


def _limit(limit: SpendLimit, status: dict[str, object], given: list[TopUp], noted: list[Shown]) -> dict[str, Any]:
    return {
        "id": limit.pk,
        **status,
        "person": limit.user.username if limit.user else None,
        "token": limit.token.key_prefix if limit.token else None,
        "top_ups": [_top_up(each, now=None) for each in given if each.period.limit_id == limit.pk],
        "alerts": [_alert(each) for each in noted if each.limit == limit],
    }


def _top_up(top_up: TopUp, *, now: datetime | None) -> dict[str, Any]:
    """`now` is None for one that is known to be in force."""
    return {
        "id": top_up.pk,
        "amount": f"{as_number(top_up.amount):f}",
        "amount_micros": top_up.amount,
        "reason": top_up.reason,
        "made_by": top_up.made_by.username if top_up.made_by else None,
        "created_at": _stamp(top_up.created_at),
        "expires_at": _stamp(top_up.ends_at),
        "in_force": now is None or top_up.is_in_force(now),
    }


def _alert(shown: Shown) -> dict[str, Any]:
    alert = shown.alert
    return {
        "threshold_percent": alert.threshold_percent,
        "reached_at": _stamp(alert.reached_at),
        "total": f"{as_number(alert.total):f}",
        "limit": f"{as_number(alert.room):f}",
        "still_reached": shown.stands,
        "told_at": _stamp(alert.told_at),
        "recipients": alert.recipients,
        "sent": shown.sent,
        "sent_at": _stamp(shown.sent_at),
    }


def _stamp(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None


def _amount(given: Mapping[str, Any]) -> int:
    """US dollars with at most six decimals, as a number or as text, in micro-dollars. Raises InvalidInput."""
    value = given.get("amount")
    wrong = InvalidInput('amount must be US dollars with at most six decimals, like 20 or "12.50".', field="amount")
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal) or len(str(value)) > LONGEST_AMOUNT:
        raise wrong
    try:
        dollars = Decimal(str(value))
    except InvalidOperation:
        raise wrong from None
    # Out of bounds before it is reckoned with, which would take long for 1e999999.
    if not dollars.is_finite() or abs(dollars) > top_ups.MOST:
        raise wrong
    micros = dollars * MICROS_PER_USD
    if micros != int(micros):
        raise wrong
    return int(micros)


def _moment(given: Mapping[str, Any], name: str) -> datetime | None:
    written = text(given, name, most=40)
    found = moments.read(written) if written else None
    if written and found is None:
        raise InvalidInput(f"{name} must be a time, like 2026-01-31T12:00:00Z.", field=name)
    return found
