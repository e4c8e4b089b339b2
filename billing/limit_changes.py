"""Setting spend limits: a team's owners set its own and those of its people, the platform's staff those of the platform."""

from django.db import IntegrityError, transaction

from accounts import audit
from accounts.callers import Caller, Staff
from accounts.errors import Conflict, NotFound
from accounts.models import User
from accounts.roles import Right
from billing.models import LimitAction, LimitScope, SpendLimit

# What a limit is called that was set as a quota, where people give it no name.
QUOTA = "quota"


def add(caller: Caller, *, person: User | None = None, name: str, amount: int, period: str, action: str) -> SpendLimit:
    """Set a limit (micro-dollars; 0 blocks everything) for the whole team, or for one of its people.

    Raises NotFound for a person who is not in the team, Conflict for a name that this period has.
    """
    caller.require(Right.MANAGE)
    if person is not None and not caller.team.memberships.filter(user=person).exists():
        raise NotFound("No such person in the team.", field="person")
    scope = LimitScope.TEAM if person is None else LimitScope.PERSON
    try:
        with transaction.atomic():
            limit = SpendLimit.objects.create(
                scope=scope, team=caller.team, user=person, name=name, amount=amount, period=period, action=action
            )
            _record(caller, limit, f"Set the limit {name}", after=_described(limit))
    except IntegrityError:
        raise Conflict(f"There is a {period} limit '{name}' already. Change that one.", field="name") from None
    return limit


def put(by: Caller | Staff, *, scope: str, user: User | None, period: str, amount: int, action: str) -> SpendLimit:
    """Set the limit of this period for the team, one of its people (`user`), or the platform: the one that is in force is changed.

    Of several that one is which was set so before, else the oldest.
    """
    _require(by)
    team = by.team if isinstance(by, Caller) else None
    found = SpendLimit.objects.filter(scope=scope, team=team, user=user, token=None, period=period)
    in_force = sorted(found.enabled(), key=lambda limit: (limit.name != QUOTA, limit.pk))
    if in_force:
        change(by, in_force[0], amount=amount, action=action, is_enabled=True)
        return in_force[0]
    with transaction.atomic():
        limit, is_new = SpendLimit.objects.get_or_create(
            scope=scope, team=team, user=user, token=None, name=QUOTA, period=period, defaults={"amount": amount, "action": action}
        )
        if is_new:
            _record(by, limit, f"Set the limit {limit.name}", after=_described(limit))
        else:
            change(by, limit, amount=amount, action=action, is_enabled=True)
    return limit


def change(by: Caller | Staff, limit: SpendLimit, *, amount: int, action: str, is_enabled: bool) -> None:
    """Change a limit, or switch it off: it keeps its figures for when it comes back. The next hold goes by it."""
    _require(by)
    with transaction.atomic():
        before = _described(SpendLimit.objects.select_for_update(no_key=True).get(pk=limit.pk))
        limit.amount, limit.action, limit.is_enabled = amount, LimitAction(action), is_enabled
        limit.save(update_fields=["amount", "action", "is_enabled", "updated_at"])
        if before != _described(limit):
            _record(by, limit, f"Changed the limit {limit.name}", before=before, after=_described(limit))


def _require(by: Caller | Staff) -> None:
    if isinstance(by, Caller):
        by.require(Right.MANAGE)


def _described(limit: SpendLimit) -> dict[str, object]:
    return {
        "scope": limit.scope,
        **({"person": limit.user.username} if limit.user else {}),
        "name": limit.name,
        "amount_micros": limit.amount,
        "period": limit.period,
        "action": limit.action,
        "is_enabled": limit.is_enabled,
    }


def _record(
    by: Caller | Staff, limit: SpendLimit, action: str, *, before: dict[str, object] | None = None, after: dict[str, object] | None = None
) -> None:
    caller = by if isinstance(by, Caller) else None
    audit.record(
        team=limit.team, caller=caller, by=by.user, address=by.address, event_type="quota.changed", action=action,
        target_type="quota", target_id=str(limit.pk), before=before, after=after,
    )  # fmt: skip
