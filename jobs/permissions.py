"""What a caller may see of a job and do to it, beyond the rights of the role."""

from accounts.callers import Caller
from accounts.errors import NotPermitted
from accounts.roles import Role
from jobs.models import Job
from jobs.services import cancelling

SEES_EVERYTHING = frozenset({Role.LEAD, Role.OWNER})


def sees_details(caller: Caller, job: Job) -> bool:
    """Whether config, prompts, log and files of the job are shown: to all by the team's switch, else to its submitter, leads and owners.

    State, person, cost and place are shown to every member.
    """
    return caller.team.shows_details or job.submitted_by_id == caller.user.pk or caller.role in SEES_EVERYTHING


def may_cancel(caller: Caller, job: Job) -> bool:
    """Whether a cancel button makes sense: the job is not over, nobody has asked yet, and the caller may."""
    if job.is_terminal or job.cancel_requested_at:
        return False
    try:
        cancelling.require_hand_on(job, caller)
    except NotPermitted:
        return False
    return True
