"""Who is in a team and with which role. A team always keeps an owner."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from accounts import audit, credentials, letters
from accounts.callers import Caller
from accounts.errors import Conflict, InvalidInput, NotFound, NotPermitted
from accounts.models import APIToken, Credential, Invite, Membership, Team, User
from accounts.roles import Right, Role, manages


class LastOwner(Conflict):
    """Without an owner nobody could manage the team any more."""

    code = "last_owner"


def add(caller: Caller, *, email: str, role: str) -> Membership:
    """Put somebody who has an account into the team without asking them, as SimpleTuner's clients do.

    Raises NotFound, Conflict for who is in it, InvalidInput, NotPermitted.
    """
    caller.require(Right.MANAGE)
    require_manages(caller, _checked(role))
    person = User.objects.filter(email__iexact=email.strip(), is_active=True).first()
    if person is None:
        raise NotFound("Nobody has an account with this address.", field="email", hint="Invite them by e-mail instead.")
    return put_in(caller, person, role=role)


def join(*, team: Team, person: User, role: str, invited_by: User | None, address: str) -> Membership:
    """Let somebody in who was invited. Who is in the team already stays what they are."""
    membership, is_new = Membership.objects.get_or_create(team=team, user=person, defaults={"role": _checked(role)})
    if is_new:
        audit.record(
            team=team, event_type="member.added", action=f"{person.username} came by an invite as {role}", by=person, address=address,
            target_type="user", target_id=str(person.pk), after={"role": role, "invited_by": invited_by.username if invited_by else None},
        )  # fmt: skip
    return membership


def change_role(caller: Caller, membership: Membership, *, role: str) -> None:
    """Give a member another role; the same as before changes nothing. Raises NotPermitted, LastOwner, InvalidInput."""
    caller.require(Right.MANAGE)
    with transaction.atomic():
        before = _locked(caller, membership)
        require_manages(caller, before.role)
        require_manages(caller, _checked(role))
        if before.role == role:
            return
        keep_an_owner(before)
        give(caller, before, role=role)


def remove(caller: Caller, membership: Membership, *, site: str = "") -> None:
    """Take somebody out of the team. Raises NotPermitted, LastOwner.

    What they made stays, their API tokens, too, since these are the team's; its owners are told of them by mail, with a
    link to this server at `site`. Their own credentials in the team are offered no more, and their open invites end.
    """
    caller.require(Right.MANAGE)
    with transaction.atomic():
        before = _locked(caller, membership)
        require_manages(caller, before.role)
        take_out(caller, before, action=f"Removed {before.user.username}", site=site)


def leave(caller: Caller, *, site: str = "") -> None:
    """Go away from the team oneself, with all that `remove` says. Raises LastOwner, NotPermitted for a token."""
    _require_person(caller)
    with transaction.atomic():
        own = _locked(caller, _own(caller))
        take_out(caller, own, action=f"{own.user.username} left", site=site)


def hand_over(caller: Caller, membership: Membership) -> None:
    """Make a member an owner, and oneself a lead, in one step. Raises NotPermitted, Conflict."""
    caller.require(Right.MANAGE)
    _require_person(caller)
    with transaction.atomic():
        heir, own = _locked(caller, membership), _locked(caller, _own(caller))
        require_manages(caller, Role.OWNER)
        if heir.pk == own.pk:
            raise Conflict("A team is handed over to somebody else.")
        if not heir.user.is_active:
            raise Conflict(f"{heir.user} cannot sign in any more, and so cannot own the team.")
        give(caller, heir, role=Role.OWNER, reason="hand-over")
        give(caller, own, role=Role.LEAD, reason="hand-over")


def require_manages(caller: Caller, role: str) -> None:
    """Raise NotPermitted where the caller's role may not give this role, or touch who has it."""
    if not manages(caller.role, role):
        raise NotPermitted(
            f"Whoever is {caller.role or 'in no role'} does not decide who is {role}.",
            hint="Ask an owner of the team.",
            details={"required_permission": "team.manage.members"},
        )


def owners(team: Team) -> list[User]:
    """Who can manage the team today."""
    found = team.memberships.filter(role=Role.OWNER, user__is_active=True).select_related("user").order_by("user__username")
    return [membership.user for membership in found]


def give(caller: Caller, before: Membership, *, role: str, reason: str = "") -> None:
    """Give another role to somebody whose team is locked, without asking whether the caller may or an owner is left."""
    if before.role == role:
        return
    promised = _open_invites(before) if not manages(role, Role.OWNER) else []
    Membership.objects.filter(pk=before.pk).update(role=role)
    # Nobody comes in by the word of somebody who may not give it any more.
    _end_invites(caller, [invite for invite in promised if not manages(role, invite.role)])
    _record(
        caller, before, "user.level.changed", f"Made {before.user.username} {role}",
        before={"role": before.role}, after={"role": role}, reason=reason,
    )  # fmt: skip


