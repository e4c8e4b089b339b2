"""How job quotas stand: which of them decide for a person in a team, what they count, and how much of it there is.

Of the quotas for single persons the nearest decides: the person's own, else their role's, else that for each person; the
team's come before the platform's. The team's total and the platform's count beside it, all of their jobs together.
Of money a person's own quota and the totals are spend limits: a quota for each person of a role is counted here, and only
for those who have no limit of their own. Rehearsals cost nothing and count nowhere.

Source: simpletuner-api.md 2.6 and 12.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

from django.conf import settings
from django.db.models import Count, Exists, OuterRef, Q, Sum
from django.db.models.functions import Coalesce

from accounts.models import APIToken, Team, User
from billing import services as billing
from billing.limits import WARNING_PERCENT, LimitStatus
from billing.models import Hold, HoldQuerySet, LimitAction, LimitScope, SpendLimit
from billing.periods import bounds
from billing.prices import dollars
from jobs.models import Artifact, Blob, DatasetFile, Job, JobQuota
from jobs.models.job import JobQuerySet
from jobs.models.quotas import MONEY, QuotaAction, QuotaKind, QuotaScope
from jobs.states import ACTIVE, State

WINDOWS = {QuotaKind.JOBS_PER_HOUR: timedelta(hours=1), QuotaKind.JOBS_PER_DAY: timedelta(days=1)}
JOB_KINDS = frozenset(QuotaKind) - {QuotaKind.STORAGE_BYTES, QuotaKind.LOCAL_GPUS}
# What SimpleTuner calls a quota of money is a spend limit of this period.
COST_PERIOD = {QuotaKind.COST_DAILY.value: "daily", QuotaKind.COST_MONTHLY.value: "monthly"}
COST_KIND = {period: kind for kind, period in COST_PERIOD.items()}

# What was charged for a hold, or what is held while nobody knows that.
_TOTAL = Sum(Coalesce("charge", "amount"))

# As SimpleTuner's own sentences have it, for one and for several.
NOUNS = {
    QuotaKind.CONCURRENT_JOBS: ("concurrent job", "concurrent jobs"),
    QuotaKind.JOBS_PER_HOUR: ("job per hour", "jobs per hour"),
    QuotaKind.JOBS_PER_DAY: ("job per day", "jobs per day"),
    QuotaKind.JOBS_PER_MONTH: ("job per month", "jobs per month"),
    QuotaKind.QUEUED_JOBS: ("waiting job", "waiting jobs"),
    QuotaKind.LOCAL_GPUS: ("GPU", "GPUs"),
}
WHOSE = {
    QuotaScope.PERSON: "for one person",
    QuotaScope.ROLE: "for each person of the role",
    QuotaScope.EACH: "for each person",
    QuotaScope.TEAM: "for the team",
    QuotaScope.PLATFORM: "for the platform",
}
# The nearer one decides; the last two are totals.
NEARNESS = (QuotaScope.PERSON, QuotaScope.ROLE, QuotaScope.EACH, QuotaScope.TEAM, QuotaScope.PLATFORM)
TOTALS = (QuotaScope.TEAM, QuotaScope.PLATFORM)


@dataclass(frozen=True)
class Ceiling:
    """The lowest total above a person's quota; `is_bound` if it is below what the quota itself says."""

    scope: str
    value: int
    is_bound: bool


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How one quota stands. `limit` and `current` are jobs or bytes, of money whole micro-dollars.

    Of money `held` is part of `current`, and `requested` is what one more job can cost at most. A total that blocks lowers the
    limit of the quotas below it.
    """

    kind: str
    scope: str
    action: str
    limit: int
    current: int
    held: int = 0
    requested: int = 0
    ceiling: Ceiling | None = None

    @property
    def is_exceeded(self) -> bool:
        is_beyond = self.current >= self.limit or self.current + self.requested > self.limit
        return is_beyond and self.kind != QuotaKind.LOCAL_GPUS

    @property
    def is_warning(self) -> bool:
        """From 80 % of the limit on."""
        return self.current * 100 >= self.limit * WARNING_PERCENT and self.kind != QuotaKind.LOCAL_GPUS

    @property
    def percent(self) -> float:
        return round(self.current * 100 / self.limit, 2) if self.limit else 100.0

    @property
    def blocks(self) -> bool:
        return self.is_exceeded and self.action == QuotaAction.BLOCK

    @property
    def is_of_jobs(self) -> bool:
        """Whether one more job counts for it, or its money."""
        return self.kind in JOB_KINDS

    @property
    def with_one_more(self) -> "Standing":
        """As it stands once one more job is there."""
        return replace(self, current=self.current + (self.requested if self.kind in MONEY else 1), requested=0)

    @property
    def message(self) -> str:
        """A sentence from 80 % of the limit on, else nothing."""
        if self.is_exceeded:
            return f"Quota exceeded: {self.fact}"
        return self.approaching if self.is_warning else ""

    @property
    def approaching(self) -> str:
        return f"Approaching quota: {self._now} of {self._most} {self._whose}."

    @property
    def fact(self) -> str:
        """What is allowed, and what there is."""
        if self.kind in COST_PERIOD:
            asked = f", and the job can cost up to {dollars(self.requested)}" if self.requested else ""
            return f"{self._now} of {self._most} {self._whose}{asked}."
        return f"Maximum {self._most} allowed {self._whose}; {self._now} now."

    @property
    def _whose(self) -> str:
        return WHOSE[QuotaScope(self.scope)]

    @property
    def _most(self) -> str:
        if self.kind in COST_PERIOD:
            return f"{dollars(self.limit)} {COST_PERIOD[self.kind]}"
        if self.kind == QuotaKind.STORAGE_BYTES:
            return f"{size(self.limit)} of storage"
        one, several = NOUNS[QuotaKind(self.kind)]
        return f"{self.limit} {one if self.limit == 1 else several}"

    @property
    def _now(self) -> str:
        if self.kind in COST_PERIOD:
            return dollars(self.current)
        return size(self.current) if self.kind == QuotaKind.STORAGE_BYTES else str(self.current)

    def to_json(self) -> dict[str, Any]:
        """For a refusal's details and the audit trail: whole numbers, of jobs or bytes."""
        return {"quota_type": self.kind, "scope": self.scope, "action": self.action, "limit": self.limit, "current": self.current}


