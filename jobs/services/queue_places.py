"""Where jobs stand in the queue, and when they likely start.

The estimate rests on how long recent runs had their places, on the places that are free, and on who is ahead. It knows nothing of
jobs that are yet to come, nor of runs that end early.
"""

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Avg, F
from django.utils import timezone

from accounts.models import Team, User
from jobs.models import Job, QueueSettings
from jobs.services import queue, queue_rules
from jobs.services.queue import Waiting
from jobs.services.queue_rules import Rules
from jobs.states import State, WaitingReason

# What the usual length of a run is read from.
RECENT_RUNS = 100
RECENT = timedelta(days=30)
# A run that is longer than usual may end any moment.
LEAST_LEFT_SECONDS = 60.0
# Nobody knows when these are over, and all others pass them by.
OPEN_ENDED = (WaitingReason.PAUSED, WaitingReason.PROVIDER_PAUSED, WaitingReason.CREDENTIAL, WaitingReason.NO_CREDIT)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a job that waits stands. `place` counts from 1 over all teams; `seconds` is None where nothing is known.

    `pauses` are the rows that hold it back.
    """

    place: int
    rank: int
    seconds: float | None
    pauses: list[QueueSettings]

    @property
    def name(self) -> str:
        return queue.name_of(self.rank)

    @property
    def label(self) -> str:
        return str(queue.LABELS[self.name])

    def starts_at(self) -> datetime | None:
        return None if self.seconds is None else timezone.now() + timedelta(seconds=self.seconds)


@dataclass(frozen=True)
class Running:
    """Who has a place, and for how many seconds."""

    team_id: int
    person_id: int
    seconds: float


def standings(jobs: Iterable[Job], *, now: datetime) -> dict[int, Standing]:
    """How those of these jobs stand that wait, by their keys. As many questions for one as for a hundred, and none for none."""
    wanted = {job.pk for job in jobs if job.state == State.PENDING}
    return {pk: found for pk, found in line(now=now).items() if pk in wanted} if wanted else {}


def of_team(team: Team, *, now: datetime) -> dict[int, Standing]:
    """The jobs of a team that wait, in the order in which they go."""
    own = set(team.jobs.filter(state=State.PENDING).values_list("pk", flat=True))
    return {pk: found for pk, found in line(now=now).items() if pk in own} if own else {}


def place_of(job: Job, *, now: datetime) -> int | None:
    """A waiting job's place in the platform's queue, from 1; None for one that does not wait."""
    found = standings([job], now=now).get(job.pk)
    return found.place if found else None


def line(*, now: datetime) -> dict[int, Standing]:
    """The platform's whole queue in its order, by key."""
    rules, running = queue_rules.read(), _running(now)
    jobs = queue.in_line(
        now=now,
        running=Counter(run.team_id for run in running),
        is_fair=rules.is_fair,
        is_held=lambda job: job.waiting_reason in OPEN_ENDED or bool(rules.pauses(job.team_id, job.provider)),
    )
    clock = _Clock(rules, running, usual=_usual_seconds(now))
    return {
        job.pk: Standing(place=place, rank=job.rank, seconds=_seconds(job, clock, now), pauses=rules.pauses(job.team_id, job.provider))
        for place, job in enumerate(jobs, start=1)
    }


def has_place_for(team: Team, user: User, *, now: datetime) -> bool:
    """Whether a job that this person submitted now would go at once, ahead of nobody."""
    rules, running = queue_rules.read(), _running(now)
    numbers = rules.numbers_of(team.pk)
    of_team = [run for run in running if run.team_id == team.pk]
    of_person = [run for run in of_team if run.person_id == user.pk]
    is_free = len(running) < numbers.platform and len(of_team) < numbers.team and len(of_person) < numbers.person
    return is_free and not Job.objects.filter(state=State.PENDING, team=team, waiting_reason=WaitingReason.TURN).exists()


def _seconds(job: Waiting, clock: "_Clock", now: datetime) -> float | None:
    if job.waiting_reason in OPEN_ENDED:
        return None
    seconds = clock.start(job)
    if job.not_before and seconds is not None:
        seconds = max(seconds, (job.not_before - now).total_seconds())
    return seconds


def _running(now: datetime) -> list[Running]:
    rows = Job.objects.launched().admitted().values_list("team_id", "submitted_by_id", "dispatched_at", "submitted_at")
    return [Running(team, person, (now - (begun or submitted)).total_seconds()) for team, person, begun, submitted in rows]


def _usual_seconds(now: datetime) -> float | None:
    """For how long the newest runs that are over had their places, on average; None while there are none."""
    over = Job.objects.admitted().filter(ended_at__gt=now - RECENT, dispatched_at__isnull=False).order_by("-ended_at")
    taken = over.annotate(taken=F("ended_at") - F("dispatched_at"))[:RECENT_RUNS].aggregate(usual=Avg("taken"))["usual"]
    return taken.total_seconds() if taken else None


class _Clock:
    """Tells when each job of the line likely starts, if each run has its place for as long as runs usually do.

    A job needs a place of the platform, one of its team and one of its person; each of these is a heap of the moments, in seconds
    from now, at which its places come free.
    """

    def __init__(self, rules: Rules, running: list[Running], *, usual: float | None) -> None:
        self._rules, self._running, self._usual = rules, running, usual
        self._heaps: dict[tuple[int, ...], list[float]] = {}

    def start(self, job: Waiting) -> float | None:
        """Take the job's places, and say when. Ask in the order of the line. None where no run tells how long one lasts."""
        numbers = self._rules.numbers_of(job.team_id)
        heaps = [
            self._heap((), numbers.platform),
            self._heap((job.team_id,), numbers.team),
            self._heap((job.team_id, job.person_id), numbers.person),
        ]
        at = max(heap[0] for heap in heaps)
        if self._usual is None and at > 0:
            return None
        for heap in heaps:
            heapq.heapreplace(heap, at + self._usual if self._usual else float("inf"))
        return at

    def _heap(self, whose: tuple[int, ...], places: int) -> list[float]:
        if whose not in self._heaps:
            taken = [self._left(run) for run in self._running if (run.team_id, run.person_id)[: len(whose)] == whose]
            free = [0.0] * max(0, places - len(taken))
            # Where a number was lowered, as many must end first as there are too many.
            heap = sorted(free + taken)[-places:]
            heapq.heapify(heap)
            self._heaps[whose] = heap
        return self._heaps[whose]

    def _left(self, run: Running) -> float:
        return float("inf") if self._usual is None else max(self._usual - run.seconds, LEAST_LEFT_SECONDS)
