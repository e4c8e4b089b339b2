"""What must not grow with the number of rows: appending to a long log, holding money in a full period."""

import itertools

import pytest
from django.db import transaction
from django.db.models import Sum
from django.db.models.functions import Length
from django.utils import timezone

from billing import services as billing
from billing.models import LimitAction, LimitScope, SpendLimit
from jobs.services import logs
from tests.billing.factories import PriceLineFactory
from tests.factories import TeamFactory
from tests.jobs.factories import JobFactory

pytestmark = pytest.mark.django_db

LINE = "Epoch 1/10 Steps:  12%|█▏        | {step}/100000 [01:02<07:33,  1.94it/s, lr=1e-4, step_loss=0.123]\n"


def test_a_log_that_comes_whole_each_time_is_written_once(median_seconds):
    job = JobFactory()
    text = ""

    def grow() -> None:
        nonlocal text
        text += "".join(LINE.format(step=step) for step in range(text.count("\n"), text.count("\n") + 25))
        with transaction.atomic():
            logs.append(job, text)

    short = median_seconds(grow)
    for _ in range(400):
        grow()
    long = median_seconds(grow)

    written = job.log_chunks.aggregate(total=Sum(Length("text")))["total"]
    print(f"\nlog: {len(text):,} characters, {written / len(text):.2f} written for each; append to long / to short: {long / short:.2f}")
    assert written == len(text)


def test_a_hold_costs_the_same_in_a_full_period(median_seconds):
    team, line, numbers = TeamFactory(), PriceLineFactory(), itertools.count()
    SpendLimit.objects.create(scope=LimitScope.TEAM, team=team, amount=10**12, action=LimitAction.BLOCK)

    def hold() -> None:
        with transaction.atomic():
            billing.hold(
                team=team, amount=1, reference=f"job:b-{next(numbers)}", what_for="bench", price_line=line, user=None, now=timezone.now()
            )

    empty = median_seconds(hold)
    for _ in range(500):
        hold()
    full = median_seconds(hold)

    print(f"\nhold: after {next(numbers)} holds / in an empty period: {full / empty:.2f}")
    assert full < empty * 5
