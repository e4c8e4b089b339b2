"""Deciding on jobs that wait for approval. A request changes under the lock of its job, so of two deciders one is first.

Approving is a second admission: the price of now, the periods of now, and all limits and blocking quotas once more.
"""

from datetime import datetime
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from accounts import audit, letters
from accounts.callers import Caller, require_active
from accounts.errors import Conflict, NotFound, NotPermitted
from accounts.models import Team
from accounts.roles import Right, Role
from billing import pricebook
from billing import services as billing
from billing.models import PriceLine
from billing.services import LimitReached
from jobs import tasks, trainingconfigs
from jobs.models import ApprovalRequest, Job
from jobs.models.admission import ApprovalRequestQuerySet, ApprovalState
from jobs.services import apart, approval_requests, approval_rules, ending, experience, pricing, quotas
from jobs.services.quotas import QuotaReached
from jobs.states import State, WaitingReason

log = structlog.get_logger(__name__)

NO_REASON = "No reason given"
LONGEST_NOTE = 500
SEEN = (
    *("job__team", "job__trainer", "job__submitted_by", "job__hold", "job__price_line", "job__dataset_version__dataset"),
    *("rule", "reviewed_by"),
)


class RequestNotFound(NotFound):
    code = "approval_not_found"


class AlreadyDecided(Conflict):
    """Somebody decided, the time is over, or the job was cancelled."""

    code = "approval_decided"


class OwnJob(NotPermitted):
    """Nobody approves or rejects what they submitted, whatever their role."""

    code = "own_job"


class RoleTooLow(NotPermitted):
    """The request asks for a higher role than the caller's."""

    code = "approver_level"


def of(team: Team) -> ApprovalRequestQuerySet:
    """The team's requests, with what is shown of them."""
    return ApprovalRequest.objects.of(team).select_related(*SEEN)


def find(caller: Caller, request_id: int) -> ApprovalRequest:
    """One of the team's requests. Raises RequestNotFound."""
    found = of(caller.team).filter(pk=request_id).first() if request_id < 2**63 else None
    if found is None:
        raise RequestNotFound(f"Approval request not found: {request_id}")
    return found


def waiting_for(caller: Caller) -> ApprovalRequestQuerySet:
    """The requests that this caller may decide now."""
    if not caller.may(Right.APPROVE):
        return ApprovalRequest.objects.none()
    within = [role for role in Role if approval_rules.rank(role) <= approval_rules.rank(caller.role)]
    return ApprovalRequest.objects.of(caller.team).pending().filter(required_role__in=within).exclude(job__submitted_by=caller.user)


def require_may_decide(caller: Caller, request: ApprovalRequest) -> None:
    """Raises NotPermitted, OwnJob, RoleTooLow. A token is whoever made it."""
    caller.require(Right.APPROVE, permission="admin.approve")
    if request.job.submitted_by_id == caller.user.pk:
        raise OwnJob(
            "Nobody decides on a job that they submitted themselves.",
            hint="Somebody else with the right must do it; you can cancel the request.",
            details={"required_permission": "admin.approve"},
        )
    if approval_rules.rank(caller.role) < approval_rules.rank(request.required_role):
        needed = Role(request.required_role)
        raise RoleTooLow(
            f"This request must be decided by somebody who is at least {needed.value}.",
            hint=f"Ask a team member with the role {needed.value}.",
            details={"required_permission": "admin.approve", "required_approver_level": needed.value},
        )


def may_decide(caller: Caller, request: ApprovalRequest) -> bool:
    """Whether buttons make sense: it waits, and the caller may decide it."""
    try:
        require_may_decide(caller, request)
    except NotPermitted:
        return False
    return request.is_pending


