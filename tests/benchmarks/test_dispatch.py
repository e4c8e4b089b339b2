"""What a job that goes costs while many wait, beside what it costs while few do."""

import random
import time

import pytest
from django.utils import timezone

from jobs.models import Job, QueueSettings
from jobs.services.dispatch import dispatch
from jobs.states import LAUNCHED, State
from tests.jobs.crowded import teams_of, wait

pytestmark = pytest.mark.django_db

TEAMS, PLACES, ROUNDS = 20, 40, 4


def seconds_a_job(waiting: int) -> float:
    """How long a job takes to go, on average over some rounds that each fill the platform, with so many that wait."""
    Job.objects.filter(state__in=[State.PENDING, *LAUNCHED]).delete()
    now, chance = timezone.now(), random.Random(1)
    wait(teams_of(TEAMS, people=5), [waiting // TEAMS] * TEAMS, now=now, chance=chance)
    dispatch(now=now)
    taken, count = 0.0, 0
    for _ in range(ROUNDS):
        Job.objects.launched().update(state=State.COMPLETED)
        start = time.perf_counter()
        count += len(dispatch(now=now))
        taken += time.perf_counter() - start
    return taken / count


def test_a_job_goes_nearly_as_quickly_while_ten_times_as_many_wait():
    QueueSettings.objects.update_or_create(team=None, provider="", defaults={"max_concurrent": PLACES})

    seconds_a_job(200)  # the first one is not counted
    few, many = seconds_a_job(200), seconds_a_job(2000)

    print(f"\ndispatch: {1 / many:.0f} jobs a second while 2,000 wait; a job with 2,000 waiting / with 200: {many / few:.2f}")
    assert many < few * 5
