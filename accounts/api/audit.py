"""The audit trail by API: a team's chain for its callers, the platform's for staff.

Source: simpletuner-api.md, 2.9 and 16.1.
"""

from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import audit, events, exports, forwarding, trail
from accounts.api import AnyAnswer, fields_of, moment, number
from accounts.authentication import StaffOrMemberAuthentication, TokenAuthentication
from accounts.callers import Caller, Staff
from accounts.errors import InvalidInput, NotFound, NotPermitted
from accounts.models import AuditForwarding, AuditLine, Team, User
from accounts.permissions import needs
from accounts.roles import Right

BIGGEST_ID = 2**63 - 1


class ReadsAudit(BasePermission):
    """Callers with the right to read their team's chain, and staff. The platform's settings are changed by superusers."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.auth, Staff):
            return needs(Right.AUDIT, permission="admin.audit")().has_permission(request, view)
        if request.method not in SAFE_METHODS and not request.auth.user.is_superuser:
            raise NotPermitted("Only a superuser changes what belongs to the platform.", details={"required_permission": "admin.audit"})
        return True


class AuditView(APIView):
    """What the views of the trail share: staff name the platform's chain by `?team=platform` and the sign-in cookie."""

    authentication_classes = [TokenAuthentication, StaffOrMemberAuthentication]
    permission_classes = [ReadsAudit]

    def team(self, request: Request) -> Team | None:
        """Whose chain is asked for; None is the platform."""
        return request.auth.team if isinstance(request.auth, Caller) else None


class AuditList(AuditView):
    """The lines of a chain, newest first."""

    def get(self, request: Request) -> Response:
        """Filtered by `event_type`, `actor_id`, `target_type`, `target_id`, `since` and `until`; `total` counts all that pass."""
        found = trail.lines(self.team(request))
        asked = request.query_params
        if word := asked.get("event_type"):
            found = found.filter(event_type=_event(word))
        if asked.get("actor_id"):
            found = found.filter(actor_id=number(request, "actor_id", default=0, least=1, most=BIGGEST_ID))
        for name in ("target_type", "target_id"):
            if value := asked.get(name):
                found = found.filter(**{name: value})
        if since := moment(request, "since"):
            found = found.filter(at__gte=since)
        if until := moment(request, "until"):
            found = found.filter(at__lt=until)
        return _page(request, found)


class AuditOfUser(AuditView):
    """What one person did."""

    def get(self, request: Request, user_id: str) -> Response:
        """The lines of one person, newest first; 404 for somebody who is neither in the team nor in its trail."""
        team = self.team(request)
        found = trail.lines(team).filter(actor_id=int(user_id))
        people = User.objects.filter(pk=int(user_id)) if team is None else team.members.filter(pk=int(user_id))
        if not people.exists() and not found.exists():
            raise NotFound(f"No such user: {user_id}.", field="user_id")
        return _page(request, found)


class AuditSecurity(AuditView):
    """What concerns security."""

    def get(self, request: Request) -> Response:
        """Failed sign-ins, denied rights, callers that were too fast, and webhooks that were turned away; newest first."""
        return _page(request, trail.lines(self.team(request)).filter(event_type__in=events.SECURITY))


class AuditStats(AuditView):
    """Figures of the trail."""

    def get(self, request: Request) -> Response:
        """How many lines there are, of which events, and how many of the last 24 hours."""
        found = trail.stats(self.team(request), now=timezone.now())
        return Response(
            {
                "total_entries": found["total"],
                "by_type": found["by_type"],
                "last_24h": found["last_24h"],
                "first_entry": _stamp(found["first"]),
                "last_entry": _stamp(found["last"]),
            }
        )


class AuditTypes(AuditView):
    """The events that there are."""

    def get(self, request: Request) -> Response:
        """Every event with its value, which filters take, and its name."""
        return Response({"event_types": [{"value": event, "name": events.name_of(event)} for event in events.ALL]})


