"""Two hundred submissions of $4.00 each by sixteen processes at once, against a limit of $50.00."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

import pytest
from django.db import connection

from billing import ledger, totals
from billing.models import Hold, LimitAction, LimitPeriod, SpendAlert
from jobs.models import Job
from tests.billing.factories import USD, PriceLineFactory, SpendLimitFactory
from tests.jobs.crowd import Crowd
from tests.jobs.ready import NAMED, make_ready
from tests.thoroughness import FULL
from tests.watching import Watching

pytestmark = pytest.mark.django_db(transaction=True)

RUNS = 10 if FULL else 2
PROCESSES, SUBMISSIONS = 16, 200
COST = 4 * USD


def sums(limit):
    """What is settled and held in each of its periods."""
    return [settled + held for settled, held in LimitPeriod.objects.filter(limit=limit).values_list("settled", "held")]


@pytest.fixture(scope="module")
def crowd(django_db_setup):
    with Crowd(PROCESSES, connection.settings_dict["NAME"]) as crowd:
        yield crowd


@pytest.fixture(autouse=True)
def price(no_provider):
    PriceLineFactory(hardware="gpu-l40s", usd_per_second=Decimal("0.001"), effective_from=datetime(2026, 2, 1, tzinfo=UTC))


def test_of_200_exactly_12_are_admitted_and_188_refused_run_after_run(crowd):
    for _ in range(RUNS):
        ready = make_ready()
        limit = SpendLimitFactory(team=ready.team, amount=50 * USD)

        with Watching(partial(sums, limit)) as watching:
            answers = crowd.submit(ready.key, times=SUBMISSIONS, config=NAMED)

        assert Counter(answers) == {(200, ""): 12, (402, "cost_limit_exceeded"): 188}
        assert set(Hold.objects.filter(team=ready.team).values_list("amount", flat=True)) == {COST}
        assert (Job.objects.filter(team=ready.team).count(), limit.periods.get().held) == (12, 48 * USD)
        assert watching.looks > 20
        assert max(watching.seen) <= 50 * USD
        assert ledger.verify(ready.team).checked == 12
    assert totals.differences() == []


def test_with_a_limit_that_warns_all_pass_and_each_threshold_alerts_once(crowd):
    for _ in range(RUNS):
        ready = make_ready()
        limit = SpendLimitFactory(team=ready.team, amount=50 * USD, action=LimitAction.WARN)

        answers = crowd.submit(ready.key, times=SUBMISSIONS, config=NAMED)

        assert Counter(answers) == {(200, ""): SUBMISSIONS}
        noted = SpendAlert.objects.filter(period__limit=limit).order_by("threshold_percent")
        assert list(noted.values_list("threshold_percent", "total", "room")) == [
            (50, 28 * USD, 50 * USD),
            (80, 40 * USD, 50 * USD),
            (95, 48 * USD, 50 * USD),
            (100, 52 * USD, 50 * USD),
        ]
        assert limit.periods.get().held == SUBMISSIONS * COST
    assert totals.differences() == []
