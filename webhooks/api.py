"""Testing the webhook address by API. Every test answers 200 and says in `success` how it went."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import caller_in, fields_of
from accounts.errors import InvalidInput
from accounts.permissions import needs
from accounts.roles import Right
from jobs import settingkeys
from jobs.api.provider import require_replicate
from webhooks import external_check, testing
from webhooks.testing import LONGEST_TIMEOUT_SECONDS, Outcome

METHODS = ("direct", "replicate_cog")


class Managing(APIView):
    """Who manages the team tests its addresses."""

    permission_classes = [needs(Right.MANAGE, permission="admin.config")]


class TestWebhook(Managing):
    def post(self, request: Request, provider: str) -> Response:
        """Post a marked, signed test from this server to the team's webhook address, and say plainly what is wrong."""
        require_replicate(provider)
        outcome = testing.probe(caller_in(request))
        return Response(_shown(outcome, status_code=outcome.status_code))


class TestWebhookFromOutside(Managing):
    def post(self, request: Request, provider: str) -> Response:
        """Let a machine of the provider call the team's webhook address: up to a minute, for at most a minute of CPU time."""
        require_replicate(provider)
        outcome = external_check.check(caller_in(request))
        more = {"status_code": outcome.status_code, "prediction_id": outcome.prediction_id, "details": outcome.details}
        return Response(_shown(outcome, **more))


class TestAddress(Managing):
    def post(self, request: Request) -> Response:
        """Test any public webhook address: `direct` from this server, `replicate_cog` from the provider, which costs cents."""
        given = fields_of(request)
        require_replicate(_text(given, "provider", default="replicate"))
        url, method = _text(given, "webhook_url"), _text(given, "method", default="direct")
        if method not in METHODS:
            raise InvalidInput(f"method must be one of: {', '.join(METHODS)}.", field="method")
        seconds = given.get("timeout", LONGEST_TIMEOUT_SECONDS)
        if not settingkeys.is_number(seconds) or not 0 < seconds <= LONGEST_TIMEOUT_SECONDS:
            raise InvalidInput("timeout must be a number of seconds above 0 and at most 30.", field="timeout")
        test = testing.probe if method == "direct" else external_check.check
        outcome = test(caller_in(request), url=url, timeout_seconds=seconds)
        return Response(_shown(outcome, status_code=outcome.status_code, method=method))


def _shown(outcome: Outcome, **more: Any) -> dict[str, Any]:
    return {
        "success": outcome.success,
        "message": outcome.message,
        "latency_ms": outcome.latency_ms,
        "error": None if outcome.success else outcome.message,
        "reason": outcome.reason,
        **more,
    }


def _text(given: dict[str, Any], name: str, *, default: str = "") -> str:
    """Text out of the body; null stands for the default. Raises InvalidInput for anything else, and for what is missing."""
    value = given.get(name) or default
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"Send {name} as text.", field=name)
    return value
