"""Approval requests by API: who waits for what, and deciding.

Source: simpletuner-api.md 2.7 and 11. `reason` and `notes` are one: the command line says the first, the server's own
pages the second.
"""

from collections.abc import Callable
from typing import Any

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import levels
from accounts.api import caller_in, fields_of, number
from accounts.api.reading import ids, text
from accounts.callers import Caller
from accounts.errors import InvalidInput, NotPermitted, Refusal
from accounts.permissions import needs
from accounts.roles import Right
from jobs.api.jobs import find as find_job
from jobs.api.rendering import money, stamp
from jobs.models import ApprovalRequest
from jobs.models.admission import ApprovalRequestQuerySet, ApprovalState
from jobs.services import approving
from jobs.services.approving import LONGEST_NOTE, AlreadyDecided

APPROVE = needs(Right.APPROVE, permission="admin.approve")
MOST_AT_ONCE = 100
Decide = Callable[[Caller, ApprovalRequest], ApprovalRequest]


def shown(row: ApprovalRequest) -> dict[str, Any]:
    """A request as SimpleTuner's clients read it, with what the job can cost at most and who may decide beside it."""
    job = row.job
    most = job.hold.amount if job.hold else 0
    return {
        "id": row.pk,
        "job_id": job.job_id,
        "user_id": job.submitted_by_id,
        "username": job.submitted_by.username,
        "rule_id": row.rule_id,
        "rule_name": row.rule.name if row.rule else None,
        "status": row.state,
        "reason": row.reason,
        "provider": job.provider,
        "config_name": job.config_name or None,
        **money("estimated_cost", most if job.estimate_high is None else job.estimate_high),
        **money("worst_case", most),
        "hardware_type": job.trainer.hardware_type,
        "required_approver_level": levels.of_role(row.required_role).name,
        "reviewed_by": row.reviewed_by_id,
        "reviewed_at": stamp(row.reviewed_at),
        "review_notes": row.review_notes or None,
        "created_at": stamp(row.created_at),
        "requested_at": stamp(row.created_at),
        "expires_at": stamp(row.expires_at),
    }


def _page(request: Request, found: ApprovalRequestQuerySet) -> Response:
    """A page of requests, under both of the names that clients look for."""
    limit = number(request, "limit", default=50, least=1, most=200)
    offset = number(request, "offset", default=0, least=0, most=10_000_000)
    pending = found.pending().count()
    if word := request.query_params.get("status"):
        if word not in ApprovalState.values:
            raise InvalidInput(f"Unknown status '{word[:30]}'. Valid ones: {', '.join(ApprovalState.values)}.", field="status")
        found = found.filter(state=word)
    if request.query_params.get("pending_only", "").lower() in ("1", "true", "yes"):
        found = found.pending()
    rows = [shown(row) for row in found[offset : offset + limit]]
    return Response({"requests": rows, "approvals": rows, "pending_count": pending})


def _said(request: Request) -> str:
    """What whoever decides says of it: `notes`, or `reason`."""
    given = fields_of(request)
    name = "notes" if given.get("notes") is not None else "reason"
    return text(given, name, most=LONGEST_NOTE)


class ApprovalList(APIView):
    """The team's requests, newest first."""

    permission_classes = [APPROVE]

    def get(self, request: Request) -> Response:
        """Filtered by `status` or `pending_only`; `pending_count` counts all that wait."""
        return _page(request, approving.of(caller_in(request).team))


class OwnApprovals(APIView):
    """What the caller asked for."""

    def get(self, request: Request) -> Response:
        """The caller's own requests, newest first, whatever became of them."""
        caller = caller_in(request)
        return _page(request, approving.of(caller.team).filter(job__submitted_by=caller.user))


class PendingCount(APIView):
    permission_classes = [APPROVE]

    def get(self, request: Request) -> Response:
        """How many of the team's requests wait."""
        return Response({"pending_count": ApprovalRequest.objects.of(caller_in(request).team).pending().count()})


class ApprovalDetail(APIView):
    permission_classes = [APPROVE]

    def get(self, request: Request, request_id: str) -> Response:
        """One of the team's requests."""
        return Response(shown(approving.find(caller_in(request), int(request_id))))


class ApprovalOfJob(APIView):
    def get(self, request: Request, job_id: str) -> Response:
        """The request of a job, for whoever submitted it and for those who approve."""
        caller = caller_in(request)
        job = find_job(caller, job_id)
        if job.submitted_by_id != caller.user.pk and not caller.may(Right.APPROVE):
            raise NotPermitted("Requests of others are shown to those who approve.", details={"required_permission": "admin.approve"})
        found = approving.of(caller.team).filter(job=job).first()
        if found is None:
            raise approving.RequestNotFound(f"Job {job.job_id} did not need an approval.", details={"job_id": job.job_id})
        return Response(shown(found))