@transaction.atomic
def put_in(caller: Caller, person: User, *, role: str) -> Membership:
    """Let somebody into the caller's team, without asking whether the caller may. Raises Conflict for who is in it."""
    membership, is_new = Membership.objects.get_or_create(team=caller.team, user=person, defaults={"role": role})
    if not is_new:
        raise Conflict(f"{person} is in the team already.", field="email")
    _record(caller, membership, "member.added", f"Added {person.username} as {role}", after={"role": role})
    return membership


def take_out(caller: Caller, leaving: Membership, *, action: str, site: str = "") -> None:
    """Take somebody out of a team that is locked, without asking whether the caller may. Raises LastOwner."""
    keep_an_owner(leaving)
    # All rows are locked ahead of the first audit line, which comes last in the order of locks.
    mine = Credential.objects.in_use().filter(team_id=leaving.team_id, user_id=leaving.user_id)
    personal = list(mine.select_related("user").order_by("pk").select_for_update(of=("self",), no_key=True))
    promised = _open_invites(leaving)
    Membership.objects.filter(pk=leaving.pk).delete()
    _tell_owners_of_tokens(caller, leaving, site=site)
    for credential in personal:
        credentials.remove(credential, by=caller.user, caller=caller)
    _end_invites(caller, promised)
    _record(caller, leaving, "member.removed", action, before={"role": leaving.role})


def _tell_owners_of_tokens(caller: Caller, leaving: Membership, *, site: str) -> None:
    """Say which of the team's tokens somebody made who has gone: they go on working."""
    left = APIToken.objects.usable(now=timezone.now()).filter(team_id=leaving.team_id, made_by_id=leaving.user_id)
    names = [str(token) for token in left.order_by("name", "pk")]
    if not names:
        return
    base = site or settings.PUBLIC_URL
    facts = {
        "person": str(leaving.user),
        "team": caller.team.name,
        "tokens": names,
        "link": base + reverse("tokens", args=[caller.team.slug]) if base else "",
    }
    letters.write(event="maker_left", to=owners(caller.team), team=caller.team, facts=facts)


def _open_invites(membership: Membership) -> list[Invite]:
    """The open invites that somebody sent in a team, locked."""
    sent = Invite.objects.open().filter(team_id=membership.team_id, invited_by_id=membership.user_id)
    return list(sent.order_by("pk").select_for_update(no_key=True))


def _end_invites(caller: Caller, invites: list[Invite]) -> None:
    now = timezone.now()
    Invite.objects.filter(pk__in=[invite.pk for invite in invites]).update(revoked_at=now)
    for invite in invites:
        audit.record(
            team=caller.team, caller=caller, event_type="invite.revoked", action=f"Took back the invite of {invite.email}",
            target_type="invite", target_id=str(invite.pk), before={"role": invite.role}, reason="whoever invited may not any more",
        )  # fmt: skip


def _own(caller: Caller) -> Membership:
    found = Membership.objects.filter(team=caller.team, user=caller.user).first()
    if found is None:
        raise NotFound("You are not in the team any more.")
    return found


def _require_person(caller: Caller) -> None:
    if caller.token is not None:
        raise NotPermitted("Only a person who is signed in can do this, and no token.")


def _locked(caller: Caller, membership: Membership) -> Membership:
    """The membership in the caller's team as it is now. The team is locked: of two owners who leave at once the second must
    see the first gone.
    """
    Team.objects.select_for_update(no_key=True).get(pk=caller.team.pk)
    found = Membership.objects.select_related("user").filter(team=caller.team, pk=membership.pk).first()
    if found is None:
        raise NotFound("This person is not in the team any more.")
    return found


def keep_an_owner(leaving: Membership) -> None:
    """Raise LastOwner if nobody else owns the team, which must be locked."""
    if leaving.role == Role.OWNER and not _has_owner_beside(leaving.team, leaving.user):
        raise LastOwner("The team would be left without an owner.", field="role", hint="Make somebody else an owner first.")


def keep_owners_without(person: User) -> None:
    """Raise LastOwner if a team would be left without an owner, were this person shut out. Locks the teams that they own."""
    owned = Membership.objects.filter(user=person, role=Role.OWNER).values("team")
    for team in Team.objects.select_for_update(no_key=True).filter(pk__in=owned).order_by("pk"):
        if not _has_owner_beside(team, person):
            sentence = f"The team {team} would be left without an owner."
            raise LastOwner(sentence, field="is_active", hint="Make somebody else an owner first.")


def _has_owner_beside(team: Team, person: User) -> bool:
    return team.memberships.filter(role=Role.OWNER, user__is_active=True).exclude(user=person).exists()


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
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str = "",
) -> None:
    audit.record(
        team=caller.team, caller=caller, event_type=event_type, action=action, reason=reason,
        target_type="user", target_id=str(membership.user_id), before=before, after=after,
    )  # fmt: skip
