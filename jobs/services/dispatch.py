"""Taking the next jobs off the queue, within what platform, team and person may run, and saying of the others why they wait.

The order is that of `queue`. Of the jobs that wait only a few columns are read, and however many they are, the questions to the
database are the same few, beside those of the jobs that go.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts.models import Credential, CredentialHealth, Team
from jobs import tasks
from jobs.models import Job, QueueSettings
from jobs.models.catalogue import Provider
from jobs.services import provider, queue, queue_rules
from jobs.services.queue import Waiting
from jobs.services.queue_rules import Rules
from jobs.states import State, WaitingReason

log = structlog.get_logger(__name__)

# Then a job is sent to find out whether the token or the credit is good again.
HELD_FOR = timedelta(minutes=5)
HELD_BY_HEALTH = {CredentialHealth.REFUSED: WaitingReason.CREDENTIAL, CredentialHealth.NO_CREDIT: WaitingReason.NO_CREDIT}


def dispatch(*, now: datetime | None = None) -> list[Job]:
    """Move every job that may go now to `uploading`, ring for its launch, and say of the others why they wait.

    The platform's queue row is the turnstile: of several dispatchers one works and the others leave at once,
    so that no limit is passed between the count and the move.
    """
    now = now or timezone.now()
    _make_rows()
    with transaction.atomic():
        turnstile = QueueSettings.objects.select_for_update(skip_locked=True, no_key=True).filter(team=None, provider="")
        if turnstile.first() is None:
            return []
        gone = _let_go(now)
        transaction.on_commit(lambda: _ring(gone), robust=True)
    for job in gone:
        log.info("job.dispatched", team=job.team.slug, job=job.job_id)
    return gone


def _make_rows() -> None:
    """The turnstile, and beside it a row for each provider, so that there is something to pause in the administration."""
    wanted = {"", *Provider.values}
    if missing := wanted - set(QueueSettings.objects.filter(team=None).values_list("provider", flat=True)):
        QueueSettings.objects.bulk_create([QueueSettings(team=None, provider=name) for name in sorted(missing)], ignore_conflicts=True)


def _ring(gone: list[Job]) -> None:
    for job in gone:
        tasks.launch.delay(job_pk=job.pk)


def _let_go(now: datetime) -> list[Job]:
    waiting = queue.waiting(now=now)
    if not waiting:
        return []
    rules, room = queue_rules.read(), _Room()
    held = _held(waiting, rules, now=now)
    gone = _move(_chosen([job for job in waiting if job.pk not in held], rules, room), room, now=now)
    left = {job.pk for job in gone}
    _say({job: held.get(job.pk) or room.reason_against(job, rules) for job in waiting if job.pk not in left})
    return gone


def _held(waiting: list[Waiting], rules: Rules, *, now: datetime) -> dict[int, str]:
    """The jobs that cannot go whatever room there is, and why."""
    teams = {job.team_id for job in waiting}
    suspended = set(Team.objects.filter(pk__in=teams).exclude(suspended_at=None, archived_at=None).values_list("pk", flat=True))
    by_credential = _held_by_credential(waiting, now=now)
    held: dict[int, str] = {}
    for job in waiting:
        if reason := _pause(job, rules, suspended):
            held[job.pk] = reason
        elif job.not_before and job.not_before > now:
            held[job.pk] = WaitingReason.NOT_BEFORE
        elif job.pk in by_credential:
            held[job.pk] = by_credential[job.pk]
    return held


def _pause(job: Waiting, rules: Rules, suspended: set[int]) -> str:
    pauses = rules.pauses(job.team_id, job.provider)
    if job.team_id in suspended or any(not row.provider for row in pauses):
        return WaitingReason.PAUSED
    return WaitingReason.PROVIDER_PAUSED if pauses else WaitingReason.NONE


def _held_by_credential(waiting: list[Waiting], *, now: datetime) -> dict[int, str]:
    """The jobs whose token the provider refused lately, or whose account had no credit, unless a new one is there for them."""
    bad = Credential.objects.filter(pk__in={job.credential_id for job in waiting}, health__in=HELD_BY_HEALTH)
    bad_by_pk = {row.pk: row for row in bad.filter(Q(checked_at=None) | Q(checked_at__gt=now - HELD_FOR))}
    held = {job.pk: bad_by_pk[job.credential_id] for job in waiting if job.credential_id in bad_by_pk}
    replaced = _replaced(bad_by_pk.values())
    renewable = [pk for pk, credential in held.items() if credential.pk in replaced]
    for job in Job.objects.filter(pk__in=renewable).select_related("team", "submitted_by", "credential"):
        if provider.take_new_credential(job):
            del held[job.pk]
    return {pk: HELD_BY_HEALTH[CredentialHealth(credential.health)] for pk, credential in held.items()}


def _replaced(bad: Iterable[Credential]) -> set[int]:
    """Those of these credentials in whose place another seems to have been saved."""
    rows = {row.pk: (row.team_id, row.user_id, row.kind) for row in bad}
    if not rows:
        return set()
    good = Credential.objects.filter(removed_at=None, kind__in={kind for *_whose, kind in rows.values()})
    good = good.exclude(health__in=HELD_BY_HEALTH).filter(Q(team__in={team for team, *_ in rows.values() if team}) | Q(team=None))
    there = set(good.values_list("team_id", "user_id", "kind"))
    return {pk for pk, whose in rows.items() if whose in there}


def _chosen(ready: list[Waiting], rules: Rules, room: "_Room") -> list[Waiting]:
    """Who goes: of each team those for whom it has room, in turn, until the platform is full."""
    teams, people = Counter(room.by_team), Counter(room.by_person)
    fitting = []
    for job in ready:
        person = (job.team_id, job.person_id)
        if teams[job.team_id] < rules.team_limit(job.team_id) and people[person] < rules.person_limit(job.team_id):
            teams[job.team_id] += 1
            people[person] += 1
            fitting.append(job)
    turns = queue.in_turn(fitting, room.by_team) if rules.is_fair else fitting
    return turns[: max(0, rules.max_concurrent - room.by_team.total())]


def _move(chosen: list[Waiting], room: "_Room", *, now: datetime) -> list[Job]:
    """Move them, but for those that somebody has cancelled meanwhile: their places go in the next round."""
    jobs = Job.objects.select_related("team").in_bulk([job.pk for job in chosen])
    gone = []
    for waiting in chosen:
        job = jobs.get(waiting.pk)
        if job and job.move_to(State.UPLOADING, cause="dispatch", at=now, dispatched_at=now, waiting_reason=WaitingReason.NONE):
            room.take(waiting)
            gone.append(job)
    return gone


def _say(reasons: dict[Waiting, str]) -> None:
    """Write down why each waits where that has changed, in one update for each reason.

    A row that somebody else has in hand is passed by, so that two who write many rows never wait for each other.
    """
    changed = defaultdict(list)
    for job, reason in reasons.items():
        if job.waiting_reason != reason:
            changed[reason].append(job.pk)
    for reason, pks in changed.items():
        free = Job.objects.filter(pk__in=pks, state=State.PENDING).select_for_update(skip_locked=True, no_key=True)
        Job.objects.filter(pk__in=free.values("pk")).update(waiting_reason=reason)


class _Room:
    """How many jobs teams and people have at the provider. What was started elsewhere takes no room."""

    def __init__(self) -> None:
        self.by_team: Counter[int] = Counter()
        self.by_person: Counter[tuple[int, int]] = Counter()
        for team, person in Job.objects.launched().admitted().values_list("team_id", "submitted_by_id"):
            self.by_team[team] += 1
            self.by_person[team, person] += 1

    def take(self, job: Waiting) -> None:
        self.by_team[job.team_id] += 1
        self.by_person[job.team_id, job.person_id] += 1

    def reason_against(self, job: Waiting, rules: Rules) -> str:
        """Why a job that nothing holds does not go: the nearest limit that is reached."""
        if self.by_person[job.team_id, job.person_id] >= rules.person_limit(job.team_id):
            return WaitingReason.PERSON_FULL
        if self.by_team[job.team_id] >= rules.team_limit(job.team_id):
            return WaitingReason.TEAM_FULL
        if self.by_team.total() >= rules.max_concurrent:
            return WaitingReason.PLATFORM_FULL
        return WaitingReason.TURN
