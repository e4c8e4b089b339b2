"""Rows of the billing app, and threads that race each other on connections of their own."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any

import factory
from django.db import connection
from factory.django import DjangoModelFactory

from billing import services
from billing.models import Hold, LimitAction, LimitPeriodKind, LimitScope, PriceLine, SpendLimit
from tests.factories import TeamFactory

USD = 1_000_000
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
references = (f"job:j-{number:010d}" for number in count(1))


class PriceLineFactory(DjangoModelFactory):
    class Meta:
        model = PriceLine
        django_get_or_create = ("hardware", "effective_from")

    hardware = "gpu-test"
    name = "Test GPU"
    usd_per_second = Decimal("0.000975")
    effective_from = datetime(2026, 1, 1, tzinfo=UTC)


class SpendLimitFactory(DjangoModelFactory):
    """A team's blocking limit of $50 a month."""

    class Meta:
        model = SpendLimit

    scope = LimitScope.TEAM
    team = factory.SubFactory(TeamFactory)
    name = factory.Sequence("limit {}".format)
    amount = 50 * USD
    period = LimitPeriodKind.MONTHLY
    action = LimitAction.BLOCK


def hold(team: Any, usd: float = 4, **options: Any) -> services.Held:
    """Hold dollars for a team."""
    options = {"reference": next(references), "user": None, "now": NOW, "what_for": "Training on L40S", **options}
    return services.hold(team=team, amount=round(usd * USD), price_line=options.pop("price_line", None) or PriceLineFactory(), **options)


def settle(held: Hold, usd: float, **options: Any) -> bool:
    return services.settle(held, charge=round(usd * USD), **{"now": NOW, **options})


def race(work: Callable[[int], Any], *, times: int, threads: int = 6) -> list[Any]:
    """Do `work(0)` to `work(times - 1)` at once; what each returned, or the exception that it raised, in their order."""
    outcomes: list[Any] = [None] * times
    starting_line = threading.Barrier(threads)

    def run(lane: int) -> None:
        try:
            connection.ensure_connection()
            starting_line.wait(timeout=30)
            for number in range(lane, times, threads):
                try:
                    outcomes[number] = work(number)
                except Exception as error:  # noqa: BLE001 - what was raised is the outcome
                    outcomes[number] = error
        finally:
            connection.close()

    lanes = [threading.Thread(target=run, args=(lane,)) for lane in range(threads)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join(timeout=120)
    return outcomes


def wait_for_a_lock() -> None:
    """Return once another connection of this test's database waits for a lock."""
    with connection.cursor() as cursor:
        for _ in range(30_000):
            cursor.execute("SELECT pg_sleep(0.002)")
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
            if cursor.fetchone()[0]:
                return
    raise AssertionError("Nobody waits for a lock.")
