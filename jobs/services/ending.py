"""The end of a job: its last move and its money, in one transaction, whoever brought the news."""

from datetime import datetime
from decimal import Decimal

import structlog
from django.db import transaction
from django.utils import timezone

from accounts import audit
from billing import prices
from billing import services as billing
from billing.models import BilledTime
from jobs import tasks
from jobs.models import Job, LaunchIntent
from jobs.models.job import IntentOutcome
from jobs.replicate.predictions import Prediction
from jobs.states import State, WaitingReason

log = structlog.get_logger(__name__)

NO_METRICS = "The provider's figures are gone; charged to the ceiling."
FROM_STAMPS = "The provider named no billed time; charged from its start and end."
LOST = (
    "unknown_at_provider: it cannot be told whether the provider ran this job, and it is too late to find out. "
    "It is charged to its ceiling until an administrator has looked at the provider's invoice."
)


def fail(job: Job, *, error: str, cause: str) -> bool:
    """End a job that the provider never got. It costs nothing."""
    return _end(job, State.FAILED, cause=cause, charge=0, error=error)


def cancel_unsent(job: Job, *, cause: str) -> bool:
    """Cancel a job that the provider never got. It costs nothing."""
    return _end(job, State.CANCELLED, cause=cause, charge=0)


def lose(job: Job, *, cause: str) -> bool:
    """End a job whose run cannot be found any more, charged to the ceiling and flagged for review."""
    with transaction.atomic():
        LaunchIntent.objects.filter(job=job, outcome=IntentOutcome.OPEN).update(outcome=IntentOutcome.ABANDONED)
        return _end(job, State.FAILED, cause=cause, charge=_up_to_the_ceiling(job), flag="unknown_at_provider", error=LOST)


def conclude(job: Job, prediction: Prediction, state: State, *, cause: str) -> bool:
    """End a job as the provider says it ended, and charge what it billed."""
    charge, flag = charge_for(job, prediction)
    return _end(
        job,
        state,
        cause=cause,
        charge=charge,
        flag=flag,
        at=prediction.completed_at,
        billed_seconds=prediction.seconds,
        error=prediction.error or ("The deadline passed before the run began." if prediction.is_aborted else ""),
        output_url=(prediction.output_urls or [""])[0] or (prediction.output if isinstance(prediction.output, str) else ""),
    )


def charge_for(job: Job, prediction: Prediction) -> tuple[int, str]:
    """What a finished run costs, in micro-dollars, and why somebody should look at it ("" if nobody needs to).

    Active time is billed for completed, failed and cancelled runs alike; a run that its deadline stopped before
    it began is free. Source: Replicate docs, topics/billing and topics/predictions/lifecycle.
    """
    line = job.price_line
    seconds = prediction.total_seconds if line.billed_time == BilledTime.INSTANCE else prediction.seconds
    if prediction.is_aborted:
        return 0, ""
    if seconds is not None:
        charge = prices.charge(usd_per_second=line.usd_per_second, seconds=seconds)
        return charge, "" if job.hold is None or charge <= job.hold.amount else "The provider billed more time than the ceiling allows."
    if prediction.started_at is None and prediction.state != State.COMPLETED and not prediction.data_removed:
        return 0, ""
    if prediction.started_at and prediction.completed_at:
        stamped = Decimal(str((prediction.completed_at - prediction.started_at).total_seconds()))
        return min(prices.charge(usd_per_second=line.usd_per_second, seconds=stamped), _up_to_the_ceiling(job)), FROM_STAMPS
    return _up_to_the_ceiling(job), NO_METRICS


def _up_to_the_ceiling(job: Job) -> int:
    return prices.charge(usd_per_second=job.price_line.usd_per_second, seconds=Decimal(job.ceiling_seconds))


def _end(
    job: Job,
    state: State,
    *,
    cause: str,
    charge: int,
    flag: str = "",
    error: str = "",
    at: datetime | None = None,
    billed_seconds: Decimal | None = None,
    output_url: str = "",
) -> bool:
    """Move, settle and write the audit line together; only the first caller does anything."""
    now = timezone.now()
    with transaction.atomic():
        moved = job.move_to(
            state,
            cause=cause,
            at=now,
            ended_at=at or now,
            cost=charge,
            billed_seconds=billed_seconds,
            error=error,
            output_url=output_url,
            waiting_reason=WaitingReason.NONE,
            # The lease stays: whoever has the job in hand may still be uploading, and is cleaned up behind after that.
            try_after=None,
        )
        if not moved:
            return False
        if job.hold is not None:
            billing.settle(job.hold, charge=charge, now=now, flag=flag)
        audit.record(
            team=job.team,
            event_type=f"job.{state.value}",
            action=f"{job.job_id} ended: {state.label}",
            target_type="job",
            target_id=job.job_id,
            after={"charge": charge, "cause": cause, "flag": flag},
        )
        transaction.on_commit(lambda: tasks.archive.delay(job_pk=job.pk), robust=True)
    log.info("job.ended", team=job.team.slug, job=job.job_id, state=state.value, cause=cause, charge=charge)
    return True
