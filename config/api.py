"""How the API reads requests and words its refusals: one error body everywhere below /api/."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NoReturn

import structlog
from django.core.exceptions import PermissionDenied
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from django.utils import timezone
from rest_framework import exceptions, parsers, renderers
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder

from accounts import denials
from accounts.authentication import known_caller
from accounts.errors import NotPermitted, Refusal

log = structlog.get_logger(__name__)

CODES = {
    400: "invalid_input",
    401: "authentication_required",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "upload_too_large",
    415: "invalid_payload",
    422: "validation_error",
    429: "rate_limit_exceeded",
    500: "internal_error",
    503: "not_ready",
}


class MoneyEncoder(JSONEncoder):
    """Decimals become JSON numbers: SimpleTuner's clients format them without a guard. The only floats of money."""

    def default(self, obj: Any) -> Any:
        return float(obj) if isinstance(obj, Decimal) else super().default(obj)


class JSONRenderer(renderers.JSONRenderer):
    encoder_class = MoneyEncoder


class AnyTypeJSONParser(parsers.BaseParser):
    """Reads JSON whatever the content type says, and an empty body as {}: `curl -d` names a form."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        raw = stream.read()
        if not raw.strip():
            return {}
        try:
            read = json.loads(raw, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise exceptions.ParseError(f"The body is not valid JSON: {error}.") from error
        # Such characters come by their escapes only: UTF-8 has no halves, and JSON no raw control characters.
        if b"\\u" in raw and any(UNKEEPABLE.search(text) for text in _texts(read)):
            raise exceptions.ParseError("The body holds a character that cannot be kept: NUL, or half of a character.")
        return read


# What PostgreSQL keeps neither as text nor as JSON.
UNKEEPABLE = re.compile("[\0\ud800-\udfff]")


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number in JSON")


def _texts(read: Any) -> Iterator[str]:
    """Every text in parsed JSON, names too."""
    waiting = [read]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            yield from value
            waiting += value.values()


def error_body(
    request: HttpRequest | Request | None,
    *,
    status: int,
    detail: str,
    code: str = "",
    hint: str = "",
    field: str | None = None,
    errors: list[dict[str, str]] | None = None,
    details: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The body of every refusal. `detail` is always one sentence: SimpleTuner's command line calls `.lower()` on it."""
    return {
        "detail": detail,
        "code": code or CODES.get(status, "error"),
        "hint": hint,
        "field": field,
        "error": detail,
        "success": False,
        "status_code": status,
        "request_id": getattr(getattr(request, "_request", request), "correlation_id", ""),
        "errors": errors or [],
        "details": details or {},
    }


def _first_problems(detail: Any, field: str = "") -> list[dict[str, str]]:
    """DRF's nested validation errors as a flat list of field, message and type."""
    if isinstance(detail, dict):
        return [problem for name, item in detail.items() for problem in _first_problems(item, f"{field}.{name}" if field else str(name))]
    if isinstance(detail, list):
        return [problem for item in detail for problem in _first_problems(item, field)]
    name = "" if field == "non_field_errors" else field
    return [{"field": name, "message": str(detail), "type": getattr(detail, "code", "invalid")}]


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Answer every refusal and every fault of DRF in one body; what is not expected goes on to the 500 page."""
    request = context.get("request")
    fields: dict[str, Any]
    headers: dict[str, str] = {}
    if isinstance(exc, NotPermitted):
        _note_denial(context["request"], exc)
    if (known := known_fault(exc)) is not None:
        fields, headers = known
    elif isinstance(exc, exceptions.ValidationError):
        problems = _first_problems(exc.detail)
        first = problems[0]
        sentence = f"{first['field']}: {first['message']}" if first["field"] else first["message"]
        fields = {"status": 400, "detail": sentence, "field": first["field"] or None, "errors": problems}
    elif isinstance(exc, exceptions.APIException):
        code = "invalid_payload" if isinstance(exc, exceptions.ParseError | exceptions.UnsupportedMediaType) else ""
        if isinstance(exc, exceptions.AuthenticationFailed):
            code = "invalid_token"
        fields = {"status": exc.status_code, "detail": str(exc.detail), "code": code}
        if exc.status_code == 401:
            headers["WWW-Authenticate"] = "Bearer"
        wait = getattr(exc, "wait", None)
        if wait:
            headers["Retry-After"] = str(int(wait))
    elif isinstance(exc, Http404):
        fields = {"status": 404, "detail": "Not found."}
    elif isinstance(exc, PermissionDenied):
        fields = {"status": 403, "detail": str(exc) or "Your role or token does not allow this."}
    else:
        return None
    return Response(error_body(request, **fields), status=fields["status"], headers=headers)


def _note_denial(request: Request, denied: NotPermitted) -> None:
    """Leave a line of a change that a member or a token may not make. Reading too much is no event."""
    caller = known_caller(request._request)
    if caller is not None and request.method not in SAFE_METHODS:
        permission = denied.details.get("required_permission") or denied.code
        asked_for = f"{request.method} {request.path}"
        denials.note(caller, permission=permission, asked_for=asked_for, now=timezone.now())


def known_fault(error: Exception) -> tuple[dict[str, Any], dict[str, str]] | None:
    """The error body's fields and the headers for what any view of ours may raise; None for what nobody expects."""
    if isinstance(error, Refusal):
        return refusal_fields(error), refusal_headers(error)
    if isinstance(error, OperationalError | InterfaceError):
        log.error("database.away", reason=str(error))
        detail = "The database cannot be reached. Nothing was changed; try again in a moment."
        return {"status": 503, "detail": detail}, {"Retry-After": "5"}
    if isinstance(error, DataError):
        # A NUL in a query, mostly: nobody's business but the caller's.
        return {"status": 400, "detail": "The request holds a character or a number that cannot be kept."}, {}
    return None


def refusal_fields(refusal: Refusal) -> dict[str, Any]:
    return {
        "status": refusal.status,
        "detail": refusal.detail,
        "code": refusal.code,
        "hint": refusal.hint,
        "field": refusal.field,
        "errors": refusal.details.get("errors"),
        "details": {name: item for name, item in refusal.details.items() if name != "errors"},
    }


def refusal_headers(refusal: Refusal) -> dict[str, str]:
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
    if "retry_after" in refusal.details:
        headers["Retry-After"] = str(refusal.details["retry_after"])
    return headers


def fault_response(request: HttpRequest, error: Exception) -> JsonResponse | None:
    """The answer to what a plain Django view below /api/ raised; None for what nobody expects."""
    known = known_fault(error)
    if known is None:
        return None
    fields, headers = known
    return JsonResponse(error_body(request, **fields), encoder=MoneyEncoder, status=fields["status"], headers=headers)


def json_error(request: HttpRequest, *, status: int, detail: str, **more: Any) -> JsonResponse:
    """The same body for plain Django views and for the error pages below /api/."""
    return JsonResponse(error_body(request, status=status, detail=detail, **more), status=status)
