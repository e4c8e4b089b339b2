"""Setting a team's spend limits: what its owners may do. Limits of the platform are the staff's."""

from django.db import IntegrityError, transaction

from accounts import audit
from accounts.callers import Caller
from accounts.errors import Conflict
from accounts.roles import Right
from billing.models import LimitScope, SpendLimit


def add(caller: Caller, *, name: str, amount: int, period: str, action: str) -> SpendLimit:
    """Set a limit for the whole team (micro-dollars; 0 blocks everything). Raises Conflict for a name that this period has."""
    caller.require(Right.MANAGE)
    try:
        with transaction.atomic():
            limit = SpendLimit.objects.create(
                scope=LimitScope.TEAM, team=caller.team, name=name, amount=amount, period=period, action=action
            )
            _record(caller, limit, f"Set the limit {name}", after=_described(limit))
    except IntegrityError:
        raise Conflict(f"There is a {period} limit '{name}' already. Change that one.", field="name") from None
    return limit


def change(caller: Caller, limit: SpendLimit, *, amount: int, action: str, is_enabled: bool) -> None:
    """Change a limit, or switch it off: it keeps its figures for when it comes back. The next hold goes by it."""
    caller.require(Right.MANAGE)
    with transaction.atomic():
        before = _described(SpendLimit.objects.select_for_update(no_key=True).get(pk=limit.pk))
        limit.amount, limit.action, limit.is_enabled = amount, action, is_enabled
        limit.save(update_fields=["amount", "action", "is_enabled", "updated_at"])
        if before != _described(limit):
            _record(caller, limit, f"Changed the limit {limit.name}", before=before, after=_described(limit))


def _described(limit: SpendLimit) -> dict[str, object]:
    return {
        "name": limit.name,
        "amount_micros": limit.amount,
        "period": limit.period,
        "action": limit.action,
        "is_enabled": limit.is_enabled,
    }


def _record(
    caller: Caller, limit: SpendLimit, action: str, *, before: dict[str, object] | None = None, after: dict[str, object] | None = None
) -> None:
    audit.record(
        team=caller.team, caller=caller, event_type="quota.changed", action=action,
        target_type="quota", target_id=str(limit.pk), before=before, after=after,
    )  # fmt: skip