class AuditVerify(AuditView):
    """Whether the trail was tampered with."""

    def get(self, request: Request) -> Response:
        """Walk along the chain, from `start_id` and up to `end_id` if given, and name every broken line with the reason."""
        start_id = number(request, "start_id", default=0, least=1, most=BIGGEST_ID) or None
        end_id = number(request, "end_id", default=0, least=1, most=BIGGEST_ID) or None
        found = audit.verify(self.team(request), start_id=start_id, end_id=end_id)
        return Response(
            {
                "valid": found.valid,
                "entries_checked": found.checked,
                "broken_links": [{"id": line, "reason": reason} for line, reason in found.broken],
                "first_id": found.first_id,
                "last_id": found.last_id,
                "last_hash": found.ends.hash,
            }
        )


class AuditExport(AuditView):
    """The whole chain as a file."""

    content_negotiation_class = AnyAnswer

    @extend_schema(responses={(200, "application/x-ndjson"): str, (200, "text/csv"): str})
    def get(self, request: Request) -> StreamingHttpResponse:
        """All lines as `format` jsonl (default) or csv, with what `manage.py verify_audit --file` needs to check them elsewhere."""
        form = request.query_params.get("format") or "jsonl"
        if form not in exports.CONTENT_TYPES:
            raise InvalidInput(f"Unknown format '{form}'. Valid ones: {', '.join(exports.CONTENT_TYPES)}.", field="format")
        return trail.download(request._request, self.team(request), form)


class AuditExportConfig(AuditView):
    """Where new lines are pushed to."""

    def get(self, request: Request) -> Response:
        """The format, the address, and how far pushing has come. The token is never shown."""
        return Response(_config(forwarding.of(self.team(request))))

    def post(self, request: Request) -> Response:
        """Change any of `format`, `webhook_url` (null turns pushing off), `auth_token` (null keeps it, "" drops it), `security_only`.

        An owner's: whoever may only read the trail must not send it elsewhere.
        """
        team = self.team(request)
        caller = request.auth if isinstance(request.auth, Caller) else None
        if caller:
            caller.require(Right.MANAGE)
        staff = request.auth if isinstance(request.auth, Staff) else None
        return Response(_config(forwarding.configure(team, caller=caller, staff=staff, asked=fields_of(request))))


def _event(word: str) -> str:
    event = events.find(word)
    if event is None:
        raise InvalidInput(f"Unknown event type '{word}'.", field="event_type", hint="GET /api/audit/types names all of them.")
    return event


def _page(request: Request, found: QuerySet[AuditLine]) -> Response:
    limit = number(request, "limit", default=50, least=1, most=500)
    offset = number(request, "offset", default=0, least=0, most=10_000_000)
    total = found.count()
    entries = [_entry(line) for line in found[offset : offset + limit]]
    return Response({"entries": entries, "total": total, "has_more": offset + len(entries) < total})


def _entry(line: AuditLine) -> dict[str, Any]:
    return {
        "id": line.pk,
        "timestamp": _stamp(line.at),
        "event_type": line.event_type,
        "actor_id": line.actor_id,
        "actor_username": line.actor or None,
        "actor_ip": line.address or None,
        "target_type": line.target_type or None,
        "target_id": line.target_id or None,
        "action": line.action,
        "details": {"before": line.before, "after": line.after, "reason": line.reason},
        "token_prefix": line.token_prefix or None,
        "correlation_id": line.correlation_id or None,
        "sequence": line.sequence,
        "hash": line.hash,
        "previous_hash": line.previous_hash,
    }


def _config(kept: AuditForwarding) -> dict[str, Any]:
    return {
        "format": kept.format,
        "webhook_url": kept.webhook_url or None,
        "auth_token": None,
        "has_auth_token": bool(kept.auth_token),
        "security_only": kept.security_only,
        "sent_sequence": kept.sent_sequence,
        "sent_at": _stamp(kept.sent_at),
        "failures": kept.failures,
        "last_error": kept.last_error or None,
    }


def _stamp(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
