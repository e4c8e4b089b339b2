"""Pace: how many calls a caller may make in a time, counted by all processes together.

The window slides by the well-known approximation with two counters: what was let through in the fixed window before,
by the share of it that the sliding window still covers and rounded, and what was let through in this one. It errs by
half a call either way, so that a caller who never pauses gets exactly the pace allowed. Only calls that were let
through count: whoever keeps on knocking is let in again as soon as whoever waits. Of a caller nothing is kept but a
keyed hash. See CONTRIBUTING.md, 2026-11-25.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil, floor

import structlog
from django.conf import settings
from django.db import connection
from django.http import HttpRequest

from accounts import audit
from accounts.callers import Caller, address_of
from accounts.errors import Refusal
from accounts.models import PaceCount, Team, User

log = structlog.get_logger(__name__)

# SQL, since the ORM can say neither "insert, or else add to what is there" nor hand back what became of it. In one
# statement, since the row's lock then lets the calls of all processes in one by one: each is judged by those before it.
COUNT = """
INSERT INTO accounts_pacecount AS kept (key, before, calls, refused, is_refused, forget_at)
SELECT %(key)s, before, has_room::int, (NOT has_room)::int, NOT has_room, %(forget_at)s
FROM (
    SELECT before, FLOOR(before * %(overlap)s + 0.5) < %(limit)s AS has_room
    FROM (SELECT COALESCE((SELECT calls FROM accounts_pacecount WHERE key = %(key_before)s), 0) AS before) AS found
) AS judged
ON CONFLICT (key) DO UPDATE SET (calls, refused, is_refused) = (
    SELECT kept.calls + has_room::int, kept.refused + (NOT has_room)::int, NOT has_room
    FROM (SELECT kept.calls + FLOOR(kept.before * %(overlap)s + 0.5) < %(limit)s AS has_room) AS judged
)
RETURNING before, calls, refused, is_refused
"""


@dataclass(frozen=True)
class Pace:
    """At most so many calls in so many seconds."""

    calls: int
    seconds: int


@dataclass(frozen=True)
class Standing:
    """Where a caller stands after a call; `is_exceeded` says that it was one too many, `is_first` that it was the window's first such.

    `resets_at` is in Unix seconds: the end of the window, or when the next call gets through where that is later.
    `retry_after` is in seconds from now, 0 unless exceeded.
    """

    limit: int
    remaining: int
    resets_at: int
    is_exceeded: bool = False
    is_first: bool = False
    retry_after: int = 0


class TooManyRequests(Refusal):
    """The caller is faster than the pace allows."""

    code = "rate_limit_exceeded"
    status = 429

    def __init__(self, standing: Standing) -> None:
        super().__init__(
            "Rate limit exceeded. Please try again later.",
            hint=f"Wait {standing.retry_after} seconds.",
            details={"retry_after": standing.retry_after},
        )


def is_on() -> bool:
    return settings.RATE_LIMIT_CALLS > 0


def count(key: str, pace: Pace, *, now: datetime) -> Standing:
    """Count one call under `key`, which names what is called and by whom, and say where the caller stands."""
    window, passed = divmod(now.timestamp(), pace.seconds)
    overlap = 1 - passed / pace.seconds
    ends_at = int(window + 1) * pace.seconds
    asked: dict[str, str | int | float | datetime] = {
        "key": _row(key, pace, window),
        "key_before": _row(key, pace, window - 1),
        "overlap": overlap,
        "limit": pace.calls,
        # The next window still looks at this one.
        "forget_at": datetime.fromtimestamp(ends_at, UTC) + timedelta(seconds=pace.seconds),
    }
    with connection.cursor() as cursor:
        cursor.execute(COUNT, asked)
        before, calls, refused, is_refused = cursor.fetchone()
    if not is_refused:
        return Standing(pace.calls, max(0, pace.calls - calls - floor(before * overlap + 0.5)), ends_at)
    wait = _seconds_until_room(pace, before=before, calls=calls, passed=passed)
    return Standing(pace.calls, 0, max(ends_at, ceil(now.timestamp()) + wait), is_exceeded=True, is_first=refused == 1, retry_after=wait)


def spend(
    request: HttpRequest,
    key: str,
    pace: Pace,
    *,
    now: datetime,
    what: str,
    team: Team | None = None,
    by: User | None = None,
    caller: Callable[[], Caller | None] | None = None,
) -> None:
    """Count a request, unless pace is off, and note on it where its caller stands, for the answer's headers.

    The first that is refused in a window leaves a line in the audit trail: in the chain of the caller's team, else of
    `team`, else of the platform. `caller` is called for that line only. `what` names in it what was asked for.

    Raises TooManyRequests.
    """
    if not is_on():
        return
    standing = count(key, pace, now=now)
    shown = getattr(request, "pace", None)
    if shown is None or standing.remaining <= shown.remaining:
        request.pace = standing  # type: ignore[attr-defined]
    if standing.is_first:
        found = caller() if caller else None
        team = found.team if found else team
        log.warning("pace.exceeded", what=what, team=team.slug if team else "")
        audit.record(
            team=team,
            event_type="security.rate_limited",
            action=f"Turned a caller away: more than {pace.calls} requests in {pace.seconds} seconds ({what})",
            caller=found,
            by=by,
            target_type="rate_limit",
            target_id=what,
            address=address_of(request),
        )
    if standing.is_exceeded:
        raise TooManyRequests(standing)


def stranger(request: HttpRequest) -> str:
    """The key of a caller whom only the address tells from others. One host on IPv6 has a whole /64 to itself, so that counts as one."""
    address = address_of(request)
    if ":" in address:
        address = str(ipaddress.ip_network((address, 64), strict=False))
    return f"address:{address}"


def forget(*, before: datetime) -> int:
    """Drop the counts that no window looks at any more; says how many."""
    dropped, _ = PaceCount.objects.filter(forget_at__lt=before).delete()
    return dropped


def _row(key: str, pace: Pace, window: float) -> str:
    """The primary key of one caller's count in one window. Keyed, since a bare hash of an address is soon guessed."""
    name = f"{key} {pace.seconds} {int(window)}"
    return hmac.new(settings.SECRET_KEY.encode(), f"accounts.pacing {name}".encode(errors="replace"), hashlib.sha256).hexdigest()


def _seconds_until_room(pace: Pace, *, before: int, calls: int, passed: float) -> int:
    """Whole seconds after which the next call gets through, if the caller makes none until then."""
    if calls < pace.calls:
        # Room comes within this window, as the one before fades.
        wait = pace.seconds * (1 - (pace.calls - calls - 0.5) / before) - passed
    else:
        wait = pace.seconds - passed + pace.seconds * max(0.0, 1 - (pace.calls - 0.5) / calls)
    return max(0, floor(wait)) + 1
