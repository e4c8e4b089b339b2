"""Real threads on real connections: what the locks promise is shown, not assumed."""

import threading
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import transaction

from billing import ledger, services
from billing.models import Hold, LimitAction, LimitPeriod, LimitPeriodKind, LimitScope, SpendAlert, SpendLimit
from tests.billing.factories import NOW, USD, PriceLineFactory, SpendLimitFactory, hold, race, settle, wait_for_a_lock
from tests.factories import MembershipFactory, TeamFactory
from tests.watching import Watching

pytestmark = pytest.mark.django_db(transaction=True)


def sums():
    """What is settled and held in each period."""
    return [settled + held for settled, held in LimitPeriod.objects.values_list("settled", "held")]


def admitted(outcomes):
    """The holds that were taken; every other outcome must be the refusal, not a deadlock or a fault."""
    faults = [outcome for outcome in outcomes if not isinstance(outcome, services.Held | services.LimitReached)]
    assert faults == []
    return [outcome for outcome in outcomes if isinstance(outcome, services.Held)]


def test_racing_holds_cannot_overspend_a_limit():
    limit = SpendLimitFactory()
    price_line = PriceLineFactory()

    with Watching(sums) as watching:
        outcomes = race(lambda number: hold(limit.team, 4, price_line=price_line), times=40)

    assert len(admitted(outcomes)) == 12
    assert limit.periods.get().held == 48 * USD
    assert max(watching.seen) == 48 * USD
    assert ledger.verify(limit.team).checked == 12


def test_racing_holds_of_many_teams_cannot_overspend_the_platforms_limit():
    limit = SpendLimitFactory(scope=LimitScope.PLATFORM, team=None)
    members = [MembershipFactory() for _ in range(4)]
    for member in members:
        # Keys run against the scopes, so that only the order of locking keeps the holds from a deadlock.
        SpendLimitFactory(scope=LimitScope.PERSON, team=member.team, user=member.user)
        SpendLimitFactory(team=member.team, period=LimitPeriodKind.DAILY)
    price_line = PriceLineFactory()

    def ask(number):
        member = members[number % 4]
        return hold(member.team, 4, user=member.user, price_line=price_line)

    outcomes = race(ask, times=32)

    assert len(admitted(outcomes)) == 12
    assert limit.periods.get().held == 48 * USD


def test_holds_and_settlements_race_without_deadlock_and_every_cent_is_accounted_for():
    team = TeamFactory()
    limits = [
        SpendLimitFactory(scope=LimitScope.PLATFORM, team=None),
        SpendLimitFactory(team=team),
        SpendLimitFactory(team=team, period=LimitPeriodKind.DAILY),
    ]
    price_line = PriceLineFactory()

    def live(number):
        """Hold, then settle twice, as a webhook and a poll do."""
        held = hold(team, 4, price_line=price_line)
        again = Hold.objects.get(pk=held.hold.pk)
        assert (settle(held.hold, 1), settle(again, 2)) == (True, False)
        return held

    with Watching(sums) as watching:
        lives = admitted(race(live, times=40))

    for limit in limits:
        period = limit.periods.get()
        assert (period.settled, period.held) == (len(lives) * USD, 0)
    assert len(lives) >= 12
    assert max(watching.seen) <= 50 * USD
    assert ledger.verify(team).valid
    assert ledger.unbalanced_holds(team) == []
    call_command("rebuild_totals")


def test_of_racing_settlements_exactly_one_settles():
    held = hold(TeamFactory(), 10).hold

    outcomes = race(lambda number: settle(Hold.objects.get(pk=held.pk), number), times=6)

    assert sorted(outcomes) == [False] * 5 + [True]
    assert Hold.objects.get().charge == outcomes.index(True) * USD
    assert held.lines.count() == 3


def test_racing_holds_with_warning_all_pass_and_alert_once_for_each_threshold():
    limit = SpendLimitFactory(action=LimitAction.WARN)
    price_line = PriceLineFactory()

    outcomes = race(lambda number: hold(limit.team, 4, price_line=price_line), times=24)

    assert len(admitted(outcomes)) == 24
    assert sorted(SpendAlert.objects.values_list("threshold_percent", flat=True)) == [50, 80, 95, 100]


def test_a_limit_set_while_holds_are_settled_counts_each_of_them_once():
    team = TeamFactory()
    running = [hold(team, 4).hold for _ in range(12)]
    price_line = PriceLineFactory()
    SpendLimitFactory(team=team, amount=1000 * USD)

    def settle_or_hold(number):
        if number % 2:
            return settle(running[number // 2], 1)
        return hold(team, 2, price_line=price_line)

    outcomes = race(settle_or_hold, times=24)

    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    period = LimitPeriod.objects.get()
    assert (period.settled, period.held) == (12 * USD, 24 * USD)


def test_a_limit_that_is_lowered_while_a_hold_waits_for_it_counts():
    limit = SpendLimitFactory()
    first = hold(limit.team, 4).hold
    price_line = first.price_line
    waiting = threading.Event()
    outcomes = []

    def ask():
        waiting.set()
        outcomes.extend(race(lambda number: hold(limit.team, 4, price_line=price_line), times=1, threads=1))

    asker = threading.Thread(target=ask)
    with transaction.atomic():
        LimitPeriod.objects.locked().get()
        asker.start()
        waiting.wait(timeout=60)
        wait_for_a_lock()
        SpendLimit.objects.filter(pk=limit.pk).update(amount=5 * USD)
    asker.join(timeout=60)

    assert [type(outcome) for outcome in outcomes] == [services.LimitReached]


def test_two_that_open_a_period_at_once_share_it():
    team = TeamFactory()
    limits = [SpendLimitFactory(team=team, name=f"limit {number}") for number in range(3)]
    price_line = PriceLineFactory()

    for day in range(5):
        race(lambda number, day=day: hold(team, 0.5, price_line=price_line, now=NOW + timedelta(days=40 * day)), times=6)

    assert [sorted(limit.periods.values_list("held", flat=True)) for limit in limits] == [[3 * USD] * 5] * 3