def approve(caller: Caller, request: ApprovalRequest, *, notes: str = "") -> ApprovalRequest:
    """Let a blocked job go: held by the price and in the periods of now, with every limit and blocking quota asked again.

    Raises NotPermitted and its kinds, AlreadyDecided, and LimitReached or QuotaReached where it does not fit any more: then the
    request still waits, and its money stays held as it was.
    """
    try:
        return _approve(caller, request, notes=notes, now=timezone.now())
    except (LimitReached, QuotaReached) as refusal:
        job = request.job
        audit.record(
            team=caller.team, caller=caller, event_type="quota.exceeded", action=f"Could not approve {job.job_id}: {refusal}",
            target_type="job", target_id=job.job_id,
        )  # fmt: skip
        raise


def _approve(caller: Caller, request: ApprovalRequest, *, notes: str, now: datetime) -> ApprovalRequest:
    with transaction.atomic():
        asked, job = _locked(caller, request, now=now)
        require_may_decide(caller, asked)
        # In the order of locks: job, quotas, then all that is locked for money.
        line = pricebook.line_for(hardware=job.trainer.hardware, on=now)
        worst_case = pricing.worst_case(line, ceiling_seconds=job.ceiling_seconds)
        quotas.check_again(job, worst_case=worst_case, now=now)
        changes = _priced_anew(job, line, worst_case, now=now)
        if not job.move_to(State.PENDING, cause="approval", at=now, waiting_reason=WaitingReason.TURN, **changes):
            raise AlreadyDecided(f"Job {job.job_id} is {job.state} and does not wait for approval.")
        _close(asked, ApprovalState.APPROVED, by=caller, notes=notes, now=now)
        _tell_submitter(asked)
        audit.record(
            team=job.team, caller=caller, event_type="job.approved", action=f"Approved {job.job_id}", target_type="job",
            target_id=job.job_id, reason=notes, before={"reason": asked.reason},
            after={"hold": job.hold.amount if job.hold else None, "submitted_by": job.submitted_by.username},
        )  # fmt: skip
        transaction.on_commit(lambda: tasks.dispatch.delay(), robust=True)
    log.info("job.approved", team=job.team.slug, job=job.job_id, user=caller.user.username)
    return asked


def _priced_anew(job: Job, line: PriceLine, worst_case: int, *, now: datetime) -> dict[str, Any]:
    """What changes of a job whose money is held by this price and in the periods of now. Raises LimitReached."""
    if job.hold is None:
        return {}
    held = billing.rehold(job.hold, amount=worst_case, price_line=line, now=now)
    if line == job.price_line:
        return {"hold": held.hold}
    steps = max(1, trainingconfigs.max_train_steps(job.config))
    estimate = experience.likely(job.team, trainer=job.trainer, price_line=line, config=job.config, steps=steps)
    return {
        "hold": held.hold,
        "price_line": line,
        "estimate_low": estimate.low,
        "estimate_high": estimate.high,
        "estimate_source": estimate.source[:300],
    }


def reject(caller: Caller, request: ApprovalRequest, *, notes: str = "") -> ApprovalRequest:
    """End a blocked job; its money comes back. Raises NotPermitted and its kinds, AlreadyDecided."""
    now = timezone.now()
    reason = notes.strip() or NO_REASON
    with transaction.atomic():
        asked, job = _locked(caller, request, now=now)
        require_may_decide(caller, asked)
        _close(asked, ApprovalState.REJECTED, by=caller, notes=reason, now=now)
        _end(asked, job, cause="rejection", error=f"Rejected by {caller.user.username}: {reason}")
        _tell_submitter(asked)
        audit.record(
            team=job.team, caller=caller, event_type="job.rejected", action=f"Rejected {job.job_id}", target_type="job",
            target_id=job.job_id, reason=reason, before={"reason": asked.reason},
        )  # fmt: skip
    log.info("job.rejected", team=job.team.slug, job=job.job_id, user=caller.user.username)
    return asked