def size(count: int) -> str:
    """Bytes for English sentences: 1.50 GiB."""
    value, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} bytes" if unit == "bytes" else f"{value:.2f} {unit}"


# --- For a person in a team -------------------------------------------------------------------------------


def standings(*, team: Team, user: User, role: str, requested: int = 0, now: datetime) -> list[Standing]:
    """How the quotas with a row stand that apply to a person in a team; without a lock, and writing nothing.

    `requested` is what one more job can cost at most, in micro-dollars.
    """
    rows = JobQuota.objects.applying_to(team=team, user=user, role=role)
    return of_rows(rows, team=team, user=user, now=now, requested=requested)


def with_money(*, team: Team, user: User, role: str, token: APIToken | None = None, now: datetime) -> tuple[list[Standing], list[str]]:
    """All that stands between a person and one more job: jobs, storage and money; and why they cannot submit, [] if they can.

    Spend limits of a week or of a token have no kind of quota, and only stand among the reasons.
    """
    money = billing.statuses(team=team, user=user, token=token, now=now)
    found = standings(team=team, user=user, role=role, now=now)
    reasons = [standing.message for standing in found if standing.blocks and standing.is_of_jobs]
    found += [of_money(status) for status in money if status.window in COST_KIND and status.scope != LimitScope.TOKEN]
    return found, reasons + [_spent(status) for status in money if status.action == LimitAction.BLOCK and status.left == 0]


def _spent(status: LimitStatus) -> str:
    whose = "" if status.scope == LimitScope.TEAM else f" of the {status.scope}"
    return f"Cost limit exceeded: {dollars(status.used + status.held)} spent of {dollars(status.limit)} {status.window} limit{whose}."


def of_money(status: LimitStatus) -> Standing:
    """A daily or monthly spend limit as a quota."""
    current = status.used + status.held
    return Standing(kind=COST_KIND[status.window], scope=status.scope, action=status.action, limit=status.limit, current=current)


def as_limit(standing: Standing, *, team: Team, now: datetime) -> LimitStatus:
    """A quota of money as refusals and dry runs show spend limits; `scope` is "role" or "each"."""
    return LimitStatus(
        scope=standing.scope,
        name="quota",
        window=COST_PERIOD[standing.kind],
        action=standing.action,
        limit=standing.limit,
        top_up=0,
        used=standing.current - standing.held,
        held=standing.held,
        left=max(0, standing.limit - standing.current),
        requested=standing.requested,
        resets_at=money_period(team, standing.kind, now)[1],
        binding=standing.blocks,
    )


def of_rows(
    rows: Iterable[JobQuota], *, team: Team, user: User, now: datetime, leaving_out: Job | None = None, requested: int = 0
) -> list[Standing]:
    """How those of the rows stand that decide for a person in a team, the person's own before the totals.

    `requested` is what one more job can cost at most; a job that is there already is left out with its money.
    """
    deciding = _without_limits_of_their_own(_deciding(rows), team=team, user=user)
    kinds: dict[str, set[str]] = defaultdict(set)
    for row in deciding:
        kinds[_counted_for(row.scope)].add(row.kind)
    jobs = counted().exclude(pk=leaving_out.pk) if leaving_out else counted()
    counts = {scope: counts_of(found, scope, team, user, jobs=jobs, now=now) for scope, found in kinds.items()}
    found = [_standing(row, deciding, counts[_counted_for(row.scope)].get(row.kind, 0)) for row in deciding if row.kind not in MONEY]
    for row in (row for row in deciding if row.kind in MONEY):
        settled, held = spent_by(user, team=team, kind=row.kind, now=now, leaving_out=leaving_out)
        found.append(replace(_standing(row, deciding, settled + held), held=held, requested=requested))
    return found


