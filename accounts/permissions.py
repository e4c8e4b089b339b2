"""What an API view asks of its caller."""

from rest_framework.exceptions import NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.callers import Caller
from accounts.roles import Right

# SimpleTuner's command line prints its sign-in help on the first two words.
NOBODY = "Authentication required. Send an API key as X-API-Key or Authorization: Bearer."


class IsCaller(BasePermission):
    """Anybody who is known: a member of a team, or a token."""

    def has_permission(self, request: Request, view: object) -> bool:
        return bool(_caller(request))


def needs(right: Right, *, permission: str = "") -> type[BasePermission]:
    """The permission class that lets callers with this right through: 401 for nobody, 403 with the missing permission's name else."""

    class NeedsRight(BasePermission):
        def has_permission(self, request: Request, view: object) -> bool:
            _caller(request).require(right, permission=permission)
            return True

    return NeedsRight


def _caller(request: Request) -> Caller:
    if not isinstance(request.auth, Caller):
        raise NotAuthenticated(NOBODY)
    return request.auth
