"""The queue's order: whose turn it is, and hence every job's place. Dispatcher, API and pages all ask here.

Within a team the higher priority goes first, and of equals whoever waits longer. With each full hour of waiting a job gains
ten, up to the highest priority there is. So after five hours at most nothing that comes later passes a job, and none starves.
Between teams the next place goes to the one that has the fewest jobs running (fair share, unless switched off).
"""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from django.db.models import BooleanField, Case, IntegerField, QuerySet, Value, When
from django.db.models.functions import Coalesce, Greatest, Least
from django.utils.translation import gettext_lazy as _

from jobs.models import Job
from jobs.states import State

AGES_EVERY = timedelta(minutes=60)
AGES_BY = 10
HIGHEST = 50
# The least effective priority of each name. Source: simpletuner-api.md 2.8.
NAMES = {"critical": 40, "urgent": 30, "high": 20, "normal": 10, "low": 0}
LABELS = {"critical": _("critical"), "urgent": _("urgent"), "high": _("high"), "normal": _("normal"), "low": _("low")}
ORDER = ("is_later", "-rank", "waits_since", "pk")


class Waiting(NamedTuple):
    """What must be known of a job that waits to find its turn, and not more: there may be thousands."""

    pk: int
    team_id: int
    person_id: int
    provider: str
    credential_id: int
    not_before: datetime | None
    waiting_reason: str
    rank: int


COLUMNS = ("pk", "team_id", "submitted_by_id", "provider", "credential_id", "not_before", "waiting_reason", "rank")
Turn = TypeVar("Turn", bound=Waiting)


def ranked(jobs: QuerySet[Job], *, now: datetime) -> QuerySet[Job]:
    """Jobs in the order of priority and age, with `rank`, their effective priority. One that may not start yet comes last.

    A job ages from when it was submitted, or from when it may start if that is later.
    """
    # On PostgreSQL the greatest of several is the greatest that is not null.
    jobs = jobs.annotate(waits_since=Greatest("submitted_at", "not_before"))
    hours = range(HIGHEST // AGES_BY, 0, -1)
    gained = Case(
        *(When(waits_since__lte=now - number * AGES_EVERY, then=Value(number * AGES_BY)) for number in hours),
        default=Value(0),
        output_field=IntegerField(),
    )
    later = Case(When(not_before__gt=now, then=Value(True)), default=Value(False), output_field=BooleanField())
    asked = Coalesce("priority_override", "priority", output_field=IntegerField())
    return jobs.annotate(rank=Least(asked + gained, Value(HIGHEST), output_field=IntegerField()), is_later=later).order_by(*ORDER)


def waiting(*, now: datetime) -> list[Waiting]:
    """All jobs of the platform that wait, by priority and age."""
    jobs = ranked(Job.objects.filter(state=State.PENDING), now=now)
    return [Waiting(*row) for row in jobs.values_list(*COLUMNS)]


def in_turn(jobs: Iterable[Turn], running: Counter[int]) -> list[Turn]:
    """Jobs that stand in the order of priority and age, as teams take turns: first those whose team has the fewest running.

    The first job of a team with two running is its third, and stands where all teams' third jobs do.
    """
    reached = Counter(running)
    turns: list[tuple[int, Turn]] = []
    for job in jobs:
        turns.append((reached[job.team_id], job))
        reached[job.team_id] += 1
    # Sorting is stable: within one turn the order stays that of priority and age.
    return [job for _turn, job in sorted(turns, key=lambda turn: turn[0])]


def in_line(*, now: datetime, running: Counter[int], is_fair: bool, is_held: Callable[[Waiting], bool] = lambda _: False) -> list[Waiting]:
    """All jobs that wait, in the order in which they go. Who is held, or may not start yet, is passed by and stands behind the others."""
    ready: list[Waiting] = []
    held: list[Waiting] = []
    later: list[Waiting] = []
    for job in waiting(now=now):
        (later if _is_later(job, now) else held if is_held(job) else ready).append(job)
    return [*(in_turn(ready, running) if is_fair else ready), *held, *later]


def running_by_team() -> Counter[int]:
    """How many places each team has taken. What was started elsewhere takes none."""
    return Counter(Job.objects.launched().admitted().values_list("team_id", flat=True))


def name_of(priority: int) -> str:
    """The name of an effective priority."""
    return next(name for name, least in NAMES.items() if priority >= least)


def asked_priority(job: Job) -> int:
    """The priority that the job was given, before it ages."""
    return job.priority if job.priority_override is None else job.priority_override


def effective_priority(job: Job, *, now: datetime) -> int:
    """The priority with which a job stands in the line now; for one that does not wait the one that it was given."""
    if job.state != State.PENDING:
        return asked_priority(job)
    found = ranked(Job.objects.filter(pk=job.pk), now=now).first()
    return int(found.rank) if found else asked_priority(job)  # type: ignore[attr-defined]  # which `ranked` has added


def _is_later(job: Waiting, now: datetime) -> bool:
    return job.not_before is not None and job.not_before > now
