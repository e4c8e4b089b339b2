"""Taking the next jobs off the queue: by priority and age, within what platform, team and person may run."""

from collections import Counter
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.models import CredentialHealth
from jobs import tasks
from jobs.models import Job, QueueSettings
from jobs.models.admission import QueueMode
from jobs.services import provider
from jobs.states import State, WaitingReason

log = structlog.get_logger(__name__)

PLATFORM_CONCURRENCY = 50
TEAM_CONCURRENCY = 10
PERSON_CONCURRENCY = 5

# Then a job is sent to find out whether the token or the credit is good again.
HELD_FOR = timedelta(minutes=5)
HELD_BY_HEALTH = {CredentialHealth.REFUSED: WaitingReason.CREDENTIAL, CredentialHealth.NO_CREDIT: WaitingReason.NO_CREDIT}


def dispatch(*, now: datetime | None = None) -> list[Job]:
    """Move every job that may go now to `uploading`, ring for its launch, and say of the others why they wait.

    The platform's queue row is the turnstile: of several dispatchers one works and the others leave at once,
    so that no limit is passed between the count and the move.
    """
    now = now or timezone.now()
    QueueSettings.objects.get_or_create(team=None)
    with transaction.atomic():
        platform = QueueSettings.objects.select_for_update(skip_locked=True, no_key=True).filter(team=None).first()
        if platform is None:
            return []
        room = _Room(platform)
        gone = []
        for job in _waiting():
            reason = _reason_to_wait(job, room, now=now)
            if reason:
                Job.objects.filter(pk=job.pk).exclude(waiting_reason=reason).update(waiting_reason=reason)
            elif job.move_to(State.UPLOADING, cause="dispatch", at=now, dispatched_at=now, waiting_reason=WaitingReason.NONE):
                room.take(job)
                gone.append(job)
        transaction.on_commit(lambda: _ring(gone), robust=True)
    for job in gone:
        log.info("job.dispatched", team=job.team.slug, job=job.job_id)
    return gone


def _ring(gone: list[Job]) -> None:
    for job in gone:
        tasks.launch.delay(job_pk=job.pk)


def _waiting() -> QuerySet[Job]:
    """The jobs that wait, in the order in which they go."""
    jobs = Job.objects.filter(state=State.PENDING).select_related("team__queue_settings", "credential")
    return jobs.annotate(rank=Coalesce("priority_override", "priority")).order_by("-rank", "submitted_at", "pk")


def _reason_to_wait(job: Job, room: "_Room", *, now: datetime) -> str:
    """Why this job cannot go now, out of the fixed list; "" if it can."""
    if room.is_paused_for(job):
        return WaitingReason.PAUSED
    if job.not_before and job.not_before > now:
        return WaitingReason.NOT_BEFORE
    held = HELD_BY_HEALTH.get(CredentialHealth(job.credential.health))
    if held and (job.credential.checked_at or now) > now - HELD_FOR and not provider.take_new_credential(job):
        return held
    return room.reason_against(job)


class _Room:
    """How many more jobs platform, teams and people may have at the provider."""

    def __init__(self, platform: QueueSettings) -> None:
        self._platform = platform
        self._by_team: Counter[int] = Counter()
        self._by_person: Counter[tuple[int, int]] = Counter()
        for team, person in Job.objects.launched().values_list("team_id", "submitted_by_id"):
            self._by_team[team] += 1
            self._by_person[team, person] += 1

    def take(self, job: Job) -> None:
        self._by_team[job.team_id] += 1
        self._by_person[job.team_id, job.submitted_by_id] += 1

    def is_paused_for(self, job: Job) -> bool:
        own = getattr(job.team, "queue_settings", None)
        return job.team.is_suspended or self._platform.mode == QueueMode.PAUSED or (own is not None and own.mode == QueueMode.PAUSED)

    def reason_against(self, job: Job) -> str:
        own = getattr(job.team, "queue_settings", None)
        if self._by_team.total() >= (self._platform.max_concurrent or PLATFORM_CONCURRENCY):
            return WaitingReason.PLATFORM_FULL
        if self._by_team[job.team_id] >= self._limit(own, "team_max_concurrent", TEAM_CONCURRENCY):
            return WaitingReason.TEAM_FULL
        if self._by_person[job.team_id, job.submitted_by_id] >= self._limit(own, "user_max_concurrent", PERSON_CONCURRENCY):
            return WaitingReason.PERSON_FULL
        return WaitingReason.NONE

    def _limit(self, own: QueueSettings | None, name: str, default: int) -> int:
        """The team's own number, else the platform's, else the shipped one."""
        for row in (own, self._platform):
            if row is not None and getattr(row, name) is not None:
                return int(getattr(row, name))
        return default
