"""The doors of the API: a team's token in a header, or the cookie of somebody who is signed in.

Both answer (user, Caller): `request.user` is the person, or the maker of the token, and `request.auth` the Caller.
"""

import copy

from django.http import QueryDict
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from accounts import tokens
from accounts.callers import Caller, address_of, member_caller
from accounts.errors import InvalidInput, NotFound, NotPermitted
from accounts.models import Membership, User

SCHEMES = {"bearer", "apikey"}
WRONG_TOKEN = "The API token is not valid. It may be mistyped, expired or revoked."  # noqa: S105 - a sentence


class TeamRequired(InvalidInput):
    """A cookie names a person, and the person has several teams, or none."""

    code = "team_required"


class TokenAuthentication(BaseAuthentication):
    """`X-API-Key: …`, `Authorization: Bearer …` or `Authorization: ApiKey …`. A wrong one is 401, also where none is needed.

    Source: SimpleTuner docs, documentation/experimental/server/ENTERPRISE.md, "API keys".
    """

    def authenticate(self, request: Request) -> tuple[User, Caller] | None:
        plain = _token_in(request)
        if plain is None:
            return None
        now = timezone.now()
        address = address_of(request)
        token = tokens.find(plain, address=address, now=now)
        if token is None or token.made_by is None:
            raise AuthenticationFailed(WRONG_TOKEN)
        caller = Caller(team=token.team, user=token.made_by, role=token.role, rights=token.rights, token=token, address=address)
        tokens.mark_used(token, address=address, endpoint=_endpoint(request), now=now)
        _refuse_changes_while_suspended(request, caller)
        return caller.user, caller

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class CookieAuthentication(SessionAuthentication):
    """The portal's session. Writes need the header `X-CSRFToken`; the team is `?team=` or `X-Team` (its slug), else the only one.

    Raises TeamRequired, and NotFound for a team that the person is not a member of.
    """

    def authenticate(self, request: Request) -> tuple[User, Caller] | None:
        user = request._request.user
        if not user.is_authenticated:
            return None
        self.enforce_csrf(request)
        caller = member_caller(request, _membership(request, user))
        _refuse_changes_while_suspended(request, caller)
        return caller.user, caller

    def enforce_csrf(self, request: Request) -> None:
        # Only the header counts: looking into the form would read a whole upload before its sender is known.
        without_body = copy.copy(request._request)
        without_body.POST = QueryDict()
        super().enforce_csrf(without_body)  # type: ignore[arg-type]


def _token_in(request: Request) -> str | None:
    """The token that the request carries, perhaps empty; None if it carries none. Other schemes are not ours to judge."""
    key = request.headers.get("X-API-Key")
    if key is not None:
        return key.strip()
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    return rest.strip() if scheme.lower() in SCHEMES else None


def _endpoint(request: Request) -> str:
    """Method and route, without the ids in the path."""
    match = request._request.resolver_match
    return f"{request.method} /{match.route if match else ''}"


def _membership(request: Request, user: User) -> Membership:
    """The membership that a cookie call means."""
    mine = Membership.objects.select_related("team", "user").filter(user=user)
    named = request.query_params.get("team") or request.headers.get("X-Team")
    if named:
        membership = mine.filter(team__slug=named).first()
        if membership is None:
            raise NotFound("No such team, or you are not a member of it.")
        return membership
    found = list(mine[:2])
    if not found:
        raise TeamRequired("You are not a member of any team.", hint="Ask an owner of a team to invite you.", field="team")
    if len(found) > 1:
        raise TeamRequired("You belong to several teams: say which one.", hint="Add ?team=<slug> or the header X-Team.", field="team")
    return found[0]


def _refuse_changes_while_suspended(request: Request, caller: Caller) -> None:
    if caller.team.is_suspended and request.method not in SAFE_METHODS:
        raise NotPermitted(
            f"The team {caller.team} is suspended: its work can be read, and nothing can be changed.",
            hint="Ask an administrator of this installation.",
        )
