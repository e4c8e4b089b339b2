"""What every API view reads from its request: who calls, and the fields of the body."""

from typing import Any, cast

from rest_framework.request import Request

from accounts.callers import Caller
from accounts.errors import InvalidInput


def caller_in(request: Request) -> Caller:
    """Who calls. The view's permission has seen to it that somebody does."""
    return cast(Caller, request.auth)


def fields_of(request: Request) -> dict[str, Any]:
    """The body as an object. Raises InvalidInput for a list or a bare value."""
    if not isinstance(request.data, dict):
        raise InvalidInput("The body must be a JSON object.")
    return request.data
