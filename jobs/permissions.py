"""What a caller may see of a job and do to it, beyond the rights of the role."""

from accounts.callers import Caller
from accounts.errors import NotPermitted
from accounts.roles import Role
from jobs.models import Job
from jobs.services import cancelling, queue_changes, retrying, stopping
from jobs.services.cancelling import InvalidJobState

SEES_EVERYTHING = frozenset({Role.LEAD, Role.OWNER})


def sees_details(caller: Caller, job: Job) -> bool:
    """Whether config, prompts, log and files of the job are shown: to all by the team's switch, else to its submitter, leads and owners.

    State, person, cost and place are shown to every member.
    """
    return caller.team.shows_details or job.submitted_by_id == caller.user.pk or caller.role in SEES_EVERYTHING


def may_cancel(caller: Caller, job: Job) -> bool:
    """Whether a cancel button makes sense: the job is not over, nobody has asked yet, and the caller may."""
    return not _is_let_go(job) and _has_hand_on(caller, job)


def may_delete(caller: Caller, job: Job) -> bool:
    """Whether a button makes sense that takes the job out of the lists: it is over or its cancel was asked for, and the caller may."""
    return _is_let_go(job) and _has_hand_on(caller, job)


def may_move_stop_time(caller: Caller, job: Job) -> bool:
    """Whether buttons make sense that move the job's stop time: there is one that can be moved, and the caller may."""
    return stopping.is_movable(job) and may_cancel(caller, job)


def may_move_start(caller: Caller, job: Job) -> bool:
    """Whether a link makes sense to where it is said when the job may start: it waits, and the caller may."""
    return job.state in queue_changes.WAITS and may_cancel(caller, job)


def may_retry(caller: Caller, job: Job) -> bool:
    """Whether a button makes sense that runs the job again as it is: it failed or was cancelled, and the caller may."""
    try:
        retrying.require_retryable(job, caller)
    except (NotPermitted, InvalidJobState):
        return False
    return sees_details(caller, job)


def _is_let_go(job: Job) -> bool:
    """Whether the job is over, or somebody has asked for its end."""
    return job.is_terminal or job.cancel_requested_at is not None


def _has_hand_on(caller: Caller, job: Job) -> bool:
    try:
        cancelling.require_hand_on(job, caller)
    except NotPermitted:
        return False
    return True
