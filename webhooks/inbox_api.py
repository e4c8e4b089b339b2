"""The team's inbox by API: what came in, what came from where, applying again and letting go."""

from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.translation import override
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import moments
from accounts.api import caller_in, fields_of, number
from accounts.errors import InvalidInput, NotFound
from accounts.permissions import needs
from accounts.roles import Right
from jobs import settingkeys
from jobs.services import provider
from webhooks import inbox, releasing, replaying
from webhooks.inbox import Sought
from webhooks.models import Delivery, DeliveryState
from webhooks.trainer_events import TrainerWord

PAGE_SIZE, LARGEST_PAGE = 50, 500


class Managing(APIView):
    """Who manages the team looks into its inbox."""

    permission_classes = [needs(Right.MANAGE, permission="admin.config")]


class Deliveries(Managing):
    def get(self, request: Request) -> Response:
        """The newest first, filtered by `state`, `event`, `job_id`, `address`, `since` and `until`; `total` counts all that pass."""
        found = _sought(request.query_params).among(inbox.of(caller_in(request).team))
        limit = number(request, "limit", default=PAGE_SIZE, least=1, most=LARGEST_PAGE)
        offset = number(request, "offset", default=0, least=0, most=10_000_000)
        return Response({"deliveries": [_row(delivery) for delivery in found[offset : offset + limit]], "total": found.count()})


class DeliveryDetail(Managing):
    def get(self, request: Request, delivery_id: str) -> Response:
        """One delivery with its headers, its content and what was checked."""
        return Response(_whole(_of_team(request, delivery_id)))


class DeliveryReplay(Managing):
    def post(self, request: Request, delivery_id: str) -> Response:
        """Apply one delivery again; what is old news changes nothing."""
        return Response(_whole(replaying.replay_one(caller_in(request), _of_team(request, delivery_id))))


class DeliveriesReplay(Managing):
    def post(self, request: Request) -> Response:
        """Apply again everything that passes the filter in the body (its words are those of the list; none is everything)."""
        given = fields_of(request)
        if unknown := settingkeys.refuse_unknown(given, ["state", "event", "job_id", "address", "since", "until"]):
            raise unknown[0]
        sought, caller = _sought(given), caller_in(request)
        return Response({"success": True, "marked": replaying.replay_all(caller, sought.among(inbox.of(caller.team)), what=str(sought))})


class DeliveryRelease(Managing):
    def post(self, request: Request, delivery_id: str) -> Response:
        """Let a held delivery go. `allow` is an address or a network to put on the team's list; `true` is the sender's address."""
        delivery, allow = _of_team(request, delivery_id), fields_of(request).get("allow", "")
        named = (delivery.address if allow is True else allow) or ""
        if not isinstance(named, str):
            raise InvalidInput("allow must be an address, a network, or true for the sender's address.", field="allow")
        return Response(_whole(releasing.release(caller_in(request), delivery, allow=named)))


class AddressDrift(Managing):
    def get(self, request: Request) -> Response:
        """Who delivered well signed from outside the list, and which networks of the list delivered nothing for 30 days."""
        team = caller_in(request).team
        own = provider.settings_of(team)
        found = inbox.drift(team, own.webhook_allowed_ips, now=timezone.now())
        outside = [
            {
                "address": row.address,
                "first_seen_at": row.first_seen_at,
                "last_seen_at": row.last_seen_at,
                "held": row.held,
                "passed": row.passed,
            }
            for row in found.outside
        ]
        return Response({"mode": own.webhook_address_mode, "allowed": own.webhook_allowed_ips, "outside": outside, "unused": found.unused})


def _of_team(request: Request, delivery_id: str) -> Delivery:
    found = inbox.of(caller_in(request).team).filter(pk=delivery_id).first()
    if found is None:
        raise NotFound("The team has no such delivery.")
    return found


def _sought(given: Any) -> Sought:
    """The filter out of a query or a body. Raises InvalidInput for words that there are not."""
    said = {name: given.get(name) or "" for name in ("state", "event", "job_id", "address")}
    if wrong := next((name for name, value in said.items() if not isinstance(value, str)), None):
        raise InvalidInput(f"{wrong} must be text.", field=wrong)
    for name, words in (("state", DeliveryState.values), ("event", [word.value for word in TrainerWord])):
        if said[name]:
            settingkeys.one_of(words)(name, said[name])
    if said["address"]:
        said["address"] = settingkeys.networks("address", [said["address"]])[0]
    return Sought(**said, since=_moment(given, "since"), until=_moment(given, "until"))


def _moment(given: Any, name: str) -> datetime | None:
    value = given.get(name)
    read = moments.read(value) if isinstance(value, str) and value else None
    if value and read is None:
        raise InvalidInput(f"{name} must be a date or a time, like 2026-01-31 or 2026-01-31T12:00:00Z.", field=name)
    return read


def _row(delivery: Delivery) -> dict[str, Any]:
    lag = delivery.lag
    return {
        "id": delivery.pk,
        "webhook_id": delivery.webhook_id,
        "job_id": delivery.job.job_id,
        "source": delivery.source,
        "event": delivery.event or None,
        "state": delivery.state,
        "reason": delivery.reason or None,
        "received_at": delivery.received_at,
        "applied_at": delivery.applied_at,
        "lag_seconds": lag.total_seconds() if lag is not None else None,
        "address": delivery.address,
        "is_outside": delivery.is_outside,
        "proof": delivery.proof,
        "attempts": delivery.attempts,
        "repeats": delivery.repeats,
        "moved_to": delivery.moved_to or None,
        "body_bytes": delivery.body_bytes,
        "body_sha256": delivery.body_sha256,
    }


def _whole(delivery: Delivery) -> dict[str, Any]:
    with override("en"):
        checks = [{"name": str(check.name), "passed": check.passed, "found": str(check.found)} for check in inbox.checks(delivery)]
    more = {"logs_length": delivery.logs_length, "headers": delivery.headers, "content": inbox.shown(delivery.content)}
    return {**_row(delivery), **more, "checks": checks}
