"""The stop time: ours, below the ceiling that is held, moved by people and kept by the watchdog.

The provider has the ceiling as its own deadline, which nobody can move; so a run ends in time even while we are down.
"""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone

from accounts import audit, letters
from accounts.callers import Caller
from accounts.errors import InvalidInput, Refusal
from accounts.models import Membership
from jobs import costs, tasks
from jobs.models import Job
from jobs.models.job import WARN_AT_PERCENT
from jobs.services import apart, cancelling
from jobs.services.cancelling import InvalidJobState
from jobs.services.pricing import SHORTEST_RUN_SECONDS
from jobs.states import ACTIVE

log = structlog.get_logger(__name__)

# A stop time that is nearer than this is a cancel.
LEAST_NOTICE = timedelta(seconds=60)


class StopTimeOutOfBounds(Refusal):
    """It lies beyond the ceiling that is held, or too near."""

    code = "stop_time_out_of_bounds"


def move(job: Job, *, caller: Caller, stop_after_seconds: int | None = None, stop_at: datetime | None = None) -> Job:
    """Move the stop time to so many seconds after the creation, or to a moment; nothing more is held, for the ceiling is.

    Moving it to where it is changes nothing. The row is locked, so that the watchdog stops the job by the old time or by the new one.

    Raises NotPermitted for another's job, InvalidJobState once it is over, being cancelled or not ours to stop,
    StopTimeOutOfBounds, InvalidInput unless exactly one of the two is given.
    """
    cancelling.require_hand_on(job, caller)
    if (stop_after_seconds is None) == (stop_at is None):
        raise InvalidInput("Give either stop_after_seconds or stop_at.", field="stop_after_seconds")
    now = timezone.now()
    with transaction.atomic():
        job = _locked(job)
        _require_movable(job)
        seconds = _seconds_until(job, stop_at) if stop_at else int(stop_after_seconds or 0)
        before = job.stop_after_seconds
        if seconds == before:
            return job
        _require_within_bounds(job, seconds, now=now)
        Job.objects.filter(pk=job.pk).update(stop_after_seconds=seconds, stop_warned_at=None)
        job.refresh_from_db(fields=["stop_after_seconds", "stop_warned_at"])
        job.events.create(cause="person", at=now, detail=f"Stop time moved from {_minutes(before)} to {_minutes(seconds)} after creation.")
        audit.record(
            team=job.team,
            caller=caller,
            event_type="job.stop_time_moved",
            action=f"Moved the stop time of {job.job_id}",
            target_type="job",
            target_id=job.job_id,
            before={"stop_after_seconds": before},
            after={"stop_after_seconds": seconds},
        )
    log.info("job.stop_time_moved", team=job.team.slug, job=job.job_id, seconds=seconds)
    return job


def is_movable(job: Job) -> bool:
    """Whether the job has a stop time that can still be moved, whoever may."""
    return job.state in ACTIVE and job.cancel_requested_at is None and not job.is_imported


def watch(*, now: datetime | None = None) -> None:
    """The watchdog: stop the jobs whose stop time has come, and warn of those that are near it."""
    now = now or timezone.now()
    apart.each("stop", _watched(), lambda job: _watch(job, now=now))


def _watch(job: Job, *, now: datetime) -> None:
    if job.stop_at and job.stop_at <= now:
        _stop(job, now=now)
    elif job.warn_at and job.warn_at <= now and job.stop_warned_at is None:
        _warn(job, now=now)


def _watched() -> QuerySet[Job]:
    """Jobs at the provider that nobody has asked to cancel. What was started elsewhere is not ours to stop."""
    sent = Job.objects.launched().admitted().exclude(prediction_id=None)
    return sent.filter(cancel_requested_at=None, created_at_provider__isnull=False)


def _locked(job: Job) -> Job:
    return Job.objects.locked(job.pk, "team", "hold", "price_line", "submitted_by")


def _stop(job: Job, *, now: datetime) -> None:
    """Ask for the cancel, unless the job ended or somebody moved its stop time meanwhile."""
    with transaction.atomic():
        job = _locked(job)
        if not is_movable(job) or job.stop_at is None or job.stop_at > now:
            return
        Job.objects.filter(pk=job.pk).update(cancel_requested_at=now)
        job.events.create(cause="watchdog", at=now, detail="The stop time has come.")
        transaction.on_commit(lambda: tasks.cancel.delay(job_pk=job.pk), robust=True)
    log.info("job.stopped", team=job.team.slug, job=job.job_id)


