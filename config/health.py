"""Health of the process and of the product, for load balancers, `manage.py up` and people."""

import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.db.models import Min
from django.db.models.functions import Coalesce
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe
from rest_framework.exceptions import AuthenticationFailed

from accounts.authentication import known_caller, token_of
from config.api import json_error
from jobs.models import Breaker, Job
from jobs.models.breakers import BreakerState
from jobs.services import breakers
from jobs.states import State
from webhooks.models import Delivery

# Work that is due is begun within seconds; what waits for longer waits for workers.
LATE = timedelta(seconds=60)
OF_BREAKER = {BreakerState.CLOSED: "healthy", BreakerState.HALF_OPEN: "degraded", BreakerState.OPEN: "unhealthy"}
_STARTED = time.monotonic()


@login_not_required
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """The process answers. Never touches the database."""
    return JsonResponse({"status": "ok"})


@login_not_required
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """The process can do its work: the database answers."""
    if _database()["status"] != "healthy":
        return json_error(request, status=503, detail="Not ready: the database cannot be reached.", code="not_ready")
    return JsonResponse({"status": "ready"})


@login_not_required
@require_safe
def overview(request: HttpRequest) -> JsonResponse:
    """How the product fares: to strangers in a word, to whoever is known part by part. 503 only where nothing works.

    Of the circuit breakers people see those of their team's credentials, staff all. Source: simpletuner-api.md 13.
    """
    now, database = timezone.now(), _database()
    if database["status"] != "healthy":
        return JsonResponse(_body([database], now=now), status=503)
    try:
        token_of(request)
    except AuthenticationFailed as error:
        return json_error(request, status=401, detail=str(error.detail), code="invalid_token")
    is_known = request.user.is_authenticated or known_caller(request) is not None
    body = _body([database, *components(request, now=now)], now=now)
    return JsonResponse(body if is_known else {"status": body["status"]})


def components(request: HttpRequest, *, now: datetime) -> list[dict[str, Any]]:
    """The queue and those breakers that whoever asks may see."""
    return [_queue(now), *_breakers(request, now=now)]


def lag(*, now: datetime) -> timedelta:
    """For how long the oldest work waits that could go on now: a delivery to be applied, or a job to be sent. Zero where none does."""
    delivery = Delivery.objects.due(now=now).aggregate(since=Min(Coalesce("try_after", "received_at")))["since"]
    unsent = Job.objects.filter(state=State.UPLOADING, prediction_id=None).unleased(now=now)
    job = unsent.aggregate(since=Min(Coalesce("try_after", "dispatched_at", "submitted_at")))["since"]
    return max((now - since for since in (delivery, job) if since is not None), default=timedelta())


def _database() -> dict[str, Any]:
    begun = time.perf_counter()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return _component("database", "unhealthy", "The database cannot be reached.")
    return _component("database", "healthy", "It answers.", latency_ms=round((time.perf_counter() - begun) * 1000, 1))


def _queue(now: datetime) -> dict[str, Any]:
    waits = lag(now=now)
    said = f"The oldest work that is due waits for {waits.total_seconds():.0f} s." if waits else "Nothing that is due waits."
    return _component("queue", "degraded" if waits > LATE else "healthy", said)


def _breakers(request: HttpRequest, *, now: datetime) -> list[dict[str, Any]]:
    if getattr(request.user, "is_staff", False):
        rows: Iterable[Breaker] = Breaker.objects.select_related("credential").order_by("pk")
    else:
        caller = known_caller(request)
        rows = breakers.of_caller(caller) if caller else []
    return [_component(f"circuit_breaker_{row.name}", OF_BREAKER[state], str(state.value)) for row in rows for state in [row.state_at(now)]]


def _component(name: str, status: str, message: str, *, latency_ms: float | None = None) -> dict[str, Any]:
    return {"name": name, "status": status, "latency_ms": latency_ms, "message": message}


def _body(parts: list[dict[str, Any]], *, now: datetime) -> dict[str, Any]:
    """What is broken is bad, and all the rest goes on: only without its database nothing works."""
    words = {part["status"] for part in parts}
    is_down = parts[0]["status"] == "unhealthy"
    return {
        "status": "unhealthy" if is_down else "healthy" if words == {"healthy"} else "degraded",
        "version": settings.SPECTACULAR_SETTINGS["VERSION"],
        "uptime_seconds": round(time.monotonic() - _STARTED, 1),
        "components": parts,
        "timestamp": now.isoformat(),
    }
