"""What every API view reads from its request: who calls, the fields of the body, and numbers and times of the query."""

from datetime import datetime
from typing import Any, cast

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request

from accounts import moments
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


def number(request: Request, name: str, *, default: int, least: int, most: int) -> int:
    """A whole number of the query. Raises InvalidInput for anything else and out of bounds."""
    given = request.query_params.get(name)
    if given in (None, ""):
        return default
    try:
        value = int(str(given))
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise InvalidInput(f"{name} must be a whole number between {least} and {most}.", field=name)
    return value


def truth(request: Request, name: str) -> bool:
    """A yes or no of the query, no where it is missing. Raises InvalidInput: who misspells a safeguard must hear of it."""
    given = request.query_params.get(name, "").lower()
    if given not in ("", "0", "1", "false", "true", "no", "yes"):
        raise InvalidInput(f"{name} must be true or false.", field=name)
    return given in ("1", "true", "yes")


def moment(request: Request, name: str) -> datetime | None:
    """A date or time of the query, in UTC unless it says another zone. Raises InvalidInput."""
    given = request.query_params.get(name)
    if not given:
        return None
    read = moments.read(given)
    if read is None:
        raise InvalidInput(f"{name} must be a date or a time, like 2026-01-31 or 2026-01-31T12:00:00Z.", field=name)
    return read


class AnyAnswer(BaseContentNegotiation):
    """Answers what it has, whatever the client says that it wants: a stream is asked for by its address."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type