def _without_limits_of_their_own(deciding: list[JobQuota], *, team: Team, user: User) -> list[JobQuota]:
    """All but those of money where the person's own limit decides, which is nearer."""
    periods = [COST_PERIOD[row.kind] for row in deciding if row.kind in MONEY]
    if not periods:
        return deciding
    own = SpendLimit.objects.enabled().filter(scope=LimitScope.PERSON, team=team, user=user, period__in=periods)
    settled = {COST_KIND[period] for period in own.values_list("period", flat=True)}
    return [row for row in deciding if row.kind not in settled]


def _standing(row: JobQuota, deciding: list[JobQuota], current: int) -> Standing:
    limit, ceiling = row.limit_value, None
    above = [other for other in deciding if other.kind == row.kind and _height(other) > _height(row)]
    if above:
        lowest = min(above, key=lambda other: other.limit_value)
        ceiling = Ceiling(lowest.scope, lowest.limit_value, is_bound=lowest.limit_value < limit)
        limit = min([limit, *(other.limit_value for other in above if other.action == QuotaAction.BLOCK)])
    return Standing(kind=row.kind, scope=row.scope, action=row.action, limit=limit, current=current, ceiling=ceiling)


def _deciding(rows: Iterable[JobQuota]) -> list[JobQuota]:
    """Of each kind the nearest quota of the person and the totals above it."""
    nearest: dict[tuple[str, str], JobQuota] = {}
    for row in sorted(rows, key=lambda row: (row.team_id is None, NEARNESS.index(QuotaScope(row.scope)))):
        nearest.setdefault((row.kind, _counted_for(row.scope)), row)
    kinds = list(QuotaKind)
    return sorted(nearest.values(), key=lambda row: (_height(row), kinds.index(QuotaKind(row.kind))))


def _height(row: JobQuota) -> int:
    return (QuotaScope.PERSON, *TOTALS).index(_counted_for(row.scope))


def _counted_for(scope: str) -> QuotaScope:
    """Whose jobs a quota of this scope counts: a person's, a team's or the platform's."""
    return QuotaScope(scope) if scope in TOTALS else QuotaScope.PERSON


# --- For who manages quotas -------------------------------------------------------------------------------


def usage(rows: Iterable[JobQuota], *, team: Team | None, now: datetime) -> dict[int, int]:
    """The count of each of these quotas that is for one person or a total, by its key."""
    kinds: dict[tuple[str, User | None], set[str]] = defaultdict(set)
    single = [row for row in rows if row.scope in (QuotaScope.PERSON, *TOTALS)]
    for row in single:
        kinds[row.scope, row.user].add(row.kind)
    counts = {key: counts_of(found, key[0], team, key[1], jobs=counted(), now=now) for key, found in kinds.items()}
    return {row.pk: counts[row.scope, row.user].get(row.kind, 0) for row in single}


def fullest(rows: Iterable[JobQuota], *, team: Team, now: datetime) -> dict[int, tuple[User, int]]:
    """For each of these quotas for several persons, by its key: whose count is the highest of those for whom it decides."""
    rows = [row for row in rows if row.scope not in TOTALS]
    counted_by = _counted_by_person({row.kind for row in rows}, team, now=now)
    if not counted_by:
        return {}
    highest: dict[int, tuple[User, int]] = {}
    for member in team.memberships.select_related("user").order_by("user__username"):
        mine = [row for row in rows if row.user_id in (None, member.user_id) and row.role in ("", member.role)]
        for row in _without_limits_of_their_own(_deciding(mine), team=team, user=member.user):
            count = counted_by.get(member.user_id, {}).get(row.kind, 0)
            if count and (row.pk not in highest or count > highest[row.pk][1]):
                highest[row.pk] = (member.user, count)
    return highest


def _counted_by_person(kinds: set[str], team: Team, *, now: datetime) -> dict[int, dict[str, int]]:
    """How much there is of each kind of each of a team's people who have anything of it; of money, micro-dollars."""
    found: dict[int, dict[str, int]] = defaultdict(dict)
    if conditions := _conditions(kinds, team.time_zone, now=now):
        counts = {kind: Count("pk", filter=condition) for kind, condition in conditions.items()}
        jobs = team.jobs.against_quotas().filter(reduce(or_, conditions.values())).order_by()
        for of_one in jobs.values_list("submitted_by").annotate(**counts):
            found[of_one[0]] |= dict(zip(counts, of_one[1:], strict=True))
    for kind in kinds.intersection(MONEY):
        for spent in _money_in_period(team, kind, now=now).order_by().values("user").annotate(total=_TOTAL):
            found[spent["user"]][kind] = spent["total"]
    return found


