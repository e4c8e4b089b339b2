"""The one organization, its teams and their members, by API."""

import re
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import levels, members, organization, teams
from accounts.api import fields_of
from accounts.api.people import Overseen
from accounts.api.reading import flag, only_empty, text, whole
from accounts.api.rendering import brief_organization, people, whole_organization
from accounts.api.rendering import members as shown_members
from accounts.api.rendering import team as shown_team
from accounts.authentication import PersonAuthentication, TokenAuthentication, overseer_in
from accounts.errors import InvalidInput, NotFound, Refusal
from accounts.models import Membership, Organization, Team
from accounts.oversight import Overseer, UserNotFound
from accounts.permissions import IsConfirmed, IsPerson
from accounts.roles import Right

SLUG = re.compile(r"[a-z0-9-]{1,50}")
NO_SETTINGS = "An organization and a team have no free settings here. A team's settings are in the portal and under /api/cloud/."
BELONGS = "Whoever has an account here belongs to the organization."


class Seen(APIView):
    """For everybody who is known: what they are shown are their own teams, and all for the platform's staff."""

    authentication_classes = [TokenAuthentication, PersonAuthentication]
    permission_classes = [IsPerson]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        overseer = overseer_in(request)
        if overseer.caller is not None:
            overseer.require(Right.READ, permission="team.view")
        if "org" in kwargs:
            # A foreign organization is not there for anybody, whatever else is wrong.
            organization.named(kwargs["org"])


class Organizations(Seen):
    def get(self, request: Request) -> Response:
        """The installation: there is no other organization."""
        return Response({"organizations": [_whole(overseer_in(request))]})

    def post(self, request: Request) -> Response:
        """Refused: there is one organization, the installation. Teams are made below it."""
        raise organization.refuse_second()


class OrganizationDetail(Seen):
    def get(self, request: Request, org: str) -> Response:
        """The installation, with how many teams and people the caller sees of it."""
        return Response({"organization": _whole(overseer_in(request))})

    def patch(self, request: Request, org: str) -> Response:
        """Change `name` and `description`: for the platform's staff who are signed in."""
        given, overseer = fields_of(request), overseer_in(request)
        overseer.require_staff("change the organization", permission="org.edit")
        only_empty(given, "settings", NO_SETTINGS)
        if not flag(given, "is_active", default=True):
            raise organization.refuse_deletion()
        organization.change(overseer, _texts(given))
        return Response({"organization": _whole(overseer)})

    def delete(self, request: Request, org: str) -> Response:
        """Refused: the installation cannot delete itself."""
        raise organization.refuse_deletion()


class OrganizationMembers(Seen):
    def get(self, request: Request, org: str) -> Response:
        """The people whom the caller sees: those of the team, or everybody for the platform's staff."""
        overseer = overseer_in(request)
        found = overseer.people().order_by("username")
        return Response({"organization": brief_organization(organization.current()), "members": people(found, overseer)})


class OrganizationMember(Overseen):
    permission = "org.manage.members"

    def post(self, request: Request, org: str, user_id: str) -> Response:
        """Change nothing: whoever has an account is a member."""
        organization.named(org)
        person = overseer_in(request).person(int(user_id))
        return Response({"success": True, "message": f"{BELONGS} So {person.username} is a member already."})

    def delete(self, request: Request, org: str, user_id: str) -> Response:
        """Refused: people leave a team, or their account is closed."""
        organization.named(org)
        overseer_in(request).person(int(user_id))
        raise Refusal(
            f"{BELONGS} Nobody is taken out of it alone.", hint="Close the account with DELETE /api/users/<id>, or take them out of a team."
        )


class Teams(Seen):
    def get(self, request: Request, org: str) -> Response:
        """The teams that the caller sees; those that are suspended with `include_inactive=true`."""
        found = overseer_in(request).teams().order_by("name")
        if request.query_params.get("include_inactive") != "true":
            found = found.filter(suspended_at=None)
        listed = [shown_team(team) for team in found]
        return Response({"organization": brief_organization(organization.current()), "teams": listed})

    def post(self, request: Request, org: str) -> Response:
        """Make a team and become its first owner: for the platform's staff who are signed in."""
        given, overseer = fields_of(request), overseer_in(request)
        overseer.require_staff("make teams", permission="team.create")
        only_empty(given, "settings", NO_SETTINGS)
        slug = given.get("slug") or ""
        if slug and not (isinstance(slug, str) and SLUG.fullmatch(slug)):
            raise InvalidInput("slug has 1 to 50 small letters, digits and hyphens.", field="slug")
        made = teams.create(
            name=text(given, "name", most=100, least=1),
            slug=slug,
            description=text(given, "description", most=500),
            owner=overseer.user,
            address=overseer.address,
        )
        return Response({"team": shown_team(made)})