class Approve(APIView):
    permission_classes = [APPROVE]

    def post(self, request: Request, request_id: str) -> Response:
        """Let the job go, with its price and all limits checked again: 402 if it does not fit any more, and it still waits."""
        caller = caller_in(request)
        done = approving.approve(caller, approving.find(caller, int(request_id)), notes=_said(request))
        return Response({"success": True, "request_id": done.pk, "approved_by": caller.user.pk, "job_id": done.job.job_id})


class Reject(APIView):
    permission_classes = [APPROVE]

    def post(self, request: Request, request_id: str) -> Response:
        """End the job; what was held for it is free again."""
        caller = caller_in(request)
        done = approving.reject(caller, approving.find(caller, int(request_id)), notes=_said(request))
        answer = {"success": True, "request_id": done.pk, "rejected_by": caller.user.pk, "reason": done.review_notes}
        return Response(answer | {"job_id": done.job.job_id})


class CancelApproval(APIView):
    def post(self, request: Request, request_id: str) -> Response:
        """Take a request back, and its job with it: one's own, or any for those who approve."""
        caller = caller_in(request)
        done = approving.cancel(caller, approving.find(caller, int(request_id)))
        return Response({"success": True, "request_id": done.pk})


class Bulk(APIView):
    """Several decisions, each by itself: one that is refused holds up no other."""

    permission_classes = [APPROVE]

    def decide(self, request: Request, decide: Decide) -> Response:
        asked = list(dict.fromkeys(ids(fields_of(request), "request_ids")))
        if not 1 <= len(asked) <= MOST_AT_ONCE:
            raise InvalidInput(f"request_ids must name 1 to {MOST_AT_ONCE} requests.", field="request_ids")
        results = [self._result(caller_in(request), request_id, decide) for request_id in asked]
        succeeded = sum(result["success"] for result in results)
        return Response({"total": len(asked), "succeeded": succeeded, "failed": len(asked) - succeeded, "results": results})

    def _result(self, caller: Caller, request_id: int, decide: Decide) -> dict[str, Any]:
        try:
            decide(caller, approving.find(caller, request_id))
        except Refusal as refusal:
            return {"request_id": request_id, "success": False, "error": refusal.detail, "code": refusal.code}
        return {"request_id": request_id, "success": True}


class BulkApprove(Bulk):
    def post(self, request: Request) -> Response:
        """Approve up to 100 requests by `request_ids`, with one note for all."""
        notes = _said(request)
        return self.decide(request, lambda caller, row: approving.approve(caller, row, notes=notes))


class BulkReject(Bulk):
    def post(self, request: Request) -> Response:
        """Reject up to 100 requests by `request_ids`, with one reason for all."""
        reason = _said(request)
        return self.decide(request, lambda caller, row: approving.reject(caller, row, notes=reason))


class Expire(APIView):
    permission_classes = [APPROVE]

    def post(self, request: Request) -> Response:
        """End the team's jobs for which nobody decided in time, which happens every minute by itself."""
        return Response({"expired": approving.expire(now=timezone.now(), team=caller_in(request).team)})


# --- By the job, as the queue's pages do it ----------------------------------------------------------------


class QueueApprove(APIView):
    permission_classes = [needs(Right.APPROVE, permission="queue.approve")]

    def post(self, request: Request, job_id: str) -> Response:
        """Approve the job's request."""
        caller = caller_in(request)
        done = approving.approve(caller, _of_blocked(caller, job_id), notes=_said(request))
        return Response({"success": True, "job_id": done.job.job_id, "approved_by": caller.user.pk})


class QueueReject(APIView):
    permission_classes = [needs(Right.APPROVE, permission="queue.approve")]

    def post(self, request: Request, job_id: str) -> Response:
        """Reject the job's request, with a `reason` in the query or in the body."""
        caller = caller_in(request)
        found = _of_blocked(caller, job_id)
        given = {"reason": request.query_params.get("reason")}
        reason = text(given if given["reason"] is not None else fields_of(request), "reason", most=LONGEST_NOTE, least=1)
        done = approving.reject(caller, found, notes=reason)
        return Response({"success": True, "job_id": done.job.job_id, "rejected_by": caller.user.pk, "reason": done.review_notes})


def _of_blocked(caller: Caller, job_id: str) -> ApprovalRequest:
    job = find_job(caller, job_id)
    found = approving.of(caller.team).filter(job=job).first()
    if found is None:
        raise AlreadyDecided(
            f"Job {job.job_id} is {job.state} and does not wait for approval.",
            details={"current_state": job.state, "allowed_states": ["blocked"]},
        )
    return found
