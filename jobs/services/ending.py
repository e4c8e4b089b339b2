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
from jobs.models import ApprovalRequest, FaultRetry, Job, LaunchIntent, ProviderSettings
from jobs.models.admission import ApprovalState
from jobs.models.job import IntentOutcome
from jobs.replicate.predictions import Prediction
from jobs.states import State, WaitingReason

log = structlog.get_logger(__name__)

NO_METRICS = "The provider's figures are gone; charged to the ceiling."
FROM_STAMPS = "The provider named no billed time; charged from its start and end."
NO_TIME = "The provider names a billed time that no run can have; charged to the ceiling."
# A week: no run here lasts longer than a day, and no column holds any number of seconds.
MOST_SECONDS = Decimal(7 * 24 * 3600)
LOST = (
    "unknown_at_provider: it cannot be told whether the provider ran this job, and it is too late to find out. "
    "It is charged to its ceiling until an administrator has looked at the provider's invoice."
)
TOO_LATE = "The deadline passed before the run began."
AT_THE_CEILING = "The run reached its ceiling, and Replicate ended it there."
GONE = "Replicate does not know this run any more, which was started elsewhere."


def fail(job: Job, *, error: str, cause: str) -> bool:
    """End a job that the provider never got. It costs nothing."""
    return _end(job, State.FAILED, cause=cause, charge=0, error=error)


def cancel_unsent(job: Job, *, cause: str, error: str = "") -> bool:
    """Cancel a job that the provider never got. It costs nothing."""
    return _end(job, State.CANCELLED, cause=cause, charge=0, error=error)


def lose(job: Job, *, cause: str) -> bool:
    """End a job whose run cannot be found any more, charged to the ceiling and flagged for review.

    For one that was started elsewhere there is nothing to charge.
    """
    if job.is_imported:
        return _end(job, State.FAILED, cause=cause, charge=None, error=GONE)
    with transaction.atomic():
        LaunchIntent.objects.filter(job=job, outcome=IntentOutcome.OPEN).update(outcome=IntentOutcome.ABANDONED)
        if job.hold is not None:
            # Whether it was paid for stands on this account's invoice.
            billing.identify(job.hold, provider_reference="", provider_account=job.credential.account_username)
        return _end(job, State.FAILED, cause=cause, charge=_up_to_the_ceiling(job), flag="unknown_at_provider", error=LOST)


def conclude(job: Job, prediction: Prediction, state: State, *, cause: str) -> bool:
    """End a job as the provider says it ended, and charge what it billed."""
    charge: int | None
    charge, flag = charge_for(job, prediction)
    if job.is_imported and flag == NO_METRICS:
        # Nothing was held, so nothing is charged; a guess would only look like a figure.
        charge, flag = None, ""
    with transaction.atomic():
        is_over = _end(
            job,
            state,
            cause=cause,
            charge=charge,
            flag=flag,
            at=prediction.completed_at,
            billed_seconds=None if prediction.is_aborted or flag == NO_TIME else billed_seconds_of(job, prediction),
            error=prediction.error or _why(job, prediction),
            output_url=(prediction.output_urls or [""])[0] or (prediction.output if isinstance(prediction.output, str) else ""),
        )
        if is_over and prediction.is_retryable_fault:
            _note_fault(job)
    return is_over


def _why(job: Job, prediction: Prediction) -> str:
    """Why a run was stopped that nobody asked to stop, where its deadline tells."""
    if prediction.is_aborted:
        return TOO_LATE
    return AT_THE_CEILING if prediction.met_its_deadline and job.cancel_requested_at is None else ""


def _note_fault(job: Job) -> None:
    """Leave word that the team's rule has to decide whether the job runs again; nothing where there is no rule."""
    is_ours = not job.is_imported and job.cancel_requested_at is None
    if is_ours and ProviderSettings.objects.filter(team=job.team, retries_platform_faults__gt=0).exists():
        FaultRetry.objects.create(job=job)


def charge_for(job: Job, prediction: Prediction) -> tuple[int, str]:
    """What a finished run costs, in micro-dollars, and why somebody should look at it ("" if nobody needs to).

    Active time is billed for completed, failed and cancelled runs alike; a run that its deadline stopped before
    it began is free. Source: Replicate docs, topics/billing and topics/predictions/lifecycle.
    """
    line = job.price_line
    if prediction.is_aborted:
        return 0, ""
    seconds = billed_seconds_of(job, prediction)
    if seconds is not None and seconds > MOST_SECONDS:
        return _up_to_the_ceiling(job), NO_TIME
    if seconds is not None:
        charge = prices.charge(usd_per_second=line.usd_per_second, seconds=seconds)
        return charge, "" if job.hold is None or charge <= job.hold.amount else "The provider billed more time than the ceiling allows."
    if prediction.started_at is None and prediction.state != State.COMPLETED and not prediction.data_removed:
        return 0, ""
    began = prediction.created_at if line.billed_time == BilledTime.INSTANCE else prediction.started_at
    if began and prediction.completed_at and began <= prediction.completed_at:
        stamped = Decimal(str((prediction.completed_at - began).total_seconds()))
        return min(prices.charge(usd_per_second=line.usd_per_second, seconds=stamped), _up_to_the_ceiling(job)), FROM_STAMPS
    return _up_to_the_ceiling(job), NO_METRICS


def billed_seconds_of(job: Job, prediction: Prediction) -> Decimal | None:
    """The time that the job's price line bills, by the provider's own figures; None where it named none."""
    return prediction.total_seconds if job.price_line.billed_time == BilledTime.INSTANCE else prediction.seconds


def _up_to_the_ceiling(job: Job) -> int:
    return prices.charge(usd_per_second=job.price_line.usd_per_second, seconds=Decimal(job.ceiling_seconds))


def _end(
    job: Job,
    state: State,
    *,
    cause: str,
    charge: int | None,
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
        # A job that waited for approval may be cancelled like any other.
        ApprovalRequest.objects.pending().filter(job=job).update(state=ApprovalState.CANCELLED, reviewed_at=now)
        if job.hold is not None and charge is not None:
            billing.settle(job.hold, charge=charge, now=now, flag=flag, billed_seconds=billed_seconds)
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
