"""The cost limit of SimpleTuner's provider settings, kept as a spend limit of the team."""

import pytest

from billing import documented, services
from billing.documented import CostLimit
from billing.models import LimitPeriod, SpendLimit
from tests.billing.factories import NOW, USD, hold, race
from tests.factories import TeamFactory

ON = CostLimit(is_enabled=True, amount=50 * USD, period="monthly", action="block")


@pytest.fixture
def team(db):
    return TeamFactory()


def rows(team):
    return sorted(team.spend_limits.values_list("period", "amount", "is_enabled"))


def test_a_team_that_set_nothing_has_the_defaults_and_no_row(team):
    assert documented.read(team) == CostLimit(is_enabled=False, amount=0, period="monthly", action="warn")
    assert rows(team) == []


def test_another_period_has_a_row_of_its_own_and_only_one_is_enabled(team):
    documented.save(team, ON)
    documented.save(team, CostLimit(is_enabled=True, amount=10 * USD, period="daily", action="block"))

    assert rows(team) == [("daily", 10 * USD, True), ("monthly", 50 * USD, False)]
    assert documented.read(team).period == "daily"


def test_a_limit_that_is_off_is_remembered_as_it_was_left(team):
    documented.save(team, ON)
    documented.save(team, CostLimit(is_enabled=False, amount=7 * USD, period="weekly", action="warn"))

    assert documented.read(team) == CostLimit(is_enabled=False, amount=7 * USD, period="weekly", action="warn")


def test_the_limit_knows_what_its_period_has_seen_and_blocks_the_next_hold(team):
    hold(team, 48)
    documented.save(team, ON)

    with pytest.raises(services.LimitReached):
        hold(team, 4)
    assert [(status.name, status.held, status.left) for status in services.statuses(team=team, now=NOW)] == [
        ("documented", 48 * USD, 2 * USD)
    ]


def test_a_former_period_comes_back_with_its_figures(team):
    documented.save(team, ON)
    hold(team, 4)
    documented.save(team, CostLimit(is_enabled=True, amount=10 * USD, period="daily"))
    hold(team, 3)
    documented.save(team, ON)

    assert services.statuses(team=team, now=NOW)[0].held == 7 * USD
    assert LimitPeriod.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_those_who_save_at_once_leave_one_enabled():
    team = TeamFactory()

    race(lambda n: documented.save(team, CostLimit(is_enabled=True, amount=n, period=("daily", "weekly", "monthly")[n % 3])), times=12)

    assert SpendLimit.objects.filter(team=team, is_enabled=True).count() == 1
