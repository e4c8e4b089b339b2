"""What job quotas say to one more job, in the transaction that admits it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil

from accounts import audit
from accounts.callers import Caller
from accounts.errors import Refusal
from accounts.models import Team, User
from jobs.models import Job, JobQuota
from jobs.models.job import Destination
from jobs.models.quotas import MONEY, QuotaAction, QuotaKind
from jobs.services import quota_standings
from jobs.services.quota_standings import WINDOWS, Standing

# A place among running and waiting jobs comes free when one ends, and nobody knows when.
TRY_AGAIN_SECONDS = 60


class QuotaReached(Refusal):
    """A blocking quota leaves no room for one more job; `details.quotas` shows every quota that applies."""

    code = "quota_exceeded"
    status = 429

    def __init__(self, reached: Standing, standings: list[Standing], *, retry_after: int) -> None:
        ends = reached.kind in (QuotaKind.CONCURRENT_JOBS, QuotaKind.QUEUED_JOBS)
        way_out = "Wait until a job has ended, or cancel one." if ends else f"There is room again in {retry_after} seconds."
        super().__init__(
            reached.message,
            hint=f"{way_out} An owner of the team can raise it under Settings, Quotas.",
            details={"quotas": [standing.to_json() for standing in standings], "retry_after": retry_after},
        )


class CostQuotaReached(QuotaReached):
    """A blocking quota of money leaves less than the job can cost; `details.limits` shows those that apply as limits."""

    code = "cost_quota_exceeded"
    status = 402

    def __init__(self, reached: Standing, standings: list[Standing], *, team: Team, now: datetime) -> None:
        resets_at = quota_standings.money_period(team, reached.kind, now)[1]
        super().__init__(reached, standings, retry_after=ceil((resets_at - now).total_seconds()))
        self.hint = (
            f"Ask for less, wait until running jobs are settled or the quota resets at {resets_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, "
            "or ask an owner to raise it under Settings, Quotas."
        )
        self.details["limits"] = [
            quota_standings.as_limit(standing, team=team, now=now).to_json() for standing in standings if standing.kind in MONEY
        ]


@dataclass(frozen=True, kw_only=True)
class QuotaOutcome:
    """What the quotas say to a job that they let in.

    `warnings` are for who submits. Where quotas are `asking`, the job waits for somebody's word. `notices` are for the owners.
    """

    warnings: list[str] = field(default_factory=list)
    asking: list[Standing] = field(default_factory=list)
    notices: list[Standing] = field(default_factory=list)


def check(caller: Caller, job: Job, *, worst_case: int, now: datetime) -> QuotaOutcome:
    """Ask every quota about a job that was just written and can cost so much (micro-dollars), in the caller's transaction.

    Raises QuotaReached, CostQuotaReached.

    The quotas that may apply are locked in key order and then counted, so that of two submissions at once the second
    counts the first. Call it once the job is written, and before its money is held. Rehearsals are asked nothing.
    """
    if job.is_rehearsal:
        return QuotaOutcome()
    standings = _asked(job, caller.user, caller.role, worst_case=worst_case, now=now)
    _refuse_blocked(standings, caller.team, caller.user, now=now)
    return outcome_of(standings)


def check_again(job: Job, *, worst_case: int, now: datetime) -> None:
    """Ask the quotas that block once more about a job that waited for approval and is locked.

    They are those of whoever submitted it, by their role of now. The others have had their answer: somebody approves.
    Raises QuotaReached, CostQuotaReached.
    """
    if not job.is_rehearsal:
        membership = job.team.memberships.filter(user=job.submitted_by).first()
        role = membership.role if membership else ""
        standings = _asked(job, job.submitted_by, role, worst_case=worst_case, now=now)
        _refuse_blocked(standings, job.team, job.submitted_by, now=now)


def _asked(job: Job, user: User, role: str, *, worst_case: int, now: datetime) -> list[Standing]:
    """How the quotas stand that decide about a job of this person, without the job itself; those of jobs are locked."""
    found = JobQuota.objects.applying_to(team=job.team, user=user, role=role).exclude(kind=QuotaKind.LOCAL_GPUS)
    rows = list(found.exclude(kind=QuotaKind.STORAGE_BYTES).locked())
    if job.destination == Destination.LOCAL:
        # Only told of: a result is kept whatever there is, and the lock is for uploads.
        rows += found.filter(kind=QuotaKind.STORAGE_BYTES)
    return quota_standings.of_rows(rows, team=job.team, user=user, now=now, leaving_out=job, requested=worst_case)


def _refuse_blocked(standings: list[Standing], team: Team, user: User, *, now: datetime) -> None:
    """Raises QuotaReached, or CostQuotaReached, where one of these quotas leaves no room for a job of this person."""
    blocking = [standing for standing in standings if standing.blocks and standing.is_of_jobs]
    if blocking and blocking[0].kind in MONEY:
        raise CostQuotaReached(blocking[0], standings, team=team, now=now)
    if blocking:
        waits = [_seconds_until_room(standing, team, user, now=now) for standing in blocking]
        raise QuotaReached(blocking[0], standings, retry_after=max(waits))


def outcome_of(standings: list[Standing]) -> QuotaOutcome:
    """What these quotas say to one more job, those that block apart."""
    asking = [standing for standing in standings if standing.is_exceeded and standing.action == QuotaAction.REQUIRE_APPROVAL]
    said = [_warning(standing) for standing in standings if standing.action != QuotaAction.NOTIFY]
    return QuotaOutcome(
        warnings=[warning for warning in said if warning],
        asking=asking,
        notices=[standing for standing in standings if standing.is_exceeded and standing.action == QuotaAction.NOTIFY],
    )


def _warning(standing: Standing) -> str:
    """What to tell who submits: how the quota stands with this job, if that is close to the end or beyond it."""
    if standing.kind == QuotaKind.STORAGE_BYTES:
        return f"{standing.message} The result will be kept all the same." if standing.is_exceeded else standing.message
    if standing.is_exceeded:
        return standing.message
    after = standing.with_one_more
    # The last one that is allowed does not exceed what is allowed.
    return after.approaching if after.is_warning else ""


def tell_owners(caller: Caller, job: Job, outcome: QuotaOutcome) -> None:
    """Leave a line for each quota that was passed and only tells. Call it where the audit trail may be locked."""
    for standing in outcome.notices:
        audit.record(
            team=caller.team,
            caller=caller,
            event_type="quota.exceeded",
            action=f"Went beyond a quota with {job.job_id}: {standing.fact}",
            target_type="job",
            target_id=job.job_id,
            after=standing.to_json(),
        )


def _seconds_until_room(standing: Standing, team: Team, user: User, *, now: datetime) -> int:
    """How long until the quota has room again, as far as anybody knows."""
    if standing.kind in MONEY:
        return ceil((quota_standings.money_period(team, standing.kind, now)[1] - now).total_seconds())
    if standing.kind == QuotaKind.JOBS_PER_MONTH:
        _, ends_at = quota_standings.month_of(quota_standings.zone_of(standing.scope, team), now)
        return ceil((ends_at - now).total_seconds())
    window = WINDOWS.get(QuotaKind(standing.kind))
    if window is None:
        return TRY_AGAIN_SECONDS
    jobs = quota_standings.of_scope(quota_standings.counted(), standing.scope, team, user)
    inside = jobs.filter(submitted_at__gt=now - window, submitted_at__lt=now).order_by("submitted_at")
    # As many must leave the window as there are too many for one more.
    last = inside.values_list("submitted_at", flat=True)[standing.current - standing.limit :].first()
    return max(1, ceil((last + window - now).total_seconds())) if last else TRY_AGAIN_SECONDS
