"""What the page of quotas shows: how a person stands, and for owners how every quota of the team does."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from accounts.models import Team, User
from billing import limits
from billing.models import SpendLimit
from jobs.models import JobQuota
from jobs.models.quotas import QuotaAction, QuotaKind, QuotaScope
from jobs.services import quota_changes, quota_standings
from jobs.services.quota_changes import Quota
from jobs.services.quota_standings import Standing


@dataclass(frozen=True)
class Row:
    """A quota, and how full it is now: `current`, and whose count that is (`fullest`) where it is for several persons.

    Of the platform's totals nothing is shown: they are other teams' jobs and money.
    """

    quota: Quota
    current: int | None
    fullest: User | None = None

    @property
    def is_full(self) -> bool:
        return self.current is not None and self.current >= self.quota.limit and self.quota.kind != QuotaKind.LOCAL_GPUS


def close(standings: Iterable[Standing]) -> list[Standing]:
    """Those of which little is left with one more job, or nothing, and that do not refuse it."""
    after = [(standing, standing.with_one_more if standing.is_of_jobs else standing) for standing in standings]
    return [
        standing
        for standing, then in after
        if then.is_warning and standing.action != QuotaAction.NOTIFY and not (standing.blocks and standing.is_of_jobs)
    ]


def used_up(standings: Iterable[Standing]) -> list[Standing]:
    """Those that refuse one more job."""
    return [standing for standing in standings if standing.blocks and standing.is_of_jobs]


def rows(team: Team, *, now: datetime) -> list[Row]:
    """The team's quotas and the platform's that hold in it, as many questions as there are kinds of quotas."""
    found = quota_changes.listed(team)
    job_rows = [quota.row for quota in found if isinstance(quota.row, JobQuota) and quota.scope != QuotaScope.PLATFORM]
    usage = quota_standings.usage(job_rows, team=team, now=now)
    fullest = quota_standings.fullest(job_rows, team=team, now=now)
    spent = limits.standing(SpendLimit.objects.filter(pk__in=[quota.row.pk for quota in found if quota.is_limit]), now=now)
    return [_row(quota, usage, fullest, spent) for quota in found]


def _row(quota: Quota, usage: dict[int, int], fullest: dict[int, tuple[User, int]], spent: dict[SpendLimit, limits.LimitStatus]) -> Row:
    if quota.scope == QuotaScope.PLATFORM:
        return Row(quota, None)
    if isinstance(quota.row, SpendLimit):
        return Row(quota, spent[quota.row].used + spent[quota.row].held)
    if quota.row.pk in usage:
        return Row(quota, usage[quota.row.pk])
    user, count = fullest.get(quota.row.pk, (None, 0))
    return Row(quota, None if quota.kind == QuotaKind.STORAGE_BYTES else count, user)
