"""Running a job again that failed or was cancelled: a new job from the same snapshot, linked to the first."""

from accounts.callers import Caller
from accounts.errors import NotPermitted
from accounts.roles import Right
from jobs.models import Job
from jobs.models.job import Link
from jobs.services import submission
from jobs.services.cancelling import InvalidJobState
from jobs.services.submission import Repeat, Submitted
from jobs.specs import JobSpec
from jobs.states import State

RETRIED = (State.FAILED, State.CANCELLED)


def retry(job: Job, *, caller: Caller, repeat: Repeat | None = None) -> Submitted:
    """Submit the job's config and dataset version once more, with an admission of its own at today's price.

    Raises InvalidJobState unless it failed or was cancelled, NotPermitted for another's job, and what `submit` raises.
    """
    caller.require(Right.SUBMIT, permission="job.submit")
    if job.submitted_by_id != caller.user.pk and not caller.may(Right.CANCEL_ALL):
        raise NotPermitted("You may retry your own jobs only.", details={"required_permission": "job.cancel.all"})
    if job.state not in RETRIED:
        raise InvalidJobState(
            f"Job {job.job_id} is {job.state}; only a job that failed or was cancelled can be retried.",
            details={"current_state": job.state, "allowed_states": list(RETRIED)},
        )
    return submission.submit(caller, _spec(job), repeat=repeat)


def _spec(job: Job) -> JobSpec:
    snapshot = job.metadata.get("snapshot", {})
    return JobSpec(
        config=job.config,
        label=job.config_name,
        dataloader=job.dataloader,
        dataset=str(job.dataset_version) if job.dataset_version else "",
        hardware_profile=job.trainer.profile,
        destination=job.destination,
        hub_model_id=job.hub_model_id,
        run_name=job.run_name,
        max_seconds=job.ceiling_seconds,
        provider=job.provider,
        snapshot_name=snapshot.get("name", ""),
        snapshot_message=snapshot.get("message", ""),
        rerun_of=job.job_id,
        link=Link.RETRY,
    )