# --- Counting ---------------------------------------------------------------------------------------------


def counted() -> JobQuerySet:
    """All jobs that quotas count."""
    return Job.objects.all().against_quotas()


def counts_of(kinds: set[str], scope: str, team: Team | None, user: User | None, *, jobs: JobQuerySet, now: datetime) -> dict[str, int]:
    """How much there is of each kind: of a person in a team, a team or the platform."""
    conditions = _conditions(kinds, zone_of(scope, team), now=now)
    counts: dict[str, int] = {}
    if conditions:
        counting = of_scope(jobs, scope, team, user).filter(reduce(or_, conditions.values()))
        counts |= counting.aggregate(**{kind: Count("pk", filter=condition) for kind, condition in conditions.items()})
    if QuotaKind.STORAGE_BYTES in kinds:
        counts[QuotaKind.STORAGE_BYTES] = stored_bytes(scope, team, user)
    return counts


def _conditions(kinds: Iterable[str], zone: str, *, now: datetime) -> dict[str, Q]:
    """Which jobs count for each kind. Hour and day are the last 3,600 and 86,400 seconds, a month is the calendar's."""
    known = {
        QuotaKind.CONCURRENT_JOBS: Q(state__in=ACTIVE),
        QuotaKind.QUEUED_JOBS: Q(state__in=[State.BLOCKED, State.PENDING]),
        QuotaKind.JOBS_PER_MONTH: Q(submitted_at__gte=month_of(zone, now)[0]),
        **{kind: Q(submitted_at__gt=now - window) for kind, window in WINDOWS.items()},
    }
    return {kind.value: condition for kind, condition in known.items() if kind in kinds}


def spent_by(user: User, *, team: Team, kind: str, now: datetime, leaving_out: Job | None = None) -> tuple[int, int]:
    """What is settled, and what is held, for a person's jobs in the calendar day or month of a team, in micro-dollars."""
    holds = _money_in_period(team, kind, now=now).filter(user=user)
    if leaving_out is not None and leaving_out.hold_id:
        holds = holds.exclude(pk=leaving_out.hold_id)
    sums = holds.aggregate(settled=Sum("charge"), held=Sum("amount", filter=Q(charge=None)))
    return sums["settled"] or 0, sums["held"] or 0


def _money_in_period(team: Team, kind: str, *, now: datetime) -> HoldQuerySet:
    starts_at, ends_at = money_period(team, kind, now)
    return Hold.objects.filter(team=team, is_rehearsal=False, created_at__gte=starts_at, created_at__lt=ends_at)


def money_period(team: Team, kind: str, now: datetime) -> tuple[datetime, datetime]:
    """The calendar day or month of a quota of money, in the team's time zone."""
    return bounds(COST_PERIOD[kind], now, time_zone=team.time_zone, first_weekday=team.first_weekday)


def month_of(zone: str, now: datetime) -> tuple[datetime, datetime]:
    """Where the calendar month of now begins and ends in a time zone."""
    return bounds("monthly", now, time_zone=zone, first_weekday=0)


def zone_of(scope: str, team: Team | None) -> str:
    """By whose clock months are counted: the team's, or the server's."""
    return settings.TIME_ZONE if team is None or scope == QuotaScope.PLATFORM else team.time_zone


def of_scope(jobs: JobQuerySet, scope: str, team: Team | None, user: User | None) -> JobQuerySet:
    """Those of the jobs that a quota of this scope is about."""
    if scope == QuotaScope.PLATFORM:
        return jobs
    return jobs.filter(team=team) if scope == QuotaScope.TEAM else jobs.filter(team=team, submitted_by=user)


def stored_bytes(scope: str, team: Team | None, user: User | None) -> int:
    """The bytes of the datasets and of the results that are kept here; of a person, of what they added and their jobs brought.

    What a team has in several versions is kept, and counted, once.
    """
    files = DatasetFile.objects.filter(blob=OuterRef("pk"))
    blobs, artifacts = Blob.objects.all(), Artifact.objects.all()
    if scope != QuotaScope.PLATFORM:
        blobs, artifacts = blobs.filter(team=team), artifacts.filter(job__team=team)
    if _counted_for(scope) == QuotaScope.PERSON:
        files, artifacts = files.filter(version__created_by=user), artifacts.filter(job__submitted_by=user)
    in_datasets = blobs.filter(Exists(files)).aggregate(total=Sum("size_bytes"))["total"] or 0
    return int(in_datasets) + int(artifacts.aggregate(total=Sum("size_bytes"))["total"] or 0)
