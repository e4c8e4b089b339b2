"""Putting a hold in the place of another: a new price, a new period, and what stands when it does not fit."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command

from billing import ledger, services, totals
from billing.models import Hold, LimitPeriod, LimitPeriodKind, LimitScope, PriceLine, SpendLimit
from tests.billing.factories import NOW, USD, PriceLineFactory, SpendLimitFactory, hold, race, settle
from tests.factories import MembershipFactory

NEXT_MONTH = NOW + timedelta(days=10)


def dearer(usd_per_second="0.002"):
    return PriceLineFactory(usd_per_second=Decimal(usd_per_second), effective_from=NOW)


def rehold(held, usd, **options):
    options = {"price_line": held.price_line, "now": NOW, **options}
    return services.rehold(held, amount=round(usd * USD), **options)


def lines(team):
    return list(team.ledger_lines.order_by("sequence").values_list("kind", "amount", "reference"))


def assert_books_are_right(team):
    assert ledger.verify(team).valid
    assert ledger.unbalanced_holds(team) == []
    assert totals.differences() == []


@pytest.mark.django_db
def test_another_price_releases_the_old_hold_and_takes_a_new_one_under_the_same_reference():
    limit = SpendLimitFactory()
    old = hold(limit.team, 10).hold
    line = dearer()

    new = rehold(old, 20, price_line=line).hold

    old.refresh_from_db()
    assert (old.charge, old.settled_at, new.replaces, new.reference, new.price_line) == (0, NOW, old, old.reference, line)
    assert lines(limit.team) == [
        ("hold", 10 * USD, old.reference), ("charge", 0, old.reference), ("release", 10 * USD, old.reference),
        ("hold", 20 * USD, old.reference),
    ]  # fmt: skip
    assert limit.periods.get().held == 20 * USD
    assert_books_are_right(limit.team)


@pytest.mark.django_db
def test_the_room_of_the_old_hold_counts_for_the_new_one():
    limit = SpendLimitFactory()
    old = hold(limit.team, 40).hold

    new = rehold(old, 50, price_line=dearer()).hold

    assert (new.amount, limit.periods.get().left) == (50 * USD, 0)


@pytest.mark.django_db
def test_one_that_does_not_fit_leaves_the_old_hold_as_it_was():
    limit = SpendLimitFactory()
    old = hold(limit.team, 40).hold

    with pytest.raises(services.LimitReached) as refused:
        rehold(old, 51, price_line=dearer())

    shown = refused.value.details["limits"]
    assert [(row["left_micros"], row["requested_micros"], row["binding"]) for row in shown] == [(50 * USD, 51 * USD, True)]
    assert (Hold.objects.get(), limit.periods.get().held, len(lines(limit.team))) == (old, 40 * USD, 1)
    assert Hold.objects.open().count() == 1


@pytest.mark.django_db
def test_nothing_is_written_where_nothing_changed():
    limit = SpendLimitFactory()
    old = hold(limit.team, 40).hold

    again = rehold(old, 40)

    assert (again.hold, len(lines(limit.team)), limit.periods.get().held) == (old, 1, 40 * USD)


@pytest.mark.django_db
def test_a_limit_that_was_lowered_meanwhile_is_asked_again_also_where_nothing_else_changed():
    limit = SpendLimitFactory()
    old = hold(limit.team, 40).hold
    SpendLimit.objects.filter(pk=limit.pk).update(amount=30 * USD)

    with pytest.raises(services.LimitReached):
        rehold(old, 40)

    assert limit.periods.get().held == 40 * USD
    assert_books_are_right(limit.team)


@pytest.mark.django_db
def test_in_another_period_the_money_moves_there():
    monthly = SpendLimitFactory()
    daily = SpendLimitFactory(team=monthly.team, period=LimitPeriodKind.DAILY)
    old = hold(monthly.team, 10).hold

    new = rehold(old, 10, now=NEXT_MONTH).hold
    settle(new, 3, now=NEXT_MONTH)

    for limit in (monthly, daily):
        figures = limit.periods.order_by("starts_at").values_list("settled", "held")
        assert list(figures) == [(0, 0), (3 * USD, 0)]
    assert_books_are_right(monthly.team)


@pytest.mark.django_db
def test_a_limit_that_was_set_after_the_first_hold_counts_the_new_one_once():
    team = SpendLimitFactory().team
    old = hold(team, 10).hold
    later = SpendLimitFactory(team=team, amount=30 * USD)

    rehold(old, 25, price_line=dearer())

    assert later.periods.get().held == 25 * USD
    assert_books_are_right(team)


@pytest.mark.django_db
def test_a_rehearsal_stays_one_and_counts_nowhere():
    limit = SpendLimitFactory(amount=1)
    old = hold(limit.team, 10, is_rehearsal=True).hold

    new = rehold(old, 20, price_line=dearer()).hold

    assert (new.is_rehearsal, LimitPeriod.objects.count()) == (True, 0)
    assert_books_are_right(limit.team)


@pytest.mark.django_db
def test_a_hold_that_is_settled_cannot_be_replaced():
    old = hold(MembershipFactory().team, 10).hold
    settle(old, 1)

    with pytest.raises(ValueError, match="is settled"):
        rehold(old, 20)


@pytest.mark.django_db(transaction=True)
def test_of_racing_replacements_and_settlements_one_comes_first_and_the_books_are_right():
    limit = SpendLimitFactory(amount=1000 * USD)
    SpendLimitFactory(team=limit.team, period=LimitPeriodKind.DAILY, amount=1000 * USD)
    SpendLimitFactory(scope=LimitScope.PLATFORM, team=None, amount=1000 * USD)
    holds = [hold(limit.team, 4).hold for _ in range(8)]
    line = dearer()

    def work(number):
        old = Hold.objects.get(pk=holds[number // 3].pk)
        if number % 3 == 2:
            return settle(old, 1)
        # Some find the periods of next month missing, and open them.
        return rehold(old, 8, price_line=PriceLine.objects.get(pk=line.pk), now=NOW if number % 2 else NEXT_MONTH)

    outcomes = race(work, times=24)

    faults = [each for each in outcomes if isinstance(each, Exception) and not isinstance(each, ValueError)]
    assert faults == []
    for number in range(8):
        three = outcomes[3 * number : 3 * number + 3]
        assert sum(isinstance(each, services.Held) or each is True for each in three) == 1
    assert_books_are_right(limit.team)
    call_command("verify_ledger")
