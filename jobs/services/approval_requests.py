"""Whether a job must be approved, decided as it is admitted, and the request that is made then."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import QuerySet

from accounts import letters
from accounts.callers import Caller
from accounts.models import Membership
from accounts.roles import Role
from billing.limits import LimitStatus
from billing.periods import bounds
from billing.prices import dollars
from jobs.models import ApprovalRequest, ApprovalRule, Job
from jobs.models.admission import APPROVING_ROLES, ApprovalCondition, ApprovalState
from jobs.models.catalogue import Provider
from jobs.models.job import JobQuerySet
from jobs.services import addresses, approval_rules
from jobs.services.approval_rules import Facts
from jobs.services.quota_standings import Standing
from jobs.specs import JobSpec, Plan

LIFETIME = timedelta(hours=24)
LONGEST_REASON = 500


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """That somebody of at least this role must approve, and why: in English, and as `grounds` of plain values.

    No rule: a spend limit asks, or a quota.
    """

    rule: ApprovalRule | None
    required_role: str
    reason: str
    grounds: list[dict[str, object]]


def verdict(
    caller: Caller,
    spec: JobSpec,
    plan: Plan,
    *,
    job: Job,
    asking: Iterable[LimitStatus],
    quotas: Iterable[Standing],
    now: datetime,
) -> Verdict | None:
    """What the rules, and the limits and quotas that ask, say of a job; None if it may go without a word.

    A rehearsal always may. The job itself does not count among the person's jobs. With the end of the team's ledger locked, as
    `billing.hold` leaves it, no other submission of the team is counted too late.
    """
    if not spec.is_real:
        return None
    rules = list(ApprovalRule.objects.speaking_to(caller.team).active())
    facts = _facts(caller, spec, plan, {rule.condition for rule in rules}, job=job, now=now)
    rule = approval_rules.first_match(rules, facts)
    said = [(approval_rules.reason(rule, facts), approval_rules.ground(rule, facts))] if rule else []
    said += [(_reason_of(limit), _ground_of(limit)) for limit in asking]
    said += [(quota.message, {"asks": "quota", **quota.to_json()}) for quota in quotas]
    if not said:
        return None
    return Verdict(
        rule=rule,
        required_role=rule.required_role if rule else Role.LEAD,
        reason=" ".join(reason for reason, _ in said)[:LONGEST_REASON],
        grounds=[ground for _, ground in said],
    )


def make(job: Job, found: Verdict, *, now: datetime) -> ApprovalRequest:
    """Ask for the approval of a job that is blocked, and tell those who may give it, in the caller's transaction."""
    request = ApprovalRequest.objects.create(
        job=job,
        rule=found.rule,
        required_role=found.required_role,
        reason=found.reason,
        grounds=found.grounds,
        created_at=now,
        expires_at=now + LIFETIME,
    )
    people = [member.user for member in approvers(request)]
    letters.write(event="approval_asked", to=people, team=job.team, facts=facts_for_mail(request) | {"request": request.pk})
    return request


def approvers(request: ApprovalRequest) -> QuerySet[Membership]:
    """Who may decide: members of at least the required role, but for whoever submitted the job."""
    enough = [role for role in APPROVING_ROLES if approval_rules.rank(role) >= approval_rules.rank(request.required_role)]
    members = Membership.objects.filter(team=request.job.team_id, role__in=enough, user__is_active=True)
    return members.exclude(user=request.job.submitted_by_id).select_related("user").order_by("user__username")


def facts_for_mail(request: ApprovalRequest) -> dict[str, object]:
    """What a mail says of a request; amounts in micro-dollars, `site` is "" where nobody has named this server's address."""
    job = request.job
    return {
        "team": job.team.name,
        "slug": job.team.slug,
        "person": str(job.submitted_by),
        "job": job.job_id,
        "config": job.config_name,
        "trainer": job.trainer.label,
        "worst_case": job.hold.amount if job.hold else None,
        "reason": request.reason,
        "grounds": request.grounds,
        "until": request.expires_at.isoformat(),
        "time_zone": job.team.time_zone,
        "site": settings.PUBLIC_URL or addresses.public_base(job.team),
    }


def _facts(caller: Caller, spec: JobSpec, plan: Plan, conditions: set[str], *, job: Job, now: datetime) -> Facts:
    """What rules with these conditions look at; the person's jobs are counted only for those that ask about them."""
    trainer = plan.trainer
    theirs = _jobs_of(caller, besides=job)
    day, next_day = bounds("daily", now, time_zone=caller.team.time_zone, first_weekday=caller.team.first_weekday)
    counts = ApprovalCondition.DAILY_JOBS_EXCEED in conditions
    return Facts(
        worst_case=plan.worst_case,
        provider=spec.provider,
        hardware=(trainer.hardware_type, trainer.label, trainer.hardware, trainer.profile),
        config_name=plan.config_name,
        role=caller.role,
        jobs_today=theirs.submitted(since=day, until=next_day).count() + 1 if counts else 1,
        is_first=ApprovalCondition.FIRST_JOB in conditions and not _went_through(theirs).exists(),
    )


def _jobs_of(caller: Caller, *, besides: Job) -> JobQuerySet:
    """The person's other jobs in the team; rehearsals do not count, nor runs that were started elsewhere."""
    theirs: JobQuerySet = caller.team.jobs.admitted().filter(submitted_by=caller.user).exclude(provider=Provider.SANDBOX)
    return theirs.exclude(pk=besides.pk)


def _went_through(jobs: JobQuerySet) -> JobQuerySet:
    """Those that nobody had to approve, or somebody did. Else a second job would pass while the first one waits or was rejected."""
    return jobs.exclude(approval__state__in=[state for state in ApprovalState if state != ApprovalState.APPROVED])


def _reason_of(limit: LimitStatus) -> str:
    return (
        f"The job can cost up to {dollars(limit.requested)}, and the {limit.scope}'s {limit.window} limit, "
        f"beyond which somebody must approve, has {dollars(limit.left)} left."
    )


def _ground_of(limit: LimitStatus) -> dict[str, object]:
    return {"asks": "limit", "scope": limit.scope, "window": limit.window, "requested": limit.requested, "left": limit.left}
