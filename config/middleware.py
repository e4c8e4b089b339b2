"""What every request passes: a correlation id on the way in, and words for refusals and faults on the way out."""

import re
import uuid
from collections.abc import Callable

import structlog
from csp.constants import SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.conf import settings
from django.db import DataError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import render

from accounts.errors import Refusal
from config import errors
from config.api import fault_response, json_error

log = structlog.get_logger(__name__)

PLAIN_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
# What no page of ours asks a browser for, and so nothing that gets into one may.
FEATURES = "accelerometer camera display-capture geolocation gyroscope magnetometer microphone midi payment usb"
PERMISSIONS = ", ".join(f"{feature}=()" for feature in FEATURES.split())
# unfold's pages carry inline scripts and styles, and Alpine, which evaluates its attributes. Only staff see them.
ADMIN_POLICY = {"script-src": [SELF, UNSAFE_INLINE, UNSAFE_EVAL], "style-src": [SELF, UNSAFE_INLINE]}
FORWARDED = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Forwarded")


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


class PolicyMiddleware:
    """What browsers are told about each answer beside Django's own headers: what its page may do, and the administration's own policy."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response["Permissions-Policy"] = PERMISSIONS
        if request.path.startswith("/admin/"):
            response._csp_update = ADMIN_POLICY  # type: ignore[attr-defined]  # how django-csp's own decorators say it
        return response


class ProxyHintMiddleware:
    """Tells the operator once, in the log, that a proxy speaks for its clients and is not believed: all of them count as one address."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.has_told = bool(settings.TRUSTED_PROXIES)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not self.has_told and any(name in request.headers for name in FORWARDED):
            self.has_told = True
            log.warning("proxy.not_trusted", hint="If a proxy of yours stands in front, name its address in TUNEHOUSE_TRUSTED_PROXIES.")
        return self.get_response(request)


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
        if isinstance(exception, DataError):
            # A NUL in an address, mostly, as below /api/.
            return errors.bad_request(request, exception)
        if not isinstance(exception, Refusal):
            return None
        return render(request, "shared/refusal.html", {"refusal": exception}, status=exception.status)
