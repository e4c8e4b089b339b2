"""What a job costs while it runs. What it cost in the end stands in its hold and in the ledger."""

from datetime import datetime
from decimal import Decimal

from billing import prices
from billing.models import BilledTime
from jobs.models import Job


def so_far(job: Job, *, now: datetime) -> int | None:
    """Micro-dollars: the settled cost of a job that ended, the rate times the running time of one that runs; never above the hold.

    None for a run that was started elsewhere and of which the provider has no figures any more.
    """
    if job.hold is not None and job.hold.charge is not None:
        # What was adjusted since stands in the hold.
        return job.hold.charge
    if job.cost is not None:
        return job.cost
    if job.is_terminal and job.is_imported:
        return None
    begun = billed_from(job)
    return _between(job, begun, job.ended_at or now) if begun else 0


def at_stop_time(job: Job) -> int | None:
    """Micro-dollars: what it will have cost if it runs until its stop time; None while that is not known, or once it is over.

    Of a run that has not begun, as if it had begun when it was created: it cannot be more.
    """
    if job.is_terminal or job.stop_at is None:
        return None
    return _between(job, billed_from(job) or job.created_at_provider, job.stop_at)


def billed_from(job: Job) -> datetime | None:
    """Since when the provider bills: the run's beginning, or its creation where all instance time is billed."""
    return job.created_at_provider if job.price_line.billed_time == BilledTime.INSTANCE else job.started_at


def _between(job: Job, begun: datetime | None, end: datetime) -> int:
    seconds = max(0.0, (end - begun).total_seconds()) if begun else 0.0
    cost = prices.charge(usd_per_second=job.price_line.usd_per_second, seconds=Decimal(str(seconds)))
    return min(cost, job.hold.amount) if job.hold else cost
