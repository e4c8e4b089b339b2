"""The company's directory, by OIDC or LDAP: who is in which of its groups has which role in which team.

It decides over the memberships that it made and no others: what people gave by hand stays as they gave it.
"""

from collections.abc import Iterable, Sequence

import structlog
from django.db import transaction

from accounts import audit, members
from accounts.callers import Caller
from accounts.models import Membership, Origin, Team, User
from accounts.roles import Role

log = structlog.get_logger(__name__)

# The more a role may, the later it stands there.
RANK = {role: rank for rank, role in enumerate(Role.values)}


def follow(*, user: User, origin: Origin, groups: Iterable[str], roles: Sequence[tuple[str, str, str]], address: str = "") -> None:
    """Bring the memberships that `origin` made for somebody in line with their groups; `roles` are (group, team's slug, role).

    Of several roles in a team they get the one that may most. A last owner stays an owner, which is told to the log and
    to the audit trail. Without any `roles` nothing is touched. `address` is where they call from.
    """
    if not roles:
        return
    wanted = _wanted(set(groups), roles)
    teams = Team.objects.filter(slug__in={team for _, team, _ in roles}) | Team.objects.filter(
        memberships__user=user, memberships__origin=origin
    )
    found = list(teams.distinct().order_by("pk"))
    for missing in sorted(wanted.keys() - {team.slug for team in found}):
        log.warning("directory.unknown_team", origin=origin.value, team=missing)
    for team in found:
        _follow_in(team, user=user, origin=origin, role=wanted.get(team.slug), address=address)


def _wanted(groups: set[str], roles: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    """The role that the groups give in each team, by its slug."""
    found: dict[str, str] = {}
    for group, team, role in roles:
        if group in groups and RANK.get(role, -1) > RANK.get(found.get(team, ""), -1):
            found[team] = role
    return found


@transaction.atomic
def _follow_in(team: Team, *, user: User, origin: Origin, role: str | None, address: str) -> None:
    team = Team.objects.select_for_update(no_key=True).get(pk=team.pk)
    kept = Membership.objects.select_related("user").filter(team=team, user=user).first()
    # They act themselves, and by no right of their own.
    caller = Caller(team=team, user=user, role=kept.role if kept else "", rights=frozenset(), token=None, address=address)
    why = f"by their groups ({origin.label})"
    if kept is None:
        # Nothing leads into an archived team.
        if role is not None and team.archived_at is None:
            Membership.objects.create(team=team, user=user, role=role, origin=origin)
            _record(caller, "member.added", f"Added {user.username} as {role}, {why}", after=role)
        return
    if kept.origin != origin or kept.role == role:
        return
    try:
        members.keep_an_owner(kept)
    except members.LastOwner:
        log.warning("directory.last_owner_kept", origin=origin.value, team=team.slug, user=user.username)
        _record(caller, "member.kept", f"Kept {user.username} as the last owner, against their groups ({origin.label})", after=kept.role)
        return
    if role is None:
        members.take_out(caller, kept, action=f"Removed {user.username}, {why}")
    else:
        members.give(caller, kept, role=role, reason=why)


def _record(caller: Caller, event_type: str, action: str, *, after: str) -> None:
    audit.record(
        team=caller.team, caller=caller, event_type=event_type, action=action, target_type="user", target_id=str(caller.user.pk),
        after={"role": after},
    )  # fmt: skip
