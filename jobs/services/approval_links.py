"""The link in an approver's mail: signed, for one person and one request, and good for one decision.

It is made in the moment in which the mail goes out and kept nowhere. What uses it up is the decision itself: a request is
decided once, by whoever comes first. Looking at it changes nothing, since mail programs open links by themselves.
"""

from datetime import datetime

from django.core import signing
from django.urls import reverse

from accounts.callers import Caller, require_active
from accounts.errors import Conflict
from accounts.models import Membership
from jobs.models import ApprovalRequest
from jobs.services import approving
from jobs.services.approval_requests import LIFETIME

SALT = "jobs.approval-link"


class LinkEnded(Conflict):
    """The link decides nothing: it was used, its time is over, it was never one, or its reader may not decide any more."""

    code = "link_ended"
    status = 410


def path(request_id: int, person_id: int) -> str:
    """The path of the link by which this person decides on this request."""
    return reverse("approval_by_mail", args=[signing.dumps([request_id, person_id], salt=SALT)])


def opened(signed: str, *, address: str, now: datetime) -> tuple[ApprovalRequest, Caller]:
    """The request that a link is about, and whom it was sent to as a caller from `address`.

    Raises LinkEnded, and TeamSuspended while nothing of the team may be changed.
    """
    try:
        request_id, person_id = signing.loads(signed, salt=SALT, max_age=LIFETIME)
    except (signing.BadSignature, ValueError, TypeError):
        raise LinkEnded("This link is no good: it was copied in part, or its time is over.", hint="Sign in and open Approvals.") from None
    request = ApprovalRequest.objects.select_related(*approving.SEEN).filter(pk=request_id).first()
    member = _member(request, person_id) if request else None
    if request is None or member is None:
        raise LinkEnded("Whoever got this link is not in the team any more.", hint="Ask an owner of the team.")
    if not request.is_pending or request.expires_at <= now:
        state = "expired" if request.is_pending else request.state
        raise LinkEnded(f"This request does not wait any more: it is {state}.", details={"current_state": state})
    require_active(member.team)
    caller = Caller(team=member.team, user=member.user, role=member.role, rights=member.rights, token=None, address=address)
    approving.require_may_decide(caller, request)
    return request, caller


def _member(request: ApprovalRequest, person_id: int) -> Membership | None:
    members = Membership.objects.select_related("team", "user").filter(user__is_active=True, team__archived_at=None)
    return members.filter(team=request.job.team_id, user=person_id).first()
