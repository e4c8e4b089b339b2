"""Setting quotas: a team's owners set those of the team and its people, the platform's staff those of the platform.

A quota of money for one person, the team or the platform is a spend limit of a day or a month, and has no row of its own: here it
is only looked at as a quota. So that each has a number of its own, a job quota's is even and a spend limit's odd.
"""

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Q

from accounts import audit
from accounts.callers import Caller, Staff
from accounts.errors import InvalidInput, NotFound, NotPermitted, Refusal
from accounts.models import Team, User
from accounts.roles import Right
from billing import limit_changes
from billing.models import LimitAction, LimitScope, SpendLimit
from billing.prices import MICROS_PER_USD, as_number
from jobs.models import JobQuota
from jobs.models.quotas import QuotaAction, QuotaKind, QuotaScope
from jobs.services.quota_standings import COST_KIND, COST_PERIOD, TOTALS

KINDS = tuple(QuotaKind.values)
MOST_JOBS = 1_000_000
MOST_BYTES = 2**60
MOST_MICROS = 1_000_000 * MICROS_PER_USD
# As SimpleTuner calls them in "… quota (20) cannot exceed … ceiling (10)".
NAMES = {
    QuotaScope.PERSON: "User",
    QuotaScope.ROLE: "Level",
    QuotaScope.EACH: "Global",
    QuotaScope.TEAM: "Team",
    QuotaScope.PLATFORM: "Organization",
}
# A beginning for teams that have none.
SUGGESTED = (
    (QuotaKind.CONCURRENT_JOBS, 5, QuotaAction.BLOCK),
    (QuotaKind.JOBS_PER_DAY, 20, QuotaAction.WARN),
)

Manager = Caller | Staff


class AboveCeiling(Refusal):
    """A quota allows more than the total above it."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """A job quota, or a spend limit looked at as one. `limit` is jobs or bytes, of money whole micro-dollars."""

    row: JobQuota | SpendLimit
    kind: str
    limit: int

    @property
    def id(self) -> int:
        return 2 * self.row.pk + (1 if self.is_limit else 0)

    @property
    def is_limit(self) -> bool:
        return isinstance(self.row, SpendLimit)

    @property
    def scope(self) -> QuotaScope:
        return QuotaScope(self.row.scope)

    @property
    def action(self) -> str:
        return str(self.row.action)

    @property
    def role(self) -> str:
        return "" if isinstance(self.row, SpendLimit) else self.row.role

    @property
    def is_platforms(self) -> bool:
        return self.row.team_id is None


def listed(team: Team | None) -> list[Quota]:
    """The quotas of a team and those of the platform, which hold for it as well; without a team the platform's alone."""
    return [*_of_jobs(team), *_of_money(team)]


def _of_jobs(team: Team | None) -> list[Quota]:
    rows = JobQuota.objects.filter(Q(team=team) | Q(team=None)).select_related("team", "user").order_by("team", "kind", "pk")
    return [_job_quota(row) for row in rows]


def _of_money(team: Team | None) -> list[Quota]:
    scoped = Q(scope=LimitScope.PLATFORM)
    if team is not None:
        scoped |= Q(scope__in=[LimitScope.TEAM, LimitScope.PERSON], team=team)
    limits = SpendLimit.objects.enabled().filter(scoped, period__in=COST_KIND).select_related("team", "user")
    return [_cost_quota(limit) for limit in limits.order_by("team", "period", "pk")]


def _job_quota(row: JobQuota) -> Quota:
    return Quota(row=row, kind=row.kind, limit=row.limit_value)


def _cost_quota(limit: SpendLimit) -> Quota:
    return Quota(row=limit, kind=COST_KIND[limit.period], limit=limit.amount)


def find(team: Team | None, quota_id: int) -> Quota:
    """One of those that `listed` has. Raises NotFound."""
    of_its_sort = _of_money(team) if quota_id % 2 else _of_jobs(team)
    for quota in of_its_sort:
        if quota.id == quota_id:
            return quota
    raise _unknown(quota_id)


