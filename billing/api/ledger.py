"""A team's ledger by API: its lines, whether they prove themselves, and all of them as a file."""

from typing import Any

from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import exports
from accounts.api import AnyAnswer, caller_in, moment, number
from accounts.errors import InvalidInput
from accounts.models import User
from accounts.permissions import needs
from accounts.roles import Right
from billing import proving
from billing.models import LedgerLine, LineKind
from billing.prices import as_number

LAST_SEQUENCE = 2**63 - 1


class Ledger(APIView):
    """The lines of the team's ledger."""

    permission_classes = [needs(Right.SPEND)]

    @extend_schema(
        parameters=[
            OpenApiParameter("limit", int, description="How many lines, 1 to 500; 50 unless said."),
            OpenApiParameter("cursor", int, description="`next_cursor` of the answer before."),
            OpenApiParameter("kind", str, enum=LineKind.values),
            OpenApiParameter("job", str, description="The id of a job."),
            OpenApiParameter("since", str, description="Lines from this date or time on."),
            OpenApiParameter("until", str, description="Lines before this date or time."),
        ]
    )
    def get(self, request: Request) -> Response:
        """Newest first, a part at a time; `next_cursor` is null where no more follow. Amounts are US dollars as decimal text."""
        limit = number(request, "limit", default=50, least=1, most=500)
        cursor = number(request, "cursor", default=LAST_SEQUENCE, least=1, most=LAST_SEQUENCE)
        found = LedgerLine.objects.filter(team=caller_in(request).team, sequence__lt=cursor).order_by("-sequence")
        if kind := request.query_params.get("kind"):
            if kind not in LineKind.values:
                raise InvalidInput(f"Unknown kind '{kind}'. Valid ones: {', '.join(LineKind.values)}.", field="kind")
            found = found.filter(kind=kind)
        if job := request.query_params.get("job"):
            found = found.filter(reference=f"job:{job}"[:64])
        if since := moment(request, "since"):
            found = found.filter(at__gte=since)
        if until := moment(request, "until"):
            found = found.filter(at__lt=until)
        lines = list(found[: limit + 1])
        people = User.objects.in_bulk({line.made_by_id for line in lines if line.made_by_id})
        more, lines = len(lines) > limit, lines[:limit]
        return Response({"lines": [_line(line, people) for line in lines], "next_cursor": str(lines[-1].sequence) if more else None})


class LedgerVerify(APIView):
    """Whether the ledger proves itself."""

    permission_classes = [needs(Right.SPEND)]

    def get(self, request: Request) -> Response:
        """Walk along the whole chain, add it up, and name every line, hold and stored total that is wrong."""
        proof = proving.prove(caller_in(request).team)
        return Response(
            {
                "valid": proof.valid,
                "lines_checked": proof.verification.checked,
                "broken_lines": [{"line": line, "reason": reason} for line, reason in proof.verification.broken],
                "unbalanced_holds": [{"hold": hold, "reason": reason} for hold, reason in proof.unbalanced],
                "wrong_totals": list(map(str, proof.differences)),
                "last_line": proof.verification.ends.sequence,
                "last_hash": proof.verification.ends.hash,
                **_money("charged", proof.totals.charged),
                **_money("held", proof.totals.held),
            }
        )


class LedgerExport(APIView):
    """The whole ledger as a file."""

    permission_classes = [needs(Right.SPEND)]
    content_negotiation_class = AnyAnswer

    @extend_schema(responses={(200, "application/x-ndjson"): str, (200, "text/csv"): str})
    def get(self, request: Request) -> StreamingHttpResponse:
        """All lines as `format` jsonl (default) or csv, with what `manage.py verify_ledger FILE` needs to check them elsewhere."""
        form = request.query_params.get("format") or "jsonl"
        if form not in exports.CONTENT_TYPES:
            raise InvalidInput(f"Unknown format '{form}'. Valid ones: {', '.join(exports.CONTENT_TYPES)}.", field="format")
        return proving.download(request._request, caller_in(request).team, form)


def _money(name: str, micros: int) -> dict[str, Any]:
    return {name: f"{as_number(micros):f}", f"{name}_micros": micros}


def _line(line: LedgerLine, people: dict[int, User]) -> dict[str, Any]:
    by = people.get(line.made_by_id or 0)
    return {
        "sequence": line.sequence,
        "at": line.at.isoformat(),
        "kind": line.kind,
        **_money("amount", line.amount),
        "hold": line.hold_id,
        "price_line": line.price_line_id,
        "reference": line.reference or None,
        "job_id": line.reference.removeprefix("job:") if line.reference.startswith("job:") else None,
        "is_rehearsal": line.is_rehearsal,
        "reason": line.reason or None,
        "by": by.username if by else None,
        "correlation_id": line.correlation_id or None,
        "hash": line.hash,
        "previous_hash": line.previous_hash,
    }
