"""What was run: jobs by state and by day, hours of GPUs, and the bytes that are kept."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from django.db.models import Avg, Count, DurationField, ExpressionWrapper, F, Q, Sum
from django.db.models.functions import TruncDate

from accounts.models import Team
from billing.models import LineKind
from jobs.models import Artifact, JobQuota
from jobs.models.job import JobQuerySet
from jobs.models.quotas import QuotaKind, QuotaScope
from jobs.questions import Question
from jobs.spans import Span
from jobs.states import State

SECONDS_PER_HOUR = 3600


def submitted(jobs: JobQuerySet, span: Span) -> JobQuerySet:
    """Those that were submitted in the span."""
    return jobs.filter(submitted_at__gte=span.starts_at, submitted_at__lt=span.ends_at)


def by_state(jobs: JobQuerySet) -> dict[str, int]:
    """How many jobs are in which state; states without one are left out."""
    return dict(jobs.order_by("state").values_list("state").annotate(count=Count("pk")))


def by_day(jobs: JobQuerySet, span: Span) -> dict[date, dict[str, int]]:
    """For each day how many of the jobs were submitted on it, by the state in which they are now."""
    days: dict[date, dict[str, int]] = {day: defaultdict(int) for day in span.days()}
    day = TruncDate("submitted_at", tzinfo=span.zone)
    for on, state, count in jobs.order_by().annotate(day=day).values_list("day", "state").annotate(count=Count("pk")):
        days[span.nearest(on)][state] += count
    return days


def average_seconds(jobs: JobQuerySet) -> float | None:
    """How long the completed ones ran on average, in seconds; None without one."""
    took = ExpressionWrapper(F("ended_at") - F("started_at"), output_field=DurationField())
    average: timedelta | None = jobs.filter(state=State.COMPLETED).aggregate(average=Avg(took))["average"]
    return None if average is None else round(average.total_seconds(), 3)


def ended(jobs: JobQuerySet, span: Span) -> dict[str, int]:
    """How many jobs ended in the span, by how they ended."""
    return by_state(jobs.filter(ended_at__gte=span.starts_at, ended_at__lt=span.ends_at))


def gpu_hours(question: Question) -> dict[str, float]:
    """Billed hours times the number of GPUs, by the type of hardware, of the jobs that were charged in the span."""
    charged = Q(hold__lines__kind=LineKind.CHARGE, hold__lines__is_rehearsal=False)
    seconds = Sum(F("billed_seconds") * F("trainer__gpu_count"), filter=charged)
    rows = question.with_lines().order_by().values_list("trainer__hardware_type").annotate(seconds=seconds)
    return {name: round(float(Decimal(found) / SECONDS_PER_HOUR), 6) for name, found in rows if found}


@dataclass(frozen=True)
class Stored:
    """Bytes on this installation's storage."""

    results: int
    datasets: int

    @property
    def total(self) -> int:
        return self.results + self.datasets


def storage_quota(team: Team) -> int:
    """How many bytes may be kept for a team together; 0 where no quota says."""
    quota = JobQuota.objects.filter(team=team, scope=QuotaScope.TEAM, kind=QuotaKind.STORAGE_BYTES).first()
    return quota.limit_value if quota else 0


def stored(team: Team) -> Stored:
    """What is kept for a team."""
    results = Artifact.objects.filter(job__team=team).aggregate(total=Sum("size_bytes"))["total"]
    datasets = team.blobs.aggregate(total=Sum("size_bytes"))["total"]
    return Stored(results=results or 0, datasets=datasets or 0)
