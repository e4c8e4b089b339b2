"""The doors of the API: a team's token in a header, or the cookie of somebody who is signed in.

Both answer (user, Caller): `request.user` is the person, or the maker of the token, and `request.auth` the Caller.
"""

import copy
from typing import cast

from django.contrib.admindocs.views import simplify_regex
from django.db.models import Q
from django.http import HttpRequest, QueryDict
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from accounts import tokens
from accounts.callers import Caller, Staff, address_of, member_caller, require_active
from accounts.errors import InvalidInput, NotFound, Refusal
from accounts.models import PLATFORM, APIToken, Membership, Team, User
from accounts.oversight import Overseer

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
        token = token_of(request._request)
        if token is None:
            return None
        caller = token_caller(request._request, token)
        tokens.mark_used(token, address=caller.address, endpoint=_endpoint(request), now=timezone.now())
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
        caller = member_caller(request, _membership(request._request, user))
        _refuse_changes_while_suspended(request, caller)
        return caller.user, caller

    def enforce_csrf(self, request: Request) -> None:
        # Only the header counts: looking into the form would read a whole upload before its sender is known.
        without_body = copy.copy(request._request)
        without_body.POST = QueryDict()
        super().enforce_csrf(without_body)  # type: ignore[arg-type]


class StaffOrMemberAuthentication(CookieAuthentication):
    """The portal's session, where staff may also call for the platform: `?team=platform`. To all others that is no team."""

    def authenticate(self, request: Request) -> tuple[User, Caller | Staff] | None:  # type: ignore[override]
        user = request._request.user
        if not (user.is_authenticated and user.is_staff and _named_team(request._request) == PLATFORM):
            return super().authenticate(request)
        self.enforce_csrf(request)
        return user, Staff(user=user, address=address_of(request._request))


class PersonAuthentication(CookieAuthentication):
    """The portal's session for what is about people: `request.auth` is None where no team of theirs is plain.

    Staff may name any team, also one that they are not in, and `platform` for none. That a team is suspended is for
    `overseer_in` to say: people sign out and change their password all the same.
    """

    def authenticate(self, request: Request) -> tuple[User, Caller] | None:
        user = request._request.user
        if not user.is_authenticated:
            return None
        self.enforce_csrf(request)
        try:
            caller = member_caller(request._request, _membership(request._request, user))
        except TeamRequired:
            return user, None  # type: ignore[return-value]  # nobody's caller yet, as the class says
        except NotFound:
            if not user.is_staff:
                raise
            return user, None  # type: ignore[return-value]
        return caller.user, caller


def overseer_in(request: Request) -> Overseer:
    """Who calls, in view of people and teams. The view's permission has seen to it that somebody does.

    Raises NotFound, and NotPermitted for a change in a suspended team by anybody but staff.
    """
    caller = request.auth if isinstance(request.auth, Caller) else None
    user = cast(User, request.user)
    if caller is not None and not user.is_staff:
        _refuse_changes_while_suspended(request, caller)
    team = caller.team if caller else None
    named = _named_team(request._request)
    if caller is None and named and named != PLATFORM:
        # Only staff come this far with a team that is not theirs.
        team = Team.objects.filter(slug=named).first()
        if team is None:
            raise NotFound("No such team.", field="team")
    return Overseer(user=user, address=address_of(request._request), caller=caller, team=team)


def token_of(request: HttpRequest) -> APIToken | None:
    """The token that the request carries; None if it carries none. Looked up once, however often it is asked for.

    Raises AuthenticationFailed for a wrong one, and tokens.AddressNotAllowed.
    """
    if not hasattr(request, "api_token"):
        request.api_token = _looked_up(request)  # type: ignore[attr-defined]
    found: APIToken | Exception | None = request.api_token  # type: ignore[attr-defined]
    if isinstance(found, Exception):
        raise found
    return found


def _looked_up(request: HttpRequest) -> APIToken | Exception | None:
    plain = _token_in(request)
    if plain is None:
        return None
    try:
        token = tokens.find(plain, address=address_of(request), now=timezone.now())
    except tokens.AddressNotAllowed as refusal:
        return refusal
    return token or AuthenticationFailed(WRONG_TOKEN)


def token_caller(request: HttpRequest, token: APIToken) -> Caller:
    """The caller that a token makes of its maker."""
    maker = cast(User, token.made_by)  # a token without one is not found
    return Caller(team=token.team, user=maker, role=token.role, rights=token.rights, token=token, address=address_of(request))


def known_caller(request: HttpRequest) -> Caller | None:
    """Who calls, without asking whether they may; None for strangers, and for members who name none of their several teams."""
    try:
        token = token_of(request)
        if token is not None:
            return token_caller(request, token)
        return member_caller(request, _membership(request, request.user)) if request.user.is_authenticated else None
    except (AuthenticationFailed, Refusal):
        return None


def _token_in(request: HttpRequest) -> str | None:
    """The token that the request carries, perhaps empty; None if it carries none. Other schemes are not ours to judge."""
    key = request.headers.get("X-API-Key")
    if key is not None:
        return key.strip()
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    return rest.strip() if scheme.lower() in SCHEMES else None


def _endpoint(request: Request) -> str:
    """Method and route as people read it, without the ids in the path."""
    match = request._request.resolver_match
    return f"{request.method} {simplify_regex(match.route if match else '').rstrip('/')}"


def _named_team(request: HttpRequest) -> str | None:
    return request.GET.get("team") or request.headers.get("X-Team")


def _membership(request: HttpRequest, user: User) -> Membership:
    """The membership that a cookie call means."""
    mine = Membership.objects.select_related("team", "user").filter(user=user)
    named = _named_team(request)
    if named:
        # A team keeps the addresses that it had, so that scripts go on after it took another.
        membership = mine.filter(Q(team__slug=named) | Q(team__former_slugs__slug=named)).first()
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
    if request.method not in SAFE_METHODS:
        require_active(caller.team)
