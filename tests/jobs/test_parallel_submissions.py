"""Two hundred submissions of $4.00 each by sixteen processes at once, against a limit of $50.00."""

import threading
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import connection

from billing import ledger, totals
from billing.models import Hold, LimitAction, LimitPeriod, SpendAlert
from jobs.models import Job
from tests.billing.factories import USD, PriceLineFactory, SpendLimitFactory
from tests.jobs.crowd import Crowd
from tests.jobs.ready import NAMED, make_ready
from tests.thoroughness import FULL

pytestmark = pytest.mark.django_db(transaction=True)

RUNS = 10 if FULL else 2
PROCESSES, SUBMISSIONS = 16, 200
COST = 4 * USD


class Reader:
    """Reads settled and held again and again while others write, and keeps the largest sum that it saw."""

    def __init__(self, limit):
        self.limit, self.most, self.reads = limit, 0, 0

    def __enter__(self):
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()
        return self

    def read(self):
        try:
            while not self.over.is_set():
                sums = [settled + held for settled, held in LimitPeriod.objects.filter(limit=self.limit).values_list("settled", "held")]
                self.most, self.reads = max(self.most, *sums, 0), self.reads + 1
        finally:
            connection.close()

    def __exit__(self, *exc):
        self.over.set()
        self.thread.join(timeout=60)


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

        with Reader(limit) as reader:
            answers = crowd.submit(ready.key, times=SUBMISSIONS, config=NAMED)

        assert Counter(answers) == {(200, ""): 12, (402, "cost_limit_exceeded"): 188}
        assert set(Hold.objects.filter(team=ready.team).values_list("amount", flat=True)) == {COST}
        assert (Job.objects.filter(team=ready.team).count(), limit.periods.get().held) == (12, 48 * USD)
        assert reader.reads > 20
        assert reader.most <= 50 * USD
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
