"""Running a job again that failed or was cancelled: a new job from the same snapshot, linked to the first.

By a person, or by the team's rule where a fault of the provider's platform ended the job.
"""

from dataclasses import replace
from datetime import datetime

import structlog
from django.db import transaction
from django.utils import timezone

from accounts.callers import Caller, is_still_welcome, require_active
from accounts.errors import NotPermitted, Refusal
from accounts.models import Membership
from accounts.roles import Right
from jobs.models import FaultRetry, Job
from jobs.models.job import Link
from jobs.services import provider, submission
from jobs.services.admission import Submitted
from jobs.services.cancelling import InvalidJobState
from jobs.services.repeats import Repeat
from jobs.specs import JobSpec
from jobs.states import State

log = structlog.get_logger(__name__)

RETRIED = (State.FAILED, State.CANCELLED)
OFF = "The team's rule is switched off."


def retry(job: Job, *, caller: Caller, repeat: Repeat | None = None) -> Submitted:
    """Submit the job's config and dataset version once more, with an admission of its own at today's price.

    Raises what `require_retryable` and `submit` raise.
    """
    require_retryable(job, caller)
    return submission.submit(caller, spec_of(job), repeat=repeat)


def require_retryable(job: Job, caller: Caller) -> None:
    """Raises InvalidJobState unless it failed or was cancelled, NotPermitted for another's job."""
    caller.require(Right.SUBMIT, permission="job.submit")
    if job.submitted_by_id != caller.user.pk and not caller.may(Right.CANCEL_ALL):
        raise NotPermitted("You may retry your own jobs only.", details={"required_permission": "job.cancel.all"})
    if job.state not in RETRIED:
        raise InvalidJobState(
            f"Job {job.job_id} is {job.state}; only a job that failed or was cancelled can be retried.",
            details={"current_state": job.state, "allowed_states": list(RETRIED)},
        )


def spec_of(job: Job) -> JobSpec:
    """What the job was asked to be, to be asked once more."""
    snapshot = job.metadata.get("snapshot", {})
    return JobSpec(
        config=job.config,
        label=job.config_name,
        dataloader=job.dataloader,
        dataset=str(job.dataset_version) if job.dataset_version else "",
        hardware_profile=job.trainer.profile,
        # Where a run that was started elsewhere brought its result is not ours to know.
        destination="" if job.is_imported else job.destination,
        hub_model_id=job.hub_model_id,
        run_name=job.run_name,
        max_seconds=None if job.is_imported else job.ceiling_seconds,
        provider=job.provider,
        snapshot_name=snapshot.get("name", ""),
        snapshot_message=snapshot.get("message", ""),
        rerun_of=job.job_id,
        link=Link.RETRY,
    )


# --- The team's rule --------------------------------------------------------------------------------------


class NotAgain(Refusal):
    """The team's rule does not run this job again."""

    code = "not_retried"


def due() -> list[FaultRetry]:
    """The faults of which the team's rule has not decided yet, the oldest first."""
    return list(FaultRetry.objects.due().order_by("pk")[:100])


def decide(fault: FaultRetry) -> Job | None:
    """Run a job again that a platform fault ended, for its submitter, or say on its timeline why not. Safe to repeat.

    The job is locked, so of several workers one decides; the new job and the decision are one transaction.
    """
    with transaction.atomic():
        job = Job.objects.locked(fault.job_id, "team", "submitted_by", "token", "trainer", "dataset_version__dataset")
        row = FaultRetry.objects.due().filter(pk=fault.pk).first()
        if row is None:
            return None
        now = timezone.now()
        try:
            row.number, most = _number(job)
            row.retry = submission.submit(_submitter(job, now=now), replace(spec_of(job), is_automatic=True)).job
        except Refusal as refusal:
            row.reason = refusal.detail[:500]
            detail = f"Not retried automatically: {refusal.detail}"
        else:
            detail = f"Retried automatically as {row.retry.job_id} ({row.number} of {most})."
        row.decided_at = now
        row.save()
        job.events.create(cause="rule", at=now, detail=detail[:500])
    log.info("job.fault_decided", team=job.team.slug, job=job.job_id, retry=row.retry.job_id if row.retry else "", reason=row.reason)
    return row.retry


def _number(job: Job) -> tuple[int, int]:
    """Which automatic retry in a row comes now, and how many the rule allows. Raises NotAgain."""
    most = provider.settings_of(job.team).retries_platform_faults
    before = FaultRetry.objects.filter(retry=job).first()
    number = (before.number if before else 0) + 1
    if number > most:
        raise NotAgain(f"The team's rule allows {most} automatic retries of a job, and this was number {number - 1}." if before else OFF)
    if job.deleted_at or job.linked_jobs.filter(link=Link.RETRY).exists():
        raise NotAgain("Somebody has deleted it." if job.deleted_at else "Somebody has run it again already.")
    return number, most


def _submitter(job: Job, *, now: datetime) -> Caller:
    """Who submitted the job, as they may call now: a token by itself, a person as a member. Raises NotAgain, TeamSuspended."""
    require_active(job.team)
    if job.token is not None:
        caller = Caller(job.team, job.submitted_by, job.token.role, job.token.rights, job.token, "")
        if not is_still_welcome(caller, now=now):
            raise NotAgain(f"The token {job.token.name} does not work any more.")
        return caller
    membership = Membership.objects.filter(team=job.team, user=job.submitted_by, user__is_active=True).first()
    if membership is None or Right.SUBMIT not in membership.rights:
        raise NotAgain(f"{job.submitted_by.username} may not submit jobs in this team any more.")
    return Caller(job.team, job.submitted_by, membership.role, membership.rights, None, "")
