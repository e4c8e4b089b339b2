"""What quotas of storage say to an upload. Results are never refused: they are kept, and told of."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.utils import timezone

from accounts import audit
from accounts.callers import Caller
from accounts.errors import Refusal
from jobs.models import Job, JobQuota
from jobs.models.quotas import JobQuotaQuerySet, QuotaAction, QuotaKind, QuotaScope
from jobs.services import quota_standings
from jobs.services.quota_standings import WHOSE, Standing, size


class StorageQuotaReached(Refusal):
    """As many bytes are kept as a blocking quota allows, or would be with this upload. Nothing of it was kept."""

    code = "quota_exceeded"
    status = 413

    def __init__(self, reached: Standing, *, kept: int) -> None:
        would = f", and this upload would make it {size(reached.current)}" if reached.current > kept else ""
        super().__init__(
            f"Quota exceeded: Maximum {size(reached.limit)} of storage allowed {WHOSE[QuotaScope(reached.scope)]}; "
            f"{size(kept)} are kept{would}.",
            field="files",
            hint="Upload fewer or smaller images, or ask an owner of the team to raise it under Settings, Quotas.",
            details={"quotas": [reached.to_json()]},
        )


def require_room(caller: Caller) -> None:
    """Refuse an upload before its bytes are looked at where nothing may be added at all. Raises StorageQuotaReached."""
    for standing in _standings(caller, _applying(caller)):
        if standing.blocks:
            raise StorageQuotaReached(standing, kept=standing.current)


@contextmanager
def within_storage(caller: Caller) -> Iterator[None]:
    """Let what is written inside stand if the quotas have room for it; in the caller's transaction.

    The quotas are locked in key order, so that of two uploads at once the second counts the first.
    Raises StorageQuotaReached.
    """
    rows = list(_applying(caller).locked())
    before = _standings(caller, rows)
    yield
    for was, standing in zip(before, _standings(caller, rows), strict=True):
        if standing.action == QuotaAction.BLOCK and standing.current > max(standing.limit, was.current):
            raise StorageQuotaReached(standing, kept=was.current)


def warnings(caller: Caller) -> list[str]:
    """What to tell who has just added to what is kept, from 80 % of a quota on."""
    found = _standings(caller, _applying(caller))
    return [standing.message for standing in found if standing.message and standing.action != QuotaAction.NOTIFY]


def tell_owners(caller: Caller) -> None:
    """Leave a line for each quota that an upload has passed and that only tells."""
    for standing in _standings(caller, _applying(caller)):
        if standing.is_exceeded and standing.action == QuotaAction.NOTIFY:
            _record(caller, f"Went beyond a quota with an upload: {standing.fact}", standing.to_json())


def tell_of_result(job: Job) -> None:
    """Leave a line for each quota beyond which a job's result is kept here. The result stays."""
    membership = job.team.memberships.filter(user=job.submitted_by).first()
    role = membership.role if membership else ""
    rows = JobQuota.objects.applying_to(team=job.team, user=job.submitted_by, role=role).filter(kind=QuotaKind.STORAGE_BYTES)
    for standing in quota_standings.of_rows(rows, team=job.team, user=job.submitted_by, now=timezone.now()):
        if standing.is_exceeded:
            action = f"Kept the result of {job.job_id} beyond a quota: {standing.fact}"
            audit.record(
                team=job.team, event_type="quota.exceeded", action=action, target_type="job", target_id=job.job_id,
                after=standing.to_json(),
            )  # fmt: skip


def note_refusal(caller: Caller, refusal: StorageQuotaReached) -> None:
    """Leave the one trace of a refused upload. Call it outside the transaction that was undone."""
    _record(caller, f"Refused an upload: {refusal.detail}", {"code": refusal.code})


def _record(caller: Caller, action: str, after: dict[str, object]) -> None:
    audit.record(team=caller.team, caller=caller, event_type="quota.exceeded", action=action, target_type="dataset", after=after)


def _applying(caller: Caller) -> JobQuotaQuerySet:
    found = JobQuota.objects.applying_to(team=caller.team, user=caller.user, role=caller.role)
    return found.filter(kind=QuotaKind.STORAGE_BYTES)


def _standings(caller: Caller, rows: JobQuotaQuerySet | list[JobQuota]) -> list[Standing]:
    return quota_standings.of_rows(rows, team=caller.team, user=caller.user, now=timezone.now())
