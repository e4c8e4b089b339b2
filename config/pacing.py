"""Pace limits on the API: who may ask for what, how often. Ahead of authentication: whoever is too fast learns nothing else.

Webhooks and the storage endpoint count by rules of their own, in their views; what they counted stands in their
answers' headers all the same.

Source: simpletuner-api.md 1.6, the column "Serve".
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from rest_framework.exceptions import AuthenticationFailed

from accounts import pacing
from accounts.authentication import known_caller, token_of
from accounts.errors import Refusal
from accounts.pacing import Pace
from config.api import fault_response

# More than any name and password; who sends more is counted as nobody in particular.
LONGEST_LOGIN_BYTES = 64 * 1024
SIGNED_IN_FACTOR = 10


@dataclass(frozen=True)
class Route:
    """Some of the API's addresses, with and without a trailing slash; no methods means all."""

    path: str
    methods: str = ""

    def fits(self, method: str | None, path: str) -> bool:
        if self.methods and method not in self.methods.split():
            return False
        return re.fullmatch(rf"{self.path}/?", path, re.DOTALL) is not None


@dataclass(frozen=True)
class Limit:
    """One row of the table: what it is called in keys and in the audit trail, what it counts, and its pace."""

    name: str
    route: Route
    pace: Pace


# The first that fits decides.
LIMITS = (
    Limit("login", Route("/api/auth/login", "POST"), Pace(5, 60)),
    Limit("register", Route("/api/auth/(register|setup/first-admin)", "POST"), Pace(3, 60)),
    Limit("api keys", Route("/api/(cloud/)?auth/api-keys", "POST"), Pace(10, 60)),
    Limit("password", Route("/api/(users/me/password|auth/change-password)", "PUT POST"), Pace(5, 300)),
    Limit("submit", Route("/api/cloud/[a-z_]+/submit", "POST"), Pace(20, 60)),
    Limit("cancel", Route("/api/cloud/jobs/[^/]+/cancel", "POST"), Pace(30, 60)),
    Limit("quotas", Route("/api/quotas(/.*)?"), Pace(30, 60)),
)

UNLIMITED = (
    Route("/api/cloud/health.*"),
    Route("/api/metrics/health/(live|ready)"),
    Route("/api/events(/.*)?"),
    Route("/api/cloud/hints(/.*)?"),
    Route("/api/(users|auth)/me"),
    Route("/api/cloud/providers", "GET"),
    Route("/api/auth/(setup/status|check)"),
    Route("/api/cloud/jobs/[^/]+/logs/stream"),
    # Counted in their own views.
    Route("/api/(webhooks|cloud/webhooks?)/replicate"),
    Route("/api/cloud/storage(/.*)?"),
)


class PaceMiddleware:
    """Counts every limited request below /api/, refuses those that are too fast, and says in each answer how many are left.

    Comes right after Django's AuthenticationMiddleware, since who is signed in may do more.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not pacing.is_on():
            return self.get_response(request)
        response = _refused(request) or self.get_response(request)
        standing = getattr(request, "pace", None)
        if standing is not None:
            response["X-RateLimit-Limit"] = str(standing.limit)
            response["X-RateLimit-Remaining"] = str(standing.remaining)
            response["X-RateLimit-Reset"] = str(standing.resets_at)
        return response


def is_limited(method: str | None, path: str) -> bool:
    """Whether calls of this address count here."""
    return path.startswith("/api/") and not any(route.fits(method, path) for route in UNLIMITED)


def _refused(request: HttpRequest) -> HttpResponse | None:
    """The answer to a request that is too fast, or that cannot be counted since the database is away; None for all others."""
    if not is_limited(request.method, request.path):
        return None
    try:
        _count(request)
    except (Refusal, OperationalError, InterfaceError) as error:
        return fault_response(request, error)
    return None


def _count(request: HttpRequest) -> None:
    """Raises pacing.TooManyRequests."""
    now = timezone.now()
    who = _who(request)
    by = request.user if who.startswith("user:") else None
    for name, key, pace in _counts(request, who):
        pacing.spend(request, key, pace, now=now, what=name, by=by, caller=partial(known_caller, request))  # type: ignore[arg-type]


def _counts(request: HttpRequest, who: str) -> Iterator[tuple[str, str, Pace]]:
    """Under which names, keys and paces the request counts."""
    limit = next((limit for limit in LIMITS if limit.route.fits(request.method, request.path)), None)
    if limit is None:
        yield "api", f"api {who}", _general(who)
    elif limit.name == "cancel":
        # Of one job. All jobs may be cancelled in one go, as `jobs cancel --all` does, which stops at the first refusal.
        yield limit.name, f"cancel {request.path.rstrip('/')} {who}", limit.pace
        yield "api", f"api {who}", _general(who)
    else:
        yield limit.name, f"{limit.name} {who}", limit.pace
    if limit is not None and limit.name == "login":
        # From wherever it comes: many addresses must not guess one person's password.
        yield limit.name, f"login name:{_name_in(request)}", limit.pace


def _general(who: str) -> Pace:
    factor = 1 if who.startswith("address:") else SIGNED_IN_FACTOR
    return Pace(settings.RATE_LIMIT_CALLS * factor, settings.RATE_LIMIT_PERIOD)


def _who(request: HttpRequest) -> str:
    """Whose call it is: a valid token's, the signed-in person's, else the address's, as for every token that is wrong."""
    try:
        token = token_of(request)
    except (AuthenticationFailed, Refusal):
        return pacing.stranger(request)
    if token is not None:
        return f"token:{token.pk}"
    return f"user:{request.user.pk}" if request.user.is_authenticated else pacing.stranger(request)


def _name_in(request: HttpRequest) -> str:
    """The name that somebody wants to sign in by, "" for a body that has none."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > LONGEST_LOGIN_BYTES:
        return ""
    try:
        said = json.loads(request.body)
    except (ValueError, RecursionError):
        return ""
    name = said.get("username") if isinstance(said, dict) else None
    return name.strip().casefold() if isinstance(name, str) else ""
