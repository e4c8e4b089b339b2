"""People, their levels and permissions by API: a team's owner sees and changes its members, the platform's staff everybody."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import external, levels, members, users
from accounts.api import fields_of, number
from accounts.api.auth import OwnAccount, Public
from accounts.api.reading import flag, one_of, secret, text, texts
from accounts.api.rendering import level as shown_level
from accounts.api.rendering import people, person, profile
from accounts.authentication import PersonAuthentication, TokenAuthentication, overseer_in
from accounts.errors import NotFound, NotOffered, Refusal
from accounts.models import User
from accounts.oversight import Overseer
from accounts.permissions import IsConfirmed, IsPerson
from accounts.roles import PERMISSION_TABLE, Beyond, Right, Role
from accounts.users import NewPerson

NO_PICTURES = "People have no pictures here."


class Overseen(APIView):
    """For whoever looks after people; `permission` is SimpleTuner's name for the right that a team's role must give."""

    authentication_classes = [TokenAuthentication, PersonAuthentication]
    permission_classes = [IsPerson, IsConfirmed]
    permission = "admin.users"

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        overseer_in(request).require(Right.MANAGE, permission=self.permission)


class AuthStatus(Public):
    """Whether people have accounts here."""

    def get(self, request: Request) -> Response:
        """How many, and whether they may sign in by another way than a password."""
        count = User.objects.count()
        return Response({"in_use": count > 0, "user_count": count, "has_external_providers": bool(external.available())})


class People(Overseen):
    def get(self, request: Request) -> Response:
        """The people whom the caller looks after, by user name; those who are deactivated with `include_inactive=true`."""
        limit = number(request, "limit", default=100, least=1, most=500)
        offset = number(request, "offset", default=0, least=0, most=1_000_000)
        overseer = overseer_in(request)
        found = overseer.people().order_by("username")
        if request.query_params.get("include_inactive") != "true":
            found = found.filter(is_active=True)
        return Response(people(found[offset : offset + limit], overseer))

    def post(self, request: Request) -> Response:
        """Make an account, in the caller's team and with one of its levels; without a password the person sets one by mail."""
        given, overseer = fields_of(request), overseer_in(request)
        asked = NewPerson(
            email=text(given, "email", most=254, least=3),
            username=text(given, "username", most=50, least=3),
            password=secret(given, "password") if given.get("password") else "",
            display_name=text(given, "display_name", most=100),
            is_admin=flag(given, "is_admin"),
            role=levels.highest(texts(given, "level_names") or ["researcher"]).role,
        )
        return Response(person(users.create(overseer, asked), overseer), status=201)


class Person(Overseen):
    def get(self, request: Request, user_id: str) -> Response:
        """One of the people whom the caller looks after."""
        overseer = overseer_in(request)
        return Response(person(overseer.person(int(user_id)), overseer))

    def patch(self, request: Request, user_id: str) -> Response:
        """Change what is sent. Of a member an owner changes display_name and is_active; the rest is the person's own, or staff's."""
        given, overseer = fields_of(request), overseer_in(request)
        found = overseer.person(int(user_id))
        return Response(person(users.change(overseer, found, _changes(given)), overseer))

    def delete(self, request: Request, user_id: str) -> Response:
        """Take somebody away: an owner out of the team, and the account with it if that was all; staff altogether."""
        overseer = overseer_in(request)
        users.close(overseer, overseer.person(int(user_id)))
        return Response({"success": True})


class Deactivate(Overseen):
    def post(self, request: Request, user_id: str) -> Response:
        """Let somebody in no more. Nothing of theirs is lost."""
        overseer = overseer_in(request)
        users.change(overseer, overseer.person(int(user_id)), {"is_active": False})
        return Response({"success": True})


class Activate(Overseen):
    def post(self, request: Request, user_id: str) -> Response:
        """Let somebody in again."""
        overseer = overseer_in(request)
        users.change(overseer, overseer.person(int(user_id)), {"is_active": True})
        return Response({"success": True})


class Profile(OwnAccount):
    """How whoever is signed in is called."""

    def get(self, request: Request) -> Response:
        """Their own account, in short."""
        return Response(self._shown(request))

    def patch(self, request: Request) -> Response:
        """Change `display_name`, at most 100 characters."""
        given = fields_of(request)
        if given.get("display_name") is not None:
            overseer = overseer_in(request)
            name = text(given, "display_name", most=100)
            users.change_oneself(overseer.user, {"display_name": name}, address=overseer.address)
        return Response(self._shown(request))

    def _shown(self, request: Request) -> dict[str, Any]:
        return profile(person(request.user, Overseer(user=request.user, address="", caller=None, team=None)))  # type: ignore[arg-type]


