"""Who is in a team and with which role. A team always keeps an owner."""

from django.db import transaction

from accounts import audit
from accounts.callers import Caller
from accounts.errors import Conflict, InvalidInput, NotFound
from accounts.models import Membership, Team, User
from accounts.roles import Right, Role


class LastOwner(Conflict):
    """Without an owner nobody could manage the team any more."""

    code = "last_owner"


def add(caller: Caller, *, email: str, role: str) -> Membership:
    """Put somebody who has an account into the team. Raises NotFound, Conflict for somebody who is in it, InvalidInput."""
    caller.require(Right.MANAGE)
    person = User.objects.filter(email__iexact=email.strip(), is_active=True).first()
    if person is None:
        raise NotFound(
            "Nobody has an account with this address.",
            field="email",
            hint="Ask the platform's staff to make one, then add the address here.",
        )
    with transaction.atomic():
        membership, is_new = Membership.objects.get_or_create(team=caller.team, user=person, defaults={"role": _checked(role)})
        if not is_new:
            raise Conflict(f"{person} is in the team already.", field="email")
        _record(caller, membership, "member.added", f"Added {person.username} as {role}", after={"role": role})
    return membership


def change_role(caller: Caller, membership: Membership, *, role: str) -> None:
    """Give a member another role; the same as before changes nothing. Raises LastOwner, InvalidInput."""
    caller.require(Right.MANAGE)
    with transaction.atomic():
        before = _locked(membership)
        if before.role == _checked(role):
            return
        _keep_an_owner(before)
        Membership.objects.filter(pk=before.pk).update(role=role)
        _record(
            caller, before, "user.level.changed", f"Made {before.user.username} {role}", before={"role": before.role}, after={"role": role}
        )


def remove(caller: Caller, membership: Membership) -> None:
    """Take somebody out of the team. What they made stays, their API tokens, too, since these are the team's. Raises LastOwner."""
    caller.require(Right.MANAGE)
    with transaction.atomic():
        before = _locked(membership)
        _keep_an_owner(before)
        Membership.objects.filter(pk=before.pk).delete()
        _record(caller, before, "member.removed", f"Removed {before.user.username}", before={"role": before.role})


def _locked(membership: Membership) -> Membership:
    """The membership as it is now. The team is locked: of two owners who leave at once the second must see the first gone."""
    Team.objects.select_for_update(no_key=True).get(pk=membership.team_id)
    found = Membership.objects.select_related("user").filter(pk=membership.pk).first()
    if found is None:
        raise NotFound("This person is not in the team any more.")
    return found


def _keep_an_owner(leaving: Membership) -> None:
    others = Membership.objects.filter(team_id=leaving.team_id, role=Role.OWNER, user__is_active=True).exclude(pk=leaving.pk)
    if leaving.role == Role.OWNER and not others.exists():
        raise LastOwner("The team would be left without an owner.", field="role", hint="Make somebody else an owner first.")


def _checked(role: str) -> str:
    if role not in Role.values:
        raise InvalidInput(f"There is no role {role!r}. Roles are {', '.join(Role.values)}.", field="role")
    return role


def _record(
    caller: Caller,
    membership: Membership,
    event_type: str,
    action: str,
    *,
    before: dict[str, str] | None = None,
    after: dict[str, str] | None = None,
) -> None:
    audit.record(
        team=caller.team, caller=caller, event_type=event_type, action=action,
        target_type="user", target_id=str(membership.user_id), before=before, after=after,
    )  # fmt: skip
