"""Changing what waits and how many may run: priorities, start times, the numbers of platform and team, and the tidied list."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.callers import Caller, Staff
from accounts.errors import InvalidInput, NotPermitted, Refusal
from accounts.roles import Right
from jobs import tasks
from jobs.models import Job, QueueSettings
from jobs.services import cancelling, queue, queue_rules
from jobs.services.cancelling import InvalidJobState
from jobs.states import State

WAITS = (State.BLOCKED, State.PENDING)
LONGEST_WAIT = timedelta(days=30)
MOST = {
    "max_concurrent": 100,
    "team_max_concurrent": 50,
    "user_max_concurrent": 20,
    "local_gpu_max_concurrent": 1000,
    "local_job_max_concurrent": 1000,
}
# What a team's owners lower for themselves, and where that is kept.
LOWERED = {"team_max_concurrent": "own_team_max", "user_max_concurrent": "own_user_max"}


class StartOutOfBounds(Refusal):
    """It lies in the past, or too far ahead."""

    code = "not_before_out_of_bounds"


class AboveThePlatforms(Refusal):
    """A team asks for more than the platform's staff allow it."""


def set_priority(job: Job, *, by: Caller | Staff, priority: int | None) -> Job:
    """Give a waiting job another priority from 0 to 50, or with None its own again.

    Raises NotPermitted, InvalidInput, InvalidJobState for a job that does not wait.
    """
    if isinstance(by, Caller):
        by.require(Right.QUEUE, permission="job.priority.high")
    if priority is not None and not 0 <= priority <= queue.HIGHEST:
        raise InvalidInput(f"priority must be a whole number between 0 and {queue.HIGHEST}, or null.", field="priority")
    with transaction.atomic():
        job = Job.objects.locked(job.pk, "team")
        require_waiting(job)
        before = job.priority_override
        if before == priority:
            return job
        Job.objects.filter(pk=job.pk).update(priority_override=priority)
        job.priority_override = priority
        said = "its own priority again" if priority is None else f"the priority {priority} ({queue.name_of(priority)})"
        moved = {"before": {"priority_override": before}, "after": {"priority_override": priority}}
        _record(job, by, "job.priority_changed", f"Gave {job.job_id} {said}", **moved)
    return job


def set_not_before(job: Job, *, caller: Caller, not_before: datetime | None) -> Job:
    """Have a waiting job start at this moment at the earliest, or with None as soon as its turn comes.

    Raises NotPermitted for another's job, StartOutOfBounds, InvalidJobState for a job that does not wait.
    """
    cancelling.require_hand_on(job, caller)
    now = timezone.now()
    require_start_within_bounds(not_before, now=now)
    with transaction.atomic():
        job = Job.objects.locked(job.pk, "team")
        require_waiting(job)
        before = job.not_before
        if before == not_before:
            return job
        Job.objects.filter(pk=job.pk).update(not_before=not_before)
        job.not_before = not_before
        said = f"starts at {not_before:%Y-%m-%d %H:%M %Z} at the earliest" if not_before else "starts when its turn comes"
        job.events.create(cause="person", at=now, detail=f"It {said}.")
        moved = {"before": {"not_before": before}, "after": {"not_before": not_before}}
        _record(job, caller, "job.start_moved", f"{job.job_id} {said}", **moved)
        transaction.on_commit(lambda: tasks.dispatch.delay(), robust=True)
    return job


def require_start_within_bounds(not_before: datetime | None, *, now: datetime) -> None:
    """Raises StartOutOfBounds unless it is in the future, and at most 30 days ahead."""
    if not_before is not None and not now < not_before <= now + LONGEST_WAIT:
        raise StartOutOfBounds(f"not_before must be in the future, and at most {LONGEST_WAIT.days} days ahead.", field="not_before")


def require_waiting(job: Job) -> None:
    """Raises InvalidJobState for a job that has gone, or is over."""
    if job.state not in WAITS:
        raise InvalidJobState(
            f"Job {job.job_id} is {job.state} and does not wait any more.",
            details={"current_state": job.state, "allowed_states": [str(state) for state in WAITS]},
        )


def cancel(job: Job, *, caller: Caller) -> Job:
    """Cancel a job that waits. A repeat is no error. Raises NotPermitted, InvalidJobState for a job that has gone."""
    cancelling.require_hand_on(job, caller)
    with transaction.atomic():
        found = Job.objects.locked(job.pk)
        if found.state == State.CANCELLED:
            return found
        require_waiting(found)
        return cancelling.cancel(found, caller=caller)


