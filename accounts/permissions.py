"""What an API view asks of its caller."""

from rest_framework.exceptions import NotAuthenticated
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from accounts import confirmation
from accounts.callers import Caller
from accounts.errors import NotPermitted
from accounts.roles import Right

# SimpleTuner's command line prints its sign-in help on the first two words.
NOBODY = "Authentication required. Send an API key as X-API-Key or Authorization: Bearer."


class IsCaller(BasePermission):
    """Anybody who is known: a member of a team, or a token."""

    def has_permission(self, request: Request, view: object) -> bool:
        return bool(_caller(request))


class IsPerson(BasePermission):
    """Anybody who is known, also who names no team: 401 for nobody."""

    def has_permission(self, request: Request, view: object) -> bool:
        if not request.user or not request.user.is_authenticated:
            raise NotAuthenticated(NOBODY)
        return True


def needs(right: Right, *, permission: str = "") -> type[BasePermission]:
    """The permission class that lets callers with this right through: 401 for nobody, 403 with the missing permission's name else."""

    class NeedsRight(BasePermission):
        def has_permission(self, request: Request, view: object) -> bool:
            _caller(request).require(right, permission=permission)
            return True

    return NeedsRight


class ConfirmationRequired(NotPermitted):
    """Somebody signed in long ago wants to change a secret, or who may do what."""

    code = "confirmation_required"


class IsConfirmed(BasePermission):
    """For doors that give or take a secret, or change people: a person has signed in, or confirmed it, lately.

    A token is its own confirmation, and reading needs none. It stands behind a class that says who is let in at all.
    """

    def has_permission(self, request: Request, view: object) -> bool:
        if request.method in SAFE_METHODS or getattr(request.auth, "token", None) is not None:
            return True
        if not confirmation.is_recent(request._request):
            raise ConfirmationRequired(
                "You signed in some time ago; confirm that it is you first.",
                hint="Confirm it under /accounts/reauthenticate/, then try again.",
            )
        return True


def _caller(request: Request) -> Caller:
    if not isinstance(request.auth, Caller):
        raise NotAuthenticated(NOBODY)
    return request.auth
