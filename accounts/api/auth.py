"""Signing in and out, the first administrator, and passwords by API."""

from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.middleware.csrf import get_token
from django.views.decorators.debug import sensitive_variables
from rest_framework.permissions import SAFE_METHODS, AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import external, registration, setup, signing_in, users
from accounts.api import fields_of
from accounts.api.reading import flag, secret, text
from accounts.api.rendering import person
from accounts.authentication import PersonAuthentication, TokenAuthentication
from accounts.callers import address_of
from accounts.errors import NotOffered, NotPermitted
from accounts.models import User
from accounts.oversight import Overseer
from accounts.permissions import IsPerson

BY_ENVIRONMENT = "Other ways to sign in are set up in this server's environment, not by API."
FIRST_TEAM = "Main"


class Public(APIView):
    """Open to everybody; a token that is wrong is refused all the same."""

    authentication_classes = [TokenAuthentication, PersonAuthentication]
    permission_classes = [AllowAny]


class Entrance(APIView):
    """Where somebody becomes somebody: whatever session the call came with plays no part."""

    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        _refuse_foreign_pages(request)


class OwnAccount(APIView):
    """What is a person's own: for the person who is signed in. A team's token may read it, as it may ask who it is."""

    authentication_classes = [TokenAuthentication, PersonAuthentication]
    permission_classes = [IsPerson]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method not in SAFE_METHODS and getattr(request.auth, "token", None) is not None:
            raise NotPermitted("A team's token does not change its maker's account.", hint="Sign in to the portal.")


class SetupStatus(Public):
    """Whether the installation waits for its first administrator."""

    def get(self, request: Request) -> Response:
        """`needs_setup` while nobody has an account; how many have; and whether people may make accounts for themselves."""
        return Response(
            {
                "needs_setup": setup.is_needed(),
                "has_admin": User.objects.filter(is_superuser=True, is_active=True).exists(),
                "user_count": User.objects.count(),
                "registration_enabled": registration.current().is_open,
            }
        )


class FirstAdmin(Entrance):
    """The first administrator of a new installation."""

    @sensitive_variables()
    def post(self, request: Request) -> Response:
        """Make them, with a first team (`team_name`) that they own, and let them in for 30 days. 409 once somebody is there."""
        given = fields_of(request)
        if not setup.is_needed():
            raise setup.done()
        email, username, password = _account(given)
        display_name = text(given, "display_name", most=100)
        team_name = text(given, "team_name", most=100, least=1, default=FIRST_TEAM)
        users.check_new(email=email, username=username, password=password, display_name=display_name)
        founded = setup.found(
            email=email,
            username=username,
            password=password,
            display_name=display_name,
            team_name=team_name,
            address=address_of(request._request),
        )
        signing_in.let_in(request._request, founded.administrator, stay=signing_in.LONG_STAY)
        return _welcome(request, founded.administrator, "The administrator's account was made, and you are signed in.")


class Login(Entrance):
    @sensitive_variables()
    def post(self, request: Request) -> Response:
        """Sign in by user name or e-mail address. `remember_me` makes the session last 30 days instead of 24 hours.

        Whoever has a second factor signs in on the page instead: 401 `mfa_required`.
        """
        given = fields_of(request)
        name, password = text(given, "username", most=254, least=1), secret(given, "password")
        found = signing_in.sign_in(request._request, name=name, password=password, is_long=flag(given, "remember_me"))
        return _welcome(request, found, "Signed in.")


class Register(Entrance):
    @sensitive_variables()
    def post(self, request: Request) -> Response:
        """Make an account for oneself, where staff allow it. It is in no team until an owner takes it in."""
        if not registration.current().is_open:
            raise NotPermitted("Accounts are made by invitation here.", hint="Ask an owner of your team to invite you.")
        given = fields_of(request)
        email, username, password = _account(given)
        made = signing_in.register(
            request._request, email=email, username=username, password=password, display_name=text(given, "display_name", most=100)
        )
        return _welcome(request, made, "Your account was made, and you are signed in.")


class Logout(Public):
    def post(self, request: Request) -> Response:
        """End the session of the cookie, if there is one. A token stays as it is."""
        logout(request._request)
        return Response({"success": True})


class Check(Public):
    """Whether somebody is signed in."""

    def get(self, request: Request) -> Response:
        """And who. For a token it is its maker."""
        if not request.user.is_authenticated:
            return Response({"authenticated": False})
        user = request.user
        return Response({"authenticated": True, "user_id": user.pk, "username": user.username, "is_admin": user.is_staff})


class Password(OwnAccount):
    """The password of whoever is signed in."""

    @sensitive_variables()
    def post(self, request: Request) -> Response:
        """Change it; the current one is asked for. Other sessions end."""
        given = fields_of(request)
        current, new = secret(given, "current_password"), secret(given, "new_password")
        signing_in.change_password(request._request, request.user, current=current, new=new)  # type: ignore[arg-type]
        return Response({"success": True})

    def put(self, request: Request) -> Response:
        """The same as POST."""
        return self.post(request)


class ExternalAvailable(Public):
    """Other ways to sign in than by password."""

    def get(self, request: Request) -> Response:
        """Their names and kinds, as the server's environment sets them up; none is an empty list."""
        return Response({"providers": [{"name": way.name, "type": way.type} for way in external.available()]})


class ExternalNotOffered(Public):
    """What SimpleTuner's server sets up by API, or does without the sign-in page."""

    def get(self, request: Request, **_: Any) -> Response:
        """Not offered: 501."""
        raise NotOffered(BY_ENVIRONMENT, hint="People choose among them on the sign-in page, /accounts/login/.")

    def post(self, request: Request, **_: Any) -> Response:
        """Not offered: 501."""
        return self.get(request)

    def patch(self, request: Request, **_: Any) -> Response:
        """Not offered: 501."""
        return self.get(request)

    def delete(self, request: Request, **_: Any) -> Response:
        """Not offered: 501."""
        return self.get(request)


def _account(given: dict[str, Any]) -> tuple[str, str, str]:
    return text(given, "email", most=254, least=3), text(given, "username", most=50, least=3), secret(given, "password")


def _welcome(request: Request, user: User, message: str) -> Response:
    # Their next write needs the token that belongs to the new session, in the header X-CSRFToken.
    get_token(request._request)
    own = Overseer(user=user, address=address_of(request._request), caller=None, team=None)
    return Response({"success": True, "user": person(user, own), "message": message})


def _refuse_foreign_pages(request: Request) -> None:
    """A page elsewhere must not sign its visitors in as somebody; programs send no Origin."""
    origin = request.headers.get("Origin")
    own = f"{request.scheme}://{request.get_host()}"
    if origin and origin != own and origin not in settings.CSRF_TRUSTED_ORIGINS:
        raise NotPermitted("This call came from a page of another site.")
