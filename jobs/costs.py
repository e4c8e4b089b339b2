"""What a job costs while it runs. What it cost in the end stands in its row and in the ledger."""

from datetime import datetime
from decimal import Decimal

from billing import prices
from jobs.models import Job


def so_far(job: Job, *, now: datetime) -> int:
    """Micro-dollars: the settled cost of a job that ended, the rate times the running time of one that runs; never above the hold."""
    if job.cost is not None:
        return job.cost
    seconds = job.duration_seconds(now=now)
    if seconds is None:
        return 0
    cost = prices.charge(usd_per_second=job.price_line.usd_per_second, seconds=Decimal(str(seconds)))
    return min(cost, job.hold.amount) if job.hold else cost
