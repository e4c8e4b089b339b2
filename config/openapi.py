"""The API's description: every path with a sentence, its credentials and the one body of its refusals.

The sentence is the docstring of the view's method, else that of the view.
"""

import re
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from config import pacing

Endpoint = tuple[str, str, str, Any]

# Served by plain Django views, which the generator does not see.
PLAIN = {
    ("/api/webhooks/replicate", "post"): "Take a delivery of Replicate in, by its signature. Also at /api/cloud/webhooks/replicate.",
    ("/api/cloud/health", "get"): "Say how the product fares: its database, its queue, and the ways to the provider.",
    ("/api/cloud/health/live", "get"): "Say that the process answers.",
    ("/api/cloud/health/ready", "get"): "Say that the process can do its work: the database answers.",
    ("/api/cloud/storage/{bucket}", "get"): "List a bucket, as S3 does.",
    ("/api/cloud/storage/{bucket}/{key}", "get"): "Read an object, as S3 does; HEAD, PUT, POST and DELETE work as there.",
}
OPEN = ("/api/cloud/health", "/api/cloud/health/live", "/api/cloud/health/ready", "/api/webhooks/replicate")


PACE_HEADERS = [
    OpenApiParameter(name, int, OpenApiParameter.HEADER, description=description, response=True)
    for name, description in {
        "X-RateLimit-Limit": "Calls that the caller may make in a window of time.",
        "X-RateLimit-Remaining": "Calls that are left of them.",
        "X-RateLimit-Reset": "When counting begins anew, in Unix seconds. A refusal (429) says in Retry-After how many seconds to wait.",
    }.items()
]


class FieldError(serializers.Serializer[Any]):
    """One thing that is wrong with the body."""

    field = serializers.CharField(allow_null=True)
    message = serializers.CharField()
    type = serializers.CharField()


class RefusalBody(serializers.Serializer[Any]):
    """The body of every refusal: `detail` says what is wrong, `hint` what to do, `code` is for programs."""

    detail = serializers.CharField()
    code = serializers.CharField()
    hint = serializers.CharField(allow_blank=True)
    field = serializers.CharField(allow_null=True)
    error = serializers.CharField()
    success = serializers.BooleanField()
    status_code = serializers.IntegerField()
    request_id = serializers.CharField()
    errors = FieldError(many=True)  # type: ignore[assignment]  # as above
    details = serializers.DictField()


class Documented(AutoSchema):
    """Describes views that read and answer plain JSON objects."""

    def get_operation_id(self) -> str:
        return operation_id(self.method, self.path)

    def get_summary(self) -> str | None:
        said = super().get_summary() or self.get_description()
        return re.split(r"(?<=[.:;])\s", said, maxsplit=1)[0].rstrip(".:;") if said else None

    def get_override_parameters(self) -> Any:
        return PACE_HEADERS if pacing.is_limited(self.method, self.path) else []

    def get_request_serializer(self) -> Any:
        return OpenApiTypes.OBJECT if self.method in ("POST", "PUT", "PATCH") else None

    def get_response_serializers(self) -> Any:
        return {200: OpenApiTypes.OBJECT, "default": RefusalBody}

    def get_tags(self) -> list[str]:
        parts = self.path.strip("/").removeprefix("api/").split("/")
        return [parts[1] if parts[0] == "cloud" and len(parts) > 1 else parts[0]]


class TokenScheme(OpenApiAuthenticationExtension):
    """A team's token, in either of its headers."""

    target_class = "accounts.authentication.TokenAuthentication"
    name = ["token", "key"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, str]]:
        return [{"type": "http", "scheme": "bearer"}, {"type": "apiKey", "in": "header", "name": "X-API-Key"}]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[str]]]:
        # Either will do; in one entry both would be needed.
        return [{name: []} for name in self.name]


class CookieScheme(OpenApiAuthenticationExtension):
    """The portal's session; writes need the header X-CSRFToken as well."""

    target_class = "accounts.authentication.CookieAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}


class StaffScheme(CookieScheme):
    """The same session, where staff may also name the platform by ?team=platform."""

    target_class = "accounts.authentication.StaffOrMemberAuthentication"
    name = "staff"


class PersonScheme(CookieScheme):
    """The same session for what is about people, where no team need be named."""

    target_class = "accounts.authentication.PersonAuthentication"
    name = "person"


def operation_id(method: str, path: str) -> str:
    """A name for each method of each path: `get_cloud_jobs_job_id`."""
    return "_".join([method.lower(), *re.findall(r"[\w-]+", path.removeprefix("/api/"))])


def without_slashes(endpoints: list[Endpoint]) -> list[Endpoint]:
    """Name each path without the trailing slash, with which it is served as well."""
    return [(path.rstrip("/"), regex, method, view) for path, regex, method, view in endpoints]


def with_plain_views(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add what plain Django views serve."""
    for (path, method), sentence in PLAIN.items():
        result["paths"].setdefault(path, {})[method] = {
            "operationId": operation_id(method, path),
            "summary": sentence.split(". ")[0].rstrip("."),
            "description": sentence,
            "tags": [path.strip("/").split("/")[2] if "/cloud/" in path else "webhooks"],
            "parameters": [
                {"in": "path", "name": name, "required": True, "schema": {"type": "string"}} for name in re.findall(r"{(\w+)}", path)
            ],
            "security": [{}] if path in OPEN else [{"token": []}],
            "responses": {"200": {"description": ""}},
        }
    result["paths"] = dict(sorted(result["paths"].items()))
    return result
