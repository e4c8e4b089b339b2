"""Cancelling and deleting: an unsent job ends at once, a sent one when the provider's end is known."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit
from accounts.callers import Caller
from accounts.errors import Conflict, NotPermitted
from accounts.roles import Right
from jobs import tasks
from jobs.models import Job, LaunchIntent
from jobs.replicate.gateway import NotFound, ReplicateError
from jobs.services import apart, ending, progress, provider
from jobs.states import TERMINAL, State, WaitingReason

log = structlog.get_logger(__name__)

RESEND_AFTER = timedelta(seconds=15)


class InvalidJobState(Conflict):
    code = "invalid_job_state"


def cancel(job: Job, *, caller: Caller) -> Job:
    """Cancel, and return the job as it is then: `cancelled`, or on its way there with `cancel_requested_at`.

    A repeat is no error. Raises InvalidJobState for a job that completed or failed, NotPermitted for another's job.
    """
    require_hand_on(job, caller)
    now = timezone.now()
    with transaction.atomic():
        job = Job.objects.locked(job.pk, "team", "hold", "price_line")
        if job.state == State.CANCELLED or (job.cancel_requested_at and not job.is_terminal):
            return job
        if job.is_terminal:
            raise InvalidJobState(
                f"Job {job.job_id} is {job.state} and cannot be cancelled.",
                details={"current_state": job.state, "allowed_states": ["blocked", "pending", "uploading", "queued", "running"]},
            )
        before = job.state
        Job.objects.filter(pk=job.pk).update(cancel_requested_at=now, cancel_requested_by=caller.user)
        if job.prediction_id or LaunchIntent.objects.filter(job=job, is_settled=False).exists():
            job.events.create(cause="person", at=now, detail="Cancel requested.")
            transaction.on_commit(lambda: tasks.cancel.delay(job_pk=job.pk), robust=True)
        else:
            ending.cancel_unsent(job, cause="person")
        audit.record(
            team=job.team,
            caller=caller,
            event_type="job.cancelled",
            action=f"Asked to cancel {job.job_id}",
            target_type="job",
            target_id=job.job_id,
            before={"state": before},
        )
    job.refresh_from_db()
    return job


def cancel_all(jobs: Iterable[Job], *, caller: Caller) -> list[Job]:
    """Cancel several, each by itself, and return those that are cancelled or on their way there; what ended meanwhile is left out.

    Raises NotPermitted, and cancels none, where one is another's job.
    """
    jobs, asked = list(jobs), []
    for job in jobs:
        require_hand_on(job, caller)
    for job in jobs:
        with suppress(InvalidJobState):
            asked.append(cancel(job, caller=caller))
    return asked


def hide(job: Job, *, caller: Caller) -> None:
    """Take a job out of the lists for good, once it is over or its cancel was asked for; its money and its audit lines stay.

    One that the provider still has is reconciled and settled all the same. A repeat is no error.

    Raises InvalidJobState for a job that goes on, NotPermitted for another's job.
    """
    require_hand_on(job, caller)
    ending_or_over = Q(state__in=TERMINAL) | Q(cancel_requested_at__isnull=False)
    with transaction.atomic():
        hidden = Job.objects.visible().filter(ending_or_over, pk=job.pk).update(deleted_at=timezone.now())
        job.refresh_from_db()
        if not hidden and job.deleted_at:
            return
        if not hidden:
            raise InvalidJobState(
                f"Job {job.job_id} is {job.state}; cancel it before you delete it.",
                details={"current_state": job.state, "allowed_states": ["completed", "failed", "cancelled"]},
            )
        audit.record(
            team=job.team,
            caller=caller,
            event_type="job.deleted",
            action=f"Deleted {job.job_id} from the history",
            target_type="job",
            target_id=job.job_id,
            before={"state": job.state},
        )
    log.info("job.deleted", team=job.team.slug, job=job.job_id)


def require_hand_on(job: Job, caller: Caller) -> None:
    """Raises NotPermitted unless the caller may cancel or delete this job: their own, or any with the right to all."""
    if caller.may(Right.CANCEL_ALL):
        return
    caller.require(Right.CANCEL_OWN)
    if job.submitted_by_id != caller.user.pk:
        raise NotPermitted("You may cancel and delete your own jobs only.", details={"required_permission": "job.cancel.all"})


def send(job: Job, *, cause: str = "cancel") -> None:
    """Tell the provider to end a job's run, and take over what it answers. Safe to repeat."""
    if job.is_terminal or not job.prediction_id:
        return
    Job.objects.filter(pk=job.pk).update(cancel_sent_at=timezone.now())
    try:
        with provider.gateway(team=job.team, credential=job.credential, is_urgent=True) as replicate:
            prediction = replicate.cancel(job.prediction_id)
    except NotFound:
        log.warning("cancel.not_found", team=job.team.slug, job=job.job_id)
        return
    except ReplicateError as error:
        log.warning("cancel.postponed", team=job.team.slug, job=job.job_id, reason=str(error))
        return
    progress.record(job, prediction, cause=cause)


def send_due() -> None:
    """Repeat the cancels that were asked for and are not confirmed."""
    now = timezone.now()
    sent = Job.objects.launched().exclude(prediction_id=None)
    for job in sent.exclude(cancel_requested_at=None):
        if job.cancel_sent_at is None or job.cancel_sent_at < now - RESEND_AFTER:
            tasks.cancel.delay(job_pk=job.pk)
    _release_unsent()


def _release_unsent() -> None:
    """Jobs whose cancel came between the launcher's call that certainly did nothing and its next try."""
    stuck = Job.objects.filter(state=State.UPLOADING, prediction_id=None, intent__is_settled=True).exclude(cancel_requested_at=None)
    certain = stuck.exclude(waiting_reason=WaitingReason.UNCERTAIN).select_related("team", "hold", "price_line")
    apart.each("cancel", certain, lambda job: ending.cancel_unsent(job, cause="person"))
