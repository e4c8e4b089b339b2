"""Admission: one transaction that claims the key, holds the money, writes the job and its audit line, or leaves nothing."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from django.db import transaction

from accounts import audit
from accounts.callers import Caller
from accounts.roles import Role
from billing import services as billing
from billing.limits import LimitStatus
from jobs import tasks, trainingconfigs
from jobs.models import ApprovalRequest, Job, JobProgress, ResultDelivery
from jobs.models.job import Link
from jobs.services import approval_requests, planning, quotas, rehearsing, repeats
from jobs.services.repeats import Repeat
from jobs.specs import JobSpec, Plan
from jobs.states import State, WaitingReason

log = structlog.get_logger(__name__)

PRIORITIES = {Role.VIEWER: 0, Role.RESEARCHER: 10, Role.LEAD: 20, Role.OWNER: 30}


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """The job that exists now; `is_repeat` if an earlier submission made it.

    `limits` are as they stood before it, `approval` is what a blocked job waits for, with its rule.
    """

    job: Job
    is_repeat: bool = False
    limits: list[LimitStatus] = field(default_factory=list)
    approval: ApprovalRequest | None = None
    cost_warnings: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def quota_warnings(self) -> list[str]:
        """What SimpleTuner's command line prints beside the job's id."""
        return self.warnings + ([f"It waits for approval. {self.approval.reason}"] if self.approval else [])


def admit(caller: Caller, spec: JobSpec, plan: Plan, *, repeat: Repeat | None, now: datetime) -> Submitted:
    """Decide and write. Raises LimitReached, QuotaReached, CostQuotaReached, KeyTaken."""
    with transaction.atomic():
        key = repeats.take(caller.team, repeat, now=now) if repeat else None
        job = _write_job(caller, spec, plan, now=now)
        # Quotas are locked after the job and ahead of all that is locked for money: see CONTRIBUTING.md.
        counted = quotas.check(caller, job, worst_case=plan.worst_case, now=now)
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
        # After the hold, which leaves the end of the team's ledger locked: so no other job of the person is overlooked.
        asked = approval_requests.verdict(caller, spec, plan, job=job, asking=held.asking, quotas=counted.asking, now=now)
        if asked:
            job.state, job.waiting_reason = State.BLOCKED, WaitingReason.APPROVAL
        job.save(update_fields=["hold", "state", "waiting_reason"])
        approval = approval_requests.make(job, asked, now=now) if asked else None
        job.events.create(state=job.state, cause="rule" if spec.is_automatic else "submit", at=now)
        if key:
            key.job = job
            key.save(update_fields=["job"])
        audit.record(
            team=caller.team,
            caller=caller,
            event_type="job.retried" if job.link == Link.RETRY else "job.submitted",
            action=f"{'By the rule for platform faults: s' if spec.is_automatic else 'S'}ubmitted {job.job_id}: {planning.describe(plan)}",
            target_type="job",
            target_id=job.job_id,
            after={
                "hold": held.hold.amount,
                "ceiling_seconds": job.ceiling_seconds,
                "stop_after_seconds": job.stop_after_seconds,
                "config": plan.config_name,
                **({"approval": asked.reason} if asked else {}),
            },
        )
        quotas.tell_owners(caller, job, counted)
        transaction.on_commit(lambda: tasks.dispatch.delay(), robust=True)
    log.info("job.submitted", team=caller.team.slug, job=job.job_id, hold=held.hold.amount)
    return Submitted(
        job=job,
        limits=held.limits,
        approval=approval,
        cost_warnings=held.warnings,
        warnings=[*plan.warnings, *counted.warnings],
    )


def _priority(caller: Caller) -> int:
    """By the role; the platform's staff have the highest wherever they submit themselves."""
    is_staff = caller.user.is_staff and caller.token is None
    return max(PRIORITIES.values()) if is_staff else PRIORITIES.get(Role(caller.role), 10)


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
        model_family=trainingconfigs.model_family(plan.config),
        model_kind=trainingconfigs.model_kind(plan.config),
        resolution=trainingconfigs.resolution_words(plan.config),
        images_a_step=trainingconfigs.images_a_step(plan.config),
        dataloader=plan.dataloader,
        run_name=spec.run_name,
        dataset_version=plan.dataset_version,
        packing_path=plan.packing_path,
        trainer=plan.trainer,
        version=plan.version,
        destination=plan.destination,
        hub_model_id=plan.hub_model_id,
        credential=rehearsing.admitted(caller, plan.credential),
        hub_credential=plan.hub_credential,
        s3_credential=plan.s3_credential,
        metadata=metadata,
        parent=plan.parent,
        link=spec.link if plan.parent else Link.NONE,
        upload_id=spec.upload_id,
        price_line=plan.price_line,
        estimate_low=plan.estimate.low,
        estimate_high=plan.estimate.high,
        estimate_source=plan.estimate.source[:300],
        ceiling_seconds=plan.ceiling_seconds,
        stop_after_seconds=plan.stop_after_seconds,
        priority=_priority(caller),
        not_before=spec.not_before,
        waiting_reason=WaitingReason.NOT_BEFORE if spec.not_before else WaitingReason.TURN,
        submitted_at=now,
    )
    JobProgress.objects.create(job=job, total_steps=plan.max_train_steps)
    ResultDelivery.objects.create(job=job, destination=plan.destination, target=plan.hub_model_id)
    return job