class TeamView(Seen):
    """One of the teams that the caller sees."""

    def team(self, request: Request, named: str) -> Team:
        return overseer_in(request).team_named(named)


class TeamDetail(TeamView):
    def get(self, request: Request, org: str, team: str) -> Response:
        """One team, by its number or its slug."""
        return Response({"team": shown_team(self.team(request, team))})

    def patch(self, request: Request, org: str, team: str) -> Response:
        """Change `name` and `description`; `is_active` false (and a `reason`) suspends the team, which is for the platform's staff."""
        given, overseer = fields_of(request), overseer_in(request)
        overseer.require(Right.MANAGE, permission="team.edit")
        found = self.team(request, team)
        only_empty(given, "settings", NO_SETTINGS)
        asked = _texts(given)
        if given.get("is_active") is not None:
            asked |= {"is_active": flag(given, "is_active"), "reason": text(given, "reason", most=500)}
        return Response({"team": shown_team(organization.change_team(overseer, found, asked))})

    def delete(self, request: Request, org: str, team: str) -> Response:
        """Suspend the team, since its history stays: for the platform's staff who are signed in."""
        overseer = overseer_in(request)
        overseer.require_staff("take a team away", permission="team.delete")
        found = organization.change_team(overseer, self.team(request, team), {"is_active": False})
        message = f"The team {found} is suspended: its work can be read, and nothing new is started. Its history stays."
        return Response({"success": True, "message": message})


class TeamMembers(TeamView):
    permission_classes = [IsPerson, IsConfirmed]

    def get(self, request: Request, org: str, team: str) -> Response:
        """Who is in the team, and with which role."""
        found = self.team(request, team)
        listed = found.memberships.select_related("user").order_by("user__username")
        return Response({"team": shown_team(found), "members": shown_members(listed)})

    def post(self, request: Request, org: str, team: str) -> Response:
        """Take somebody in: by `user_id` whom the caller looks after already, by `email` whoever has an account."""
        given, overseer = fields_of(request), overseer_in(request)
        overseer.require(Right.MANAGE, permission="team.manage.members")
        acting = overseer.acting_in(self.team(request, team))
        acting.require(Right.MANAGE, permission="team.manage.members")
        level = _level({"role": "member"} | {name: value for name, value in given.items() if value is not None})
        added = members.add(acting, email=_address(given, overseer), role=level.role)
        return Response({"success": True, "message": f"{added.user.username} is in the team {acting.team} now, as {level.name}."})


class TeamMember(TeamView):
    permission_classes = [IsPerson, IsConfirmed]

    def patch(self, request: Request, org: str, team: str, user_id: str) -> Response:
        """Give a member another role."""
        acting, membership = self._found(request, team, user_id)
        level = _level(fields_of(request))
        members.change_role(acting, membership, role=level.role)
        return Response({"success": True, "message": f"{membership.user.username} is {level.name} now."})

    def delete(self, request: Request, org: str, team: str, user_id: str) -> Response:
        """Take a member out. What they made stays."""
        acting, membership = self._found(request, team, user_id)
        members.remove(acting, membership)
        return Response({"success": True, "message": f"{membership.user.username} is not in the team {acting.team} any more."})

    def _found(self, request: Request, named: str, user_id: str) -> tuple[Any, Membership]:
        overseer = overseer_in(request)
        overseer.require(Right.MANAGE, permission="team.manage.members")
        acting = overseer.acting_in(self.team(request, named))
        acting.require(Right.MANAGE, permission="team.manage.members")
        found = acting.team.memberships.select_related("user", "team").filter(user_id=int(user_id)).first() if len(user_id) < 19 else None
        if found is None:
            raise UserNotFound(f"User not found in this team: {user_id}")
        return acting, found


def _whole(overseer: Overseer) -> dict[str, Any]:
    kept: Organization = organization.current()
    began_at = organization.began_at()
    return whole_organization(kept, began_at=began_at, team_count=overseer.teams().count(), member_count=overseer.people().count())


def _texts(given: dict[str, Any]) -> dict[str, Any]:
    readers = {
        "name": lambda: text(given, "name", most=100, least=1),
        "description": lambda: text(given, "description", most=500),
    }
    return {name: read() for name, read in readers.items() if given.get(name) is not None}


def _level(given: dict[str, Any]) -> levels.Level:
    try:
        return levels.named(given.get("role"), field="role")
    except NotFound as unknown:
        raise InvalidInput(unknown.detail, field="role") from None


def _address(given: dict[str, Any], overseer: Overseer) -> str:
    if given.get("user_id") is None:
        return text(given, "email", most=254, least=3)
    return overseer.person(whole(given, "user_id", least=1, most=2**63 - 1)).email