def set_numbers(by: Caller | Staff, given: Mapping[str, Any]) -> QueueSettings:
    """Change how many jobs run at the same time: a team's numbers by its owner, the platform's and fair share by its staff.

    A team's owner lowers what the platform allows, and with None takes that back. Raises NotPermitted, InvalidInput out of
    range, AboveThePlatforms.
    """
    for name, most in MOST.items():
        value = given.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most):
            raise InvalidInput(f"{name} must be a whole number between 1 and {most}.", field=name)
    return _lower(by, given) if isinstance(by, Caller) else _set_platform(by, given)


def _lower(caller: Caller, given: Mapping[str, Any]) -> QueueSettings:
    caller.require(Right.MANAGE, permission="queue.manage")
    if beyond := [name for name in (*MOST, "enable_fair_share") if name in given and name not in LOWERED]:
        raise NotPermitted(
            f"Only the platform's staff set {beyond[0]}.",
            hint="A team's owners set team_max_concurrent and user_max_concurrent.",
            details={"required_permission": "admin.queue", "field": beyond[0]},
        )
    with transaction.atomic():
        row = queue_rules.row_of(caller.team)
        platform = queue_rules.read().platform
        allowed = {
            "team_max_concurrent": queue_rules.given_team(row, platform),
            "user_max_concurrent": queue_rules.given_person(row, platform),
        }
        for name in LOWERED:
            if (given.get(name) or 0) > allowed[name]:
                raise AboveThePlatforms(f"{name} can be {allowed[name]} at most: that is what the platform allows.", field=name)
        changes = {LOWERED[name]: given[name] for name in LOWERED if name in given}
        return _save(row, changes, caller=caller)


def _set_platform(by: Staff, given: Mapping[str, Any]) -> QueueSettings:
    fair = given.get("enable_fair_share")
    if fair is not None and not isinstance(fair, bool):
        raise InvalidInput("enable_fair_share must be true or false.", field="enable_fair_share")
    with transaction.atomic():
        changes = {name: given[name] for name in MOST if name in given}
        changes |= {} if fair is None else {"enable_fair_share": fair}
        return _save(queue_rules.row_of(None), changes, by=by.user, address=by.address)


def _save(row: QueueSettings, changes: dict[str, Any], **who: Any) -> QueueSettings:
    before = {name: getattr(row, name) for name in changes}
    if before == changes:
        return row
    for name, value in changes.items():
        setattr(row, name, value)
    row.save(update_fields=list(changes))
    audit.record(
        team=row.team,
        event_type="config.changed",
        action=f"Set how many jobs of {'the team' if row.team else 'the platform'} run at the same time",
        target_type="queue",
        target_id=row.team.slug if row.team else "platform",
        before=before,
        after=changes,
        **who,
    )
    transaction.on_commit(lambda: tasks.dispatch.delay(), robust=True)
    return row


def clean_up(caller: Caller, *, days: int) -> int:
    """Take the team's jobs that were over so many days ago out of the queue's list, and say how many.

    They stay among the jobs, with their money and their audit lines.
    """
    caller.require(Right.MANAGE, permission="queue.manage")
    until = timezone.now() - timedelta(days=days)
    over = caller.team.jobs.visible().terminal().filter(ended_at__lte=until)
    if not over.exists():
        return 0
    with transaction.atomic():
        row = queue_rules.row_of(caller.team)
        count = (over.filter(ended_at__gt=row.cleaned_until) if row.cleaned_until else over).count()
        if count:
            row.cleaned_until = until
            row.save(update_fields=["cleaned_until"])
            audit.record(
                team=caller.team,
                caller=caller,
                event_type="queue.cleaned",
                action=f"Took {count} jobs that were over out of the queue's list",
                target_type="queue",
                target_id=caller.team.slug,
                after={"days": days, "jobs": count},
            )
    return count


def _record(job: Job, by: Caller | Staff, event_type: str, action: str, *, before: dict[str, Any], after: dict[str, Any]) -> None:
    who: dict[str, Any] = {"caller": by} if isinstance(by, Caller) else {"by": by.user, "address": by.address}
    audit.record(
        team=job.team, event_type=event_type, action=action, target_type="job", target_id=job.job_id, before=before, after=after, **who
    )
