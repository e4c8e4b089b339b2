"""Many jobs that wait, written as quickly as that goes."""

import random
from datetime import datetime, timedelta

from accounts.models import Team, User
from jobs.models import Job
from jobs.states import State
from tests.factories import TeamFactory, UserFactory
from tests.jobs.factories import JobFactory

PRIORITIES = (0, 10, 10, 10, 20, 30, 50)


def teams_of(number: int, *, people: int) -> list[tuple[Team, list[User]]]:
    return [(TeamFactory(), [UserFactory() for _ in range(people)]) for _ in range(number)]


def wait(teams: list[tuple[Team, list[User]]], counts: list[int], *, now: datetime, chance: random.Random) -> None:
    """Have so many jobs of each team wait, of its people in turn, with all priorities, submitted in the last four hours."""
    for (team, people), count in zip(teams, counts, strict=True):
        pattern = JobFactory(team=team, state=State.CANCELLED)
        Job.objects.bulk_create(
            Job(
                team=team, submitted_by=chance.choice(people), packing_path=pattern.packing_path, trainer=pattern.trainer,
                destination=pattern.destination, credential=pattern.credential, price_line=pattern.price_line, ceiling_seconds=3600,
                stop_after_seconds=3600, state=State.PENDING, waiting_reason="turn", priority=chance.choice(PRIORITIES),
                submitted_at=now - timedelta(minutes=chance.randrange(240)),
            )
            for _ in range(count)
        )  # fmt: skip
