"""Submitting a job: plan it, admit it. Nothing is sent to the provider here."""

from datetime import datetime

from django.db.models import Q
from django.utils import timezone

from accounts import audit
from accounts.callers import Caller
from accounts.errors import Refusal
from accounts.roles import Right
from jobs.models import QueueSettings
from jobs.models.admission import QueueMode
from jobs.services import admission, planning, queue_changes, repeats, resources
from jobs.services.admission import Submitted
from jobs.services.repeats import KeyTaken, Repeat
from jobs.specs import JobSpec, Plan


class QueueDraining(Refusal):
    """What was admitted still goes, nothing new is admitted."""

    code = "queue_draining"
    status = 503


def submit(caller: Caller, spec: JobSpec, *, repeat: Repeat | None = None) -> Submitted:
    """Admit a job: hold the most that it can cost, then queue it for launch.

    Key, hold, job and audit line are written in one transaction or not at all, so a refusal burns no key and
    leaves nothing but its audit line. The request is over in milliseconds.

    Raises the refusals of planning, ResourceDenied, LimitReached, QuotaReached, QueueDraining, StartOutOfBounds,
    IdempotencyConflict.
    """
    caller.require(Right.SUBMIT)
    now = timezone.now()
    if repeated := answer_repeat(caller, repeat, now=now):
        return repeated
    try:
        return admission.admit(caller, spec, plan(caller, spec, now=now), repeat=repeat, now=now)
    except KeyTaken:
        # The other one with this key may have been refused meanwhile.
        return answer_repeat(caller, repeat, now=now) or submit(caller, spec, repeat=repeat)
    except Exception as refusal:
        _record_refusal(caller, spec, refusal)
        raise


def plan(caller: Caller, spec: JobSpec, *, now: datetime) -> Plan:
    """How the job would be run, once everything is checked but its money. Raises what `submit` does, but for LimitReached."""
    _require_open_queue(caller, spec.provider)
    queue_changes.require_start_within_bounds(spec.not_before, now=now)
    planned = planning.plan(caller, spec, now=now)
    resources.require_allowed(caller, spec, planned)
    return planned


def answer_repeat(caller: Caller, repeat: Repeat | None, *, now: datetime) -> Submitted | None:
    """The job that an earlier submission with this key has made, if there was one. Raises IdempotencyConflict."""
    first = repeats.first(caller.team, repeat, now=now) if repeat else None
    if repeat is None or first is None or first.job is None:
        return None
    return Submitted(job=first.job, is_repeat=True, warnings=repeats.differences(first, repeat))


def _require_open_queue(caller: Caller, provider: str) -> None:
    """Raises QueueDraining while the queue of the platform, of the provider or of the team is let run dry."""
    over = Q(team=None, provider__in=["", provider]) | Q(team=caller.team)
    row = QueueSettings.objects.filter(over, mode=QueueMode.DRAINING).order_by("team", "provider").first()
    if row is not None:
        raise QueueDraining(
            f"No new jobs are taken at the moment; those that wait still go.{f' The reason: {row.reason}' if row.reason else ''}",
            hint="Submit again later, or ask an administrator when the queue opens.",
            details={"retry_after": 60},
        )


def _record_refusal(caller: Caller, spec: JobSpec, refusal: Exception) -> None:
    """Leave the one trace of a refused submission."""
    code = getattr(refusal, "code", None)
    if code is None:
        return
    audit.record(
        team=caller.team,
        caller=caller,
        event_type="quota.exceeded" if getattr(refusal, "status", 0) in (402, 429) else "job.refused",
        action=f"Refused a submission: {refusal}"[:300],
        target_type="config",
        target_id=(spec.config_name or spec.label)[:100],
        after={"code": code},
    )
