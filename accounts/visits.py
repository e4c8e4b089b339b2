"""Who has something open for long: whether they would still be let in, and with which rights."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.contrib.sessions.models import Session
from django.http import HttpRequest

from accounts.callers import Caller, renewed
from accounts.sessionstore import kept_as

SIGNED_OUT = "signed_out"
PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a word
NOT_LET_IN = "access_ended"


@dataclass(frozen=True)
class Visit:
    """A caller, and for a person the session that they came by; a token has none. `reason` says why it is over, "" while it is not."""

    caller: Caller
    session: str = ""
    proof: str = ""
    reason: str = ""


def begin(request: HttpRequest, caller: Caller) -> Visit:
    """A visit that begins with this request."""
    if caller.token is not None:
        return Visit(caller)
    return Visit(caller, session=kept_as(request.session.session_key), proof=caller.user.get_session_auth_hash())


def looked_after(visits: Sequence[Visit], *, now: datetime) -> list[Visit]:
    """The same visits as they are now. A few questions for however many."""
    keys = {visit.session for visit in visits if visit.session}
    open_ones = (
        set(Session.objects.filter(session_key__in=keys, expire_date__gt=now).values_list("session_key", flat=True)) if keys else set()
    )
    callers = renewed([visit.caller for visit in visits], now=now)
    return [_as_now(visit, caller, open_ones) for visit, caller in zip(visits, callers, strict=True)]


def _as_now(visit: Visit, caller: Caller | None, open_ones: set[str]) -> Visit:
    reason = ""
    if caller is None:
        reason = NOT_LET_IN
    elif visit.session and visit.session not in open_ones:
        reason = SIGNED_OUT
    elif visit.proof and visit.proof != caller.user.get_session_auth_hash():
        reason = PASSWORD_CHANGED
    return Visit(caller or visit.caller, session=visit.session, proof=visit.proof, reason=reason)
