"""What a token may spend at most in a day, week or month, and what it has spent. Tokens that descend from one share this."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q, Sum

from accounts import audit, tokens
from accounts.callers import Caller
from accounts.errors import NotPermitted
from accounts.models import APIToken
from billing import limits
from billing.limits import LimitStatus
from billing.models import Hold, LimitAction, LimitScope, SpendLimit, SpendLimitQuerySet

# There is one of each period under this name, and at most one of them is enabled.
NAME = "token"


@dataclass(frozen=True)
class AtMost:
    """So many micro-dollars in a daily, weekly or monthly period."""

    amount: int
    period: str


@dataclass(frozen=True)
class Spent:
    """What one token was charged and has on hold, in micro-dollars, over its whole life."""

    charged: int
    held: int


def create(caller: Caller, *, at_most: AtMost | None, **asked: Any) -> tuple[APIToken, str]:
    """Make a token with a spend limit of its own; `asked` is what `tokens.create` takes. Raises what that raises."""
    with transaction.atomic():
        token, plain = tokens.create(team=caller.team, by=caller.user, caller=caller, **asked)
        if at_most is not None:
            choose(caller, token, at_most)
    return token, plain


def choose(caller: Caller, token: APIToken, at_most: AtMost | None) -> None:
    """Limit what a token may spend, or (None) lift its limit; the same as before changes nothing. The next hold goes by it.

    Each period keeps its own row: one that is disabled is counted on, so that its figures are right when it comes back.

    Raises NotPermitted for a token that calls: it could lift its own limit.
    """
    if caller.token is not None:
        raise NotPermitted("A token cannot change what a token may spend.", hint="Do it on the page of the token.")
    with transaction.atomic():
        APIToken.objects.select_for_update(no_key=True).get(pk=token.origin_key)
        before = chosen(token)
        if before == at_most:
            return
        ours = _limits_of([token.origin_key]).filter(name=NAME)
        ours.enabled().update(is_enabled=False)
        if at_most is not None:
            SpendLimit.objects.put(
                scope=LimitScope.TOKEN,
                team=token.team,
                token_id=token.origin_key,
                name=NAME,
                period=at_most.period,
                amount=at_most.amount,
                action=LimitAction.BLOCK,
                is_enabled=True,
            )
        audit.record(
            team=token.team, caller=caller, event_type="quota.changed", action=f"Changed what the API token {token} may spend",
            target_type="api_key", target_id=token.key_prefix, before=_described(before), after=_described(at_most),
        )  # fmt: skip


def chosen(token: APIToken) -> AtMost | None:
    """The limit that was chosen for a token, if one is in force."""
    limit = _limits_of([token.origin_key]).filter(name=NAME).enabled().first()
    return AtMost(amount=limit.amount, period=limit.period) if limit else None


def standing(found: Iterable[APIToken], *, now: datetime) -> dict[int, list[LimitStatus]]:
    """How the limits in force of these tokens stand, by the token's key, in as many queries for many as for one."""
    origins = {token.pk: token.origin_key for token in found}
    by_origin: dict[int | None, list[LimitStatus]] = {}
    for limit, status in limits.standing(_limits_of(origins.values()).enabled(), now=now).items():
        by_origin.setdefault(limit.token_id, []).append(status)
    return {pk: limits.in_order(by_origin.get(origin, [])) for pk, origin in origins.items()}


def spent(token: APIToken) -> Spent:
    """What this one token has cost so far, without rehearsals and without the tokens that share its limit."""
    holds = Hold.objects.filter(team=token.team_id, token=token, is_rehearsal=False)
    sums = holds.aggregate(charged=Sum("charge"), held=Sum("amount", filter=Q(charge=None)))
    return Spent(charged=sums["charged"] or 0, held=sums["held"] or 0)


def describe(token: APIToken, *, now: datetime) -> dict[str, Any]:
    """A token in plain values with `limits`: how those stand that are its own. For who-am-I calls."""
    return tokens.describe(token) | {"limits": [status.to_json() for status in standing([token], now=now)[token.pk]]}


def _limits_of(origins: Iterable[int]) -> SpendLimitQuerySet:
    return SpendLimit.objects.filter(scope=LimitScope.TOKEN, token__in=set(origins))


def _described(at_most: AtMost | None) -> dict[str, object]:
    return {"amount_micros": at_most.amount, "period": at_most.period} if at_most else {}