class Avatar(OwnAccount):
    """A person's picture."""

    def post(self, request: Request) -> Response:
        """Not offered: 501."""
        raise NotOffered(NO_PICTURES)

    def delete(self, request: Request) -> Response:
        """Not offered: 501."""
        raise NotOffered(NO_PICTURES)


class Levels(Overseen):
    """The four levels, which are this platform's roles."""

    permission = "admin.levels"

    def get(self, request: Request) -> Response:
        """Each with the permissions that it gives."""
        return Response([shown_level(level) for level in levels.LEVELS])

    def post(self, request: Request) -> Response:
        """Not offered: 501, since the four are all."""
        raise levels.refuse_custom()


class LevelDetail(Overseen):
    permission = "admin.levels"

    def get(self, request: Request, level_id: str) -> Response:
        """One of the levels."""
        return Response(shown_level(levels.numbered(int(level_id))))

    def put(self, request: Request, level_id: str) -> Response:
        """Refused: the levels are the system's."""
        raise _fixed(level_id)

    def delete(self, request: Request, level_id: str) -> Response:
        """Refused: the levels are the system's."""
        raise _fixed(level_id)


class LevelPermissions(Overseen):
    permission = "admin.levels"

    def put(self, request: Request, level_id: str) -> Response:
        """Refused: what a level allows is fixed."""
        raise _fixed(level_id)


class PersonLevels(Overseen):
    permission = "admin.levels"

    def post(self, request: Request, user_id: str) -> Response:
        """Give somebody another level in the caller's team; it takes the place of the one before."""
        overseer = overseer_in(request)
        membership = overseer.membership_of(overseer.person(int(user_id)))
        level = levels.named(fields_of(request).get("level_name"))
        members.change_role(overseer.acting(), membership, role=level.role)
        return Response({"success": True})


class PersonLevel(Overseen):
    permission = "admin.levels"

    def delete(self, request: Request, user_id: str, name: str) -> Response:
        """Take a level away: the person is a viewer then, since everybody in a team has one."""
        overseer = overseer_in(request)
        membership = overseer.membership_of(overseer.person(int(user_id)))
        if membership.role != levels.named(name).role:
            raise NotFound(f"{membership.user.username} does not have the level {name[:60]} in {membership.team}.")
        if membership.role == Role.VIEWER:
            raise Refusal(
                "Everybody in a team has a level, and viewer is the least.",
                hint="Take the person out of the team: DELETE /api/orgs/1/teams/<team>/members/<user>.",
            )
        members.change_role(overseer.acting(), membership, role=Role.VIEWER)
        return Response({"success": True})


class Permissions(Overseen):
    permission = "admin.levels"

    def get(self, request: Request) -> Response:
        """Every permission that SimpleTuner knows by name, and how it is given here."""
        return Response(
            [
                {
                    "id": known.id,
                    "name": known.name,
                    "description": _described(known.description, known.given_by),
                    "category": known.category,
                }
                for known in sorted(PERMISSION_TABLE)
            ]
        )


class PersonPermissions(Overseen):
    """Single permissions of a person."""

    permission = "admin.levels"

    def post(self, request: Request, user_id: str) -> Response:
        """Not offered: 501. A name that no permission has is 400."""
        overseer_in(request).person(int(user_id))
        one_of(fields_of(request), "permission_name", [known.name for known in PERMISSION_TABLE])
        raise levels.refuse_overrides()


class PersonPermission(Overseen):
    permission = "admin.levels"

    def delete(self, request: Request, user_id: str, name: str) -> Response:
        """Not offered: 501."""
        overseer_in(request).person(int(user_id))
        raise levels.refuse_overrides()


def _changes(given: dict[str, Any]) -> dict[str, Any]:
    """The fields that were sent, each checked for its type; null leaves a field alone."""
    readers = {
        "email": lambda: text(given, "email", most=254, least=3),
        "username": lambda: text(given, "username", most=50, least=3),
        "display_name": lambda: text(given, "display_name", most=100),
        "password": lambda: secret(given, "password"),
        "is_active": lambda: flag(given, "is_active"),
        "is_admin": lambda: flag(given, "is_admin"),
    }
    return {name: read() for name, read in readers.items() if given.get(name) is not None}


def _fixed(level_id: str) -> Refusal:
    level = levels.numbered(int(level_id))
    return Refusal(f"{level.name} is a system level and cannot be changed or deleted.", hint=levels.ONE_TABLE)


def _described(description: str, given_by: Right | Beyond) -> str:
    if given_by == Beyond.NOT_OFFERED:
        return f"{description} (not offered here)"
    return f"{description} (the platform's staff only)" if given_by == Beyond.STAFF else description
