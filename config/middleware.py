"""What every request passes: a correlation id on the way in, and words for refusals and faults on the way out."""

import re
import uuid
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import render

from accounts.errors import Refusal
from config.api import fault_response, json_error

PLAIN_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class CorrelationMiddleware:
    """Binds the id to the logs and to `request.correlation_id`, and returns it under both of its names."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Correlation-ID") or request.headers.get("X-Request-ID") or ""
        correlation_id = given if PLAIN_ID.fullmatch(given) else uuid.uuid4().hex
        request.correlation_id = correlation_id  # type: ignore[attr-defined]
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(correlation_id=correlation_id)
        response = self.get_response(request)
        response["X-Correlation-ID"] = response["X-Request-ID"] = correlation_id
        return response


class RefusalMiddleware:
    """Turns what a plain view refuses into its answer: the error body below /api/, a page elsewhere."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        # Django's own decorators answer without a body.
        if isinstance(response, HttpResponseNotAllowed) and request.path.startswith("/api/"):
            refused = json_error(request, status=405, detail=f'Method "{request.method}" not allowed.')
            refused["Allow"] = response["Allow"]
            return refused
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if request.path.startswith("/api/"):
            return fault_response(request, exception)
        if not isinstance(exception, Refusal):
            return None
        return render(request, "shared/refusal.html", {"refusal": exception}, status=exception.status)
