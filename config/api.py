"""How the API reads requests and words its refusals: one error body everywhere below /api/."""

import json
from decimal import Decimal
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError
from django.http import Http404, HttpRequest, JsonResponse
from rest_framework import exceptions, parsers, renderers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder

from accounts.errors import Refusal

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
            return json.loads(raw, parse_float=Decimal)
        except ValueError as error:
            raise exceptions.ParseError(f"The body is not valid JSON: {error}.") from error


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
    body: dict[str, Any] = {
        "detail": detail,
        "code": code or CODES.get(status, "error"),
        "hint": hint,
        "field": field,
        "error": detail,
        "success": False,
        "status_code": status,
        "request_id": getattr(getattr(request, "_request", request), "correlation_id", ""),
        "details": details or {},
    }
    if errors:
        body["errors"] = errors
    return body


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
    if isinstance(exc, Refusal):
        fields, headers = refusal_fields(exc), refusal_headers(exc)
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
    elif isinstance(exc, DatabaseError):
        log.exception("request.failed")
        fields = {"status": 503, "detail": "The database cannot be reached. Nothing was changed; try again in a moment."}
        headers["Retry-After"] = "5"
    else:
        return None
    return Response(error_body(request, **fields), status=fields["status"], headers=headers)


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


def refusal_response(request: HttpRequest, refusal: Refusal) -> JsonResponse:
    """The answer to a refusal that a plain Django view raised."""
    body = error_body(request, **refusal_fields(refusal))
    return JsonResponse(body, encoder=MoneyEncoder, status=refusal.status, headers=refusal_headers(refusal))


def json_error(request: HttpRequest, *, status: int, detail: str, **more: Any) -> JsonResponse:
    """The same body for plain Django views and for the error pages below /api/."""
    return JsonResponse(error_body(request, status=status, detail=detail, **more), status=status)