def _warn(job: Job, *, now: datetime) -> None:
    """Tell the submitter once that the stop time is near; who has left the team is told no more."""
    with transaction.atomic():
        job = _locked(job)
        if not is_movable(job) or job.stop_warned_at or job.stop_at is None or job.warn_at is None or job.warn_at > now:
            return
        Job.objects.filter(pk=job.pk).update(stop_warned_at=now)
        stop_at = f"{job.stop_at.astimezone(ZoneInfo(job.team.time_zone)):%Y-%m-%d %H:%M %Z}"
        job.events.create(cause="watchdog", at=now, detail=f"{WARN_AT_PERCENT} % of its time is over: it is stopped at {stop_at}.")
        if Membership.objects.filter(team=job.team, user=job.submitted_by).exists():
            letters.write(event="stop_time", to=[job.submitted_by], team=job.team, facts=_facts(job, now=now))
    log.info("job.stop_time_near", team=job.team.slug, job=job.job_id)


def _facts(job: Job, *, now: datetime) -> dict[str, str | int]:
    """What the mail says; amounts in micro-dollars."""
    assert job.stop_at is not None
    assert job.ceiling_at is not None
    return {
        "job": job.run_name or job.config_name or job.job_id,
        "team": job.team.name,
        "percent": WARN_AT_PERCENT,
        "minutes": max(0, int((job.stop_at - now).total_seconds() // 60)),
        "stop_at": job.stop_at.isoformat(),
        "ceiling_at": job.ceiling_at.isoformat(),
        "time_zone": job.team.time_zone,
        "cost": costs.so_far(job, now=now) or 0,
        "cost_at_stop": costs.at_stop_time(job) or 0,
        "may_move": int(job.stop_after_seconds < job.ceiling_seconds),
        "link": settings.PUBLIC_URL + reverse("jobs:stop_time", args=[job.team.slug, job.job_id]) if settings.PUBLIC_URL else "",
    }


def _require_movable(job: Job) -> None:
    details = {"current_state": job.state, "allowed_states": sorted(ACTIVE)}
    if job.is_imported:
        raise InvalidJobState(f"Job {job.job_id} was started elsewhere, so no stop time is kept for it.", details=details)
    if job.is_terminal:
        raise InvalidJobState(f"Job {job.job_id} is {job.state}; its stop time cannot be moved any more.", details=details)
    if job.cancel_requested_at:
        raise InvalidJobState(
            f"Job {job.job_id} is being stopped already; its stop time cannot be moved any more.",
            hint="Submit a new job that continues it.",
            details=details,
        )


def _seconds_until(job: Job, stop_at: datetime) -> int:
    """Seconds from the creation to a moment. Raises InvalidJobState for a job that the provider has not created yet."""
    if job.created_at_provider is None:
        raise InvalidJobState(
            f"Job {job.job_id} is not at the provider yet, so its stop time is no moment but a length.",
            hint="Give stop_after_seconds.",
            details={"current_state": job.state},
        )
    return round((stop_at - job.created_at_provider).total_seconds())


def _require_within_bounds(job: Job, seconds: int, *, now: datetime) -> None:
    if seconds > job.ceiling_seconds:
        raise StopTimeOutOfBounds(
            f"The stop time cannot lie beyond the ceiling of the job, {_minutes(job.ceiling_seconds)} after its creation: "
            "no more is held, and the provider ends the run there.",
            hint="To train longer, submit a new job that continues this one.",
            field="stop_after_seconds",
            details={"ceiling_seconds": job.ceiling_seconds},
        )
    soonest = SHORTEST_RUN_SECONDS
    if job.created_at_provider:
        soonest = max(soonest, round((now + LEAST_NOTICE - job.created_at_provider).total_seconds()))
    # Up to the ceiling is always allowed, also in the last minute before it.
    if seconds < min(soonest, job.ceiling_seconds):
        raise StopTimeOutOfBounds(
            "The stop time must lie at least a minute ahead, and a minute after the creation of the job.",
            hint="To stop it now, cancel it.",
            field="stop_after_seconds",
            details={"soonest_seconds": soonest, "ceiling_seconds": job.ceiling_seconds},
        )


def _minutes(seconds: int) -> str:
    """For a line of the timeline: 90 min, or 75 s."""
    return f"{seconds} s" if seconds % 60 else f"{seconds // 60} min"