def find_anywhere(quota_id: int) -> Quota:
    """Any team's quota or the platform's, for its staff. Raises NotFound."""
    if quota_id % 2:
        scopes = [LimitScope.PLATFORM, LimitScope.TEAM, LimitScope.PERSON]
        limits = SpendLimit.objects.enabled().filter(pk=quota_id // 2, scope__in=scopes, period__in=COST_KIND)
        found = [_cost_quota(limit) for limit in limits.select_related("team", "user")]
    else:
        found = [_job_quota(row) for row in JobQuota.objects.filter(pk=quota_id // 2).select_related("team", "user")]
    if not found:
        raise _unknown(quota_id)
    return found[0]


def _unknown(quota_id: int) -> NotFound:
    return NotFound(f"Quota not found: {quota_id}", hint="List the quotas with GET /api/quotas.")


def put(by: Manager, *, kind: str, scope: str, limit: int, action: str, user: User | None = None, role: str = "") -> Quota:
    """Set the quota of this kind for these people, whether there is one already or not.

    `limit` is jobs or bytes, of money micro-dollars. Of money that of the team, the platform or one person is a spend limit.

    Raises NotPermitted, InvalidInput, AboveCeiling, Refusal for what makes no sense.
    """
    _require(by)
    team = by.team if isinstance(by, Caller) else None
    _require_sense(kind, scope, limit, action)
    _require_below_ceilings(team, kind, scope, limit)
    if _is_limit(kind, scope):
        period = COST_PERIOD[kind]
        return _cost_quota(limit_changes.put(by, scope=scope, user=user, period=period, amount=limit, action=action))
    with transaction.atomic():
        row, is_new = JobQuota.objects.select_for_update(no_key=True).get_or_create(
            team=team, scope=scope, user=user, role=role, kind=kind, defaults={"limit_value": limit, "action": action}
        )
        if is_new:
            _record(by, row, "Set a quota", after=described(row))
        else:
            _save(by, row, limit=limit, action=action)
    return _job_quota(row)


def change(by: Manager, quota: Quota, *, limit: int, action: str) -> None:
    """Let a quota allow another amount, or do something else when it is reached. Raises what `put` raises."""
    _require_hand_on(by, quota)
    _require_sense(quota.kind, quota.scope, limit, action)
    _require_below_ceilings(quota.row.team, quota.kind, quota.scope, limit)
    if isinstance(quota.row, SpendLimit):
        limit_changes.change(by, quota.row, amount=limit, action=action, is_enabled=True)
        return
    with transaction.atomic():
        row = JobQuota.objects.select_for_update(no_key=True).filter(pk=quota.row.pk).first()
        if row is None:
            raise _unknown(quota.id)
        _save(by, row, limit=limit, action=action)


def remove(by: Manager, quota: Quota) -> None:
    """Take a quota away. A spend limit is switched off, and keeps its figures for when it comes back. Raises NotPermitted."""
    _require_hand_on(by, quota)
    if isinstance(quota.row, SpendLimit):
        limit_changes.change(by, quota.row, amount=quota.row.amount, action=quota.row.action, is_enabled=False)
        return
    _delete(quota.row, by)


def remove_as_staff(row: JobQuota, *, by: Staff) -> None:
    """Take a job quota of any team away, in the administration."""
    _delete(row, by)


def _delete(row: JobQuota, by: Manager) -> None:
    with transaction.atomic():
        found = JobQuota.objects.select_for_update().filter(pk=row.pk).first()
        if found is not None:
            JobQuota.objects.filter(pk=row.pk).delete()
            _record(by, found, "Removed a quota", before=described(found))


def add_suggested(caller: Caller) -> list[Quota]:
    """Set what a team may well begin with, and leave alone what it has set itself."""
    caller.require(Right.MANAGE)
    has = set(caller.team.job_quotas.filter(scope=QuotaScope.EACH).values_list("kind", flat=True))
    missing = [each for each in SUGGESTED if each[0] not in has]
    return [put(caller, kind=kind, scope=QuotaScope.EACH, limit=limit, action=action) for kind, limit, action in missing]


def _is_limit(kind: str, scope: str) -> bool:
    """Whether it is a spend limit, and not a row of its own."""
    return kind in COST_PERIOD and scope in LimitScope.values


# --- What may be set --------------------------------------------------------------------------------------


def _require(by: Manager) -> None:
    if isinstance(by, Caller):
        by.require(Right.MANAGE, permission="quota.manage")


def _require_hand_on(by: Manager, quota: Quota) -> None:
    _require(by)
    if isinstance(by, Caller) and quota.is_platforms:
        raise NotPermitted(
            "This quota is the platform's, and its staff change it.",
            hint="Set a lower one for the team.",
            details={"required_permission": "org.manage.quotas"},
        )


def _require_sense(kind: str, scope: str, limit: int, action: str) -> None:
    """Raises InvalidInput for an unknown word, Refusal for what cannot be meant."""
    if kind not in KINDS:
        raise InvalidInput(f"quota_type must be one of {', '.join(KINDS)}.", field="quota_type")
    if action not in QuotaAction.values:
        raise InvalidInput(f"action must be one of {', '.join(QuotaAction.values)}.", field="action")
    most = MOST_MICROS if kind in COST_PERIOD else MOST_BYTES if kind == QuotaKind.STORAGE_BYTES else MOST_JOBS
    if not 1 <= limit <= most:
        shown = as_number(most) if kind in COST_PERIOD else most
        raise Refusal(f"limit_value must be above 0 and at most {shown:f}.", field="limit_value")
    if kind == QuotaKind.STORAGE_BYTES and action == QuotaAction.REQUIRE_APPROVAL:
        raise Refusal("An upload cannot wait for approval: a quota of storage blocks, warns or notifies.", field="action")
    if _is_limit(kind, scope) and action not in LimitAction.values:
        raise Refusal("A quota of money cannot only notify: owners are told of every spend limit anyway. Use warn.", field="action")


def _require_below_ceilings(team: Team | None, kind: str, scope: str, limit: int) -> None:
    """Raises AboveCeiling where a total of the team or of the platform allows less."""
    higher = TOTALS[TOTALS.index(QuotaScope(scope)) + 1 :] if scope in TOTALS else TOTALS
    for quota in listed(team):
        if quota.kind == kind and quota.scope in higher and quota.limit < limit:
            own, above = NAMES[QuotaScope(scope)], NAMES[quota.scope].lower()
            raise AboveCeiling(
                f"{own} quota ({_number(kind, limit)}) cannot exceed {above} ceiling ({_number(kind, quota.limit)}).", field="limit_value"
            )


def _number(kind: str, value: int) -> str:
    return f"{as_number(value).normalize():f}" if kind in COST_PERIOD else str(value)


# --- What was done ----------------------------------------------------------------------------------------


def _save(by: Manager, row: JobQuota, *, limit: int, action: str) -> None:
    """Change a row that is locked, and tell of it where something differs."""
    before = described(row)
    row.limit_value, row.action = limit, QuotaAction(action)
    row.save(update_fields=["limit_value", "action", "updated_at"])
    if before != described(row):
        _record(by, row, "Changed a quota", before=before, after=described(row))


def described(row: JobQuota) -> dict[str, Any]:
    """What a quota says, for the audit trail."""
    whose = {"user_id": row.user_id} if row.user_id else {"role": row.role} if row.role else {}
    return {"scope": row.scope, **whose, "quota_type": row.kind, "limit": row.limit_value, "action": row.action}


def _record(by: Manager, row: JobQuota, what: str, *, before: dict[str, Any] | None = None, after: dict[str, Any] | None = None) -> None:
    caller = by if isinstance(by, Caller) else None
    audit.record(
        team=row.team, caller=caller, by=by.user, address=by.address, event_type="quota.changed",
        action=f"{what}: {row}", target_type="job_quota", target_id=str(_job_quota(row).id), before=before, after=after,
    )  # fmt: skip
