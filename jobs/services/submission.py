"""Submitting a job: plan it, set its money aside, and write it down. Nothing is sent to the provider here."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit
from accounts.callers import Caller
from accounts.errors import Conflict, Refusal
from accounts.roles import Right, Role
from billing import services as billing
from jobs import tasks
from jobs.models import IdempotencyKey, Job, JobProgress, QueueSettings, ResultDelivery
from jobs.models.admission import QueueMode
from jobs.models.job import Link
from jobs.services import planning
from jobs.specs import JobSpec, Plan
from jobs.states import State, WaitingReason

log = structlog.get_logger(__name__)

KEY_LIFETIME = timedelta(hours=24)
PRIORITIES = {Role.VIEWER: 0, Role.RESEARCHER: 10, Role.LEAD: 20, Role.OWNER: 30}


class QueueDraining(Refusal):
    """What was admitted still goes, nothing new is admitted."""

    code = "queue_draining"
    status = 503


class IdempotencyConflict(Conflict):
    """The key was used for another submission."""

    code = "idempotency_conflict"


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """A client's idempotency key with what was asked. A strict one refuses a repeat that asks for something else.

    Of `body` only a hash of each field is kept: enough to name the fields in which a repeat differs.
    """

    key: str
    body: dict[str, Any]
    is_strict: bool = False

    @property
    def fingerprints(self) -> dict[str, str]:
        """A hash of each field; one that is null is as one that is not there."""
        asked = {name: value for name, value in self.body.items() if value is not None}
        return {name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest() for name, value in asked.items()}


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """The job that exists now; `is_repeat` if an earlier submission made it."""

    job: Job
    is_repeat: bool = False
    cost_warnings: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def submit(caller: Caller, spec: JobSpec, *, repeat: Repeat | None = None) -> Submitted:
    """Admit a job: hold the most that it can cost, then queue it for launch.

    Key, hold, job and audit line are written in one transaction or not at all, so a refusal burns no key and
    leaves nothing but its audit line. The request is over in milliseconds.

    Raises the refusals of planning, LimitReached, QueueDraining, IdempotencyConflict.
    """
    caller.require(Right.SUBMIT)
    now = timezone.now()
    if repeat and (first := _first_of(caller, repeat, now=now)):
        return _answer_repeat(first, repeat)
    try:
        _require_open_queue(caller)
        plan = planning.plan(caller, spec, now=now)
        return _admit(caller, spec, plan, repeat=repeat, now=now)
    except _KeyTaken:
        first = _first_of(caller, repeat, now=now) if repeat else None
        if first is None:  # the other submission with this key was refused meanwhile
            return submit(caller, spec, repeat=repeat)
        return _answer_repeat(first, repeat)
    except Exception as refusal:
        _record_refusal(caller, spec, refusal)
        raise


class _KeyTaken(Exception):
    """Another submission with the same key was first."""


def _require_open_queue(caller: Caller) -> None:
    """Raises QueueDraining while an administrator lets the platform's or the team's queue run dry."""
    if QueueSettings.objects.filter(Q(team=None) | Q(team=caller.team), mode=QueueMode.DRAINING).exists():
        raise QueueDraining(
            "No new jobs are taken at the moment; those that wait still go.",
            hint="Submit again later, or ask an administrator when the queue opens.",
            details={"retry_after": 60},
        )


def _admit(caller: Caller, spec: JobSpec, plan: Plan, *, repeat: Repeat | None, now: datetime) -> Submitted:
    with transaction.atomic():
        key = _take_key(caller, repeat, now=now) if repeat else None
        job = _write_job(caller, spec, plan, now=now)
        held = billing.hold(
            team=caller.team,
            amount=plan.worst_case,
            reference=job.reference,
            what_for=planning.describe(plan),
            price_line=plan.price_line,
            user=caller.user,
            token=caller.token,
            is_rehearsal=job.is_rehearsal,
            now=now,
        )
        job.hold = held.hold
        if held.needs_approval:
            job.state, job.waiting_reason = State.BLOCKED, WaitingReason.APPROVAL
        job.save(update_fields=["hold", "state", "waiting_reason"])
        job.events.create(state=job.state, cause="submit", at=now)
        if key:
            key.job = job
            key.save(update_fields=["job"])
        audit.record(
            team=caller.team,
            caller=caller,
            event_type="job.retried" if job.link == Link.RETRY else "job.submitted",
            action=f"Submitted {job.job_id}: {planning.describe(plan)}",
            target_type="job",
            target_id=job.job_id,
            after={"hold": held.hold.amount, "ceiling_seconds": job.ceiling_seconds, "config": plan.config_name},
        )
        transaction.on_commit(lambda: tasks.dispatch.delay(), robust=True)
    log.info("job.submitted", team=caller.team.slug, job=job.job_id, hold=held.hold.amount)
    return Submitted(job=job, cost_warnings=held.warnings, warnings=plan.warnings)


def _write_job(caller: Caller, spec: JobSpec, plan: Plan, *, now: datetime) -> Job:
    metadata: dict[str, Any] = {}
    if spec.snapshot_name or spec.snapshot_message:
        metadata["snapshot"] = {"name": spec.snapshot_name, "message": spec.snapshot_message}
    job = Job.objects.create(
        team=caller.team,
        provider=spec.provider,
        submitted_by=caller.user,
        token=caller.token,
        correlation_id=structlog.contextvars.get_contextvars().get("correlation_id", ""),
        config_name=plan.config_name,
        config=plan.config,
        dataloader=plan.dataloader,
        run_name=spec.run_name,
        dataset_version=plan.dataset_version,
        packing_path=plan.packing_path,
        trainer=plan.trainer,
        version=plan.version,
        destination=plan.destination,
        hub_model_id=plan.hub_model_id,
        credential=plan.credential,
        hub_credential=plan.hub_credential,
        s3_credential=plan.s3_credential,
        metadata=metadata,
        parent=plan.parent,
        link=spec.link if plan.parent else Link.NONE,
        upload_id=spec.upload_id,
        price_line=plan.price_line,
        estimate_low=plan.estimate.low,
        estimate_high=plan.estimate.high,
        ceiling_seconds=plan.ceiling_seconds,
        stop_after_seconds=plan.ceiling_seconds,
        priority=PRIORITIES.get(Role(caller.role), 10),
        waiting_reason=WaitingReason.TURN,
        submitted_at=now,
    )
    JobProgress.objects.create(job=job, total_steps=plan.max_train_steps)
    ResultDelivery.objects.create(job=job, destination=plan.destination, target=plan.hub_model_id)
    return job


def _take_key(caller: Caller, repeat: Repeat, *, now: datetime) -> IdempotencyKey:
    """Claim the key. Of two at once the second waits here until the first is admitted or refused."""
    caller.team.idempotency_keys.filter(key=repeat.key, created_at__lte=now - KEY_LIFETIME).delete()
    try:
        with transaction.atomic():
            return IdempotencyKey.objects.create(team=caller.team, key=repeat.key, body=repeat.fingerprints, created_at=now)
    except IntegrityError:
        raise _KeyTaken from None


def _first_of(caller: Caller, repeat: Repeat, *, now: datetime) -> IdempotencyKey | None:
    keys = caller.team.idempotency_keys.select_related("job__trainer", "job__team")
    return keys.filter(key=repeat.key, created_at__gt=now - KEY_LIFETIME, job__isnull=False).first()


def _answer_repeat(first: IdempotencyKey, repeat: Repeat | None) -> Submitted:
    assert first.job is not None
    assert repeat is not None
    asked = repeat.fingerprints
    differing = sorted(name for name in first.body.keys() | asked.keys() if first.body.get(name) != asked.get(name))
    if differing and repeat.is_strict:
        raise IdempotencyConflict(
            f"This Idempotency-Key was used for another submission; these fields differ: {', '.join(differing)}.",
            hint="Use a new key for a new job.",
            details={"job_id": first.job.job_id, "fields": differing},
        )
    warnings = (
        [f"The idempotency key was used before with other values of: {', '.join(differing)}. The first job stands."] if differing else []
    )
    return Submitted(job=first.job, is_repeat=True, warnings=warnings)


def _record_refusal(caller: Caller, spec: JobSpec, refusal: Exception) -> None:
    """Leave the one trace of a refused submission."""
    code = getattr(refusal, "code", None)
    if code is None:
        return
    audit.record(
        team=caller.team,
        caller=caller,
        event_type="quota.exceeded" if getattr(refusal, "status", 0) == 402 else "job.refused",
        action=f"Refused a submission: {refusal}"[:300],
        target_type="config",
        target_id=(spec.config_name or spec.label)[:100],
        after={"code": code},
    )
