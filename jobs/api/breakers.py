"""Whether the provider is asked at all: the circuit breakers, as SimpleTuner's pages show them. Source: simpletuner-api.md, 13."""

from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import caller_in
from accounts.permissions import IsCaller
from jobs.models import Breaker
from jobs.models.breakers import BreakerState
from jobs.services import breakers


class CircuitBreakers(APIView):
    """One breaker for each credential that the caller's jobs may use."""

    permission_classes = [IsCaller]

    def get(self, request: Request) -> Response:
        """After five failures in a row a breaker opens; `retry_after` seconds later calls are tried again, one at a time.

        Jobs wait meanwhile (`waiting_reason` is `provider_down`), and submissions are taken as ever.
        """
        now = timezone.now()
        found = [_shown(row, now=now) for row in breakers.of_caller(caller_in(request))]
        return Response({"circuit_breakers": found, "total": len(found)})


def _shown(row: Breaker, *, now: datetime) -> dict[str, Any]:
    return {
        "name": row.name,
        "state": row.state_at(now).value,
        "failure_count": row.failures,
        "success_count": row.successes,
        "last_failure": row.last_failure_at.timestamp() if row.last_failure_at else None,
        "retry_after": row.seconds_left(now) if row.state == BreakerState.OPEN else None,
        "provider": row.credential.kind,
        "host": urlsplit(row.address).hostname,
        "credential": str(row.credential),
    }