def cancel(caller: Caller, request: ApprovalRequest) -> ApprovalRequest:
    """Take a request back, and the job with it: whoever submitted it, or who may approve. Raises NotPermitted, AlreadyDecided."""
    if request.job.submitted_by_id != caller.user.pk:
        caller.require(Right.APPROVE, permission="admin.approve")
    now = timezone.now()
    with transaction.atomic():
        asked, job = _locked(caller, request, now=now)
        Job.objects.filter(pk=job.pk).update(cancel_requested_at=now, cancel_requested_by=caller.user)
        _close(asked, ApprovalState.CANCELLED, by=None, notes="", now=now)
        _end(asked, job, cause="person")
        audit.record(
            team=job.team, caller=caller, event_type="job.cancelled", action=f"Took back the request to approve {job.job_id}",
            target_type="job", target_id=job.job_id, before={"state": State.BLOCKED},
        )  # fmt: skip
    return asked


def expire(*, now: datetime, team: Team | None = None) -> int:
    """End the jobs for which nobody decided in time, and say how many. Safe to repeat; `team` None means all teams."""
    overdue = ApprovalRequest.objects.overdue(now=now)
    found = list((overdue.of(team) if team else overdue).order_by("expires_at"))
    return apart.each("expire", found, lambda request: _expire(request, now=now))


def _expire(request: ApprovalRequest, *, now: datetime) -> bool:
    with transaction.atomic():
        job = _lock_job(request.job_id)
        asked = ApprovalRequest.objects.select_related("rule").filter(pk=request.pk).overdue(now=now).first()
        if asked is None:
            return False
        asked.job = job
        _close(asked, ApprovalState.EXPIRED, by=None, notes="", now=now)
        _end(asked, job, cause="expiry", error="Nobody approved it in time.")
        _tell_submitter(asked)
        audit.record(
            team=job.team, event_type="job.expired", action=f"Nobody approved {job.job_id} in time", target_type="job",
            target_id=job.job_id, before={"reason": asked.reason},
        )  # fmt: skip
    log.info("job.expired", team=job.team.slug, job=job.job_id)
    return True


def _locked(caller: Caller, request: ApprovalRequest, *, now: datetime) -> tuple[ApprovalRequest, Job]:
    """The request as it is now, with its job locked. Raises AlreadyDecided unless it still waits, TeamSuspended."""
    job = _lock_job(request.job_id)
    require_active(job.team)
    asked = ApprovalRequest.objects.of(caller.team).select_related("rule").get(pk=request.pk)
    asked.job = job
    if not asked.is_pending or asked.expires_at <= now:
        state = ApprovalState.EXPIRED if asked.is_pending else ApprovalState(asked.state)
        raise AlreadyDecided(
            f"The request for {job.job_id} does not wait any more: it is {state.value}.",
            details={"current_state": state.value, "job_state": job.state},
        )
    return asked, job


def _lock_job(pk: int) -> Job:
    return Job.objects.locked(pk, "team", "hold__team", "hold__user", "hold__token", "price_line", "trainer", "submitted_by")


def _close(request: ApprovalRequest, state: ApprovalState, *, by: Caller | None, notes: str, now: datetime) -> None:
    request.state, request.reviewed_at = state, now
    request.reviewed_by, request.review_notes = by.user if by else None, notes.strip()[:LONGEST_NOTE]
    request.save(update_fields=["state", "reviewed_at", "reviewed_by", "review_notes"])


def _end(request: ApprovalRequest, job: Job, *, cause: str, error: str = "") -> None:
    if not ending.cancel_unsent(job, cause=cause, error=error):
        raise AlreadyDecided(f"Job {job.job_id} is {job.state} and does not wait for approval.")


def _tell_submitter(request: ApprovalRequest) -> None:
    """Mail whoever submitted the job what came of it."""
    facts = approval_requests.facts_for_mail(request) | {
        "outcome": request.state,
        "by": str(request.reviewed_by or ""),
        "notes": request.review_notes,
    }
    letters.write(event="approval_ended", to=[request.job.submitted_by], team=request.job.team, facts=facts)
