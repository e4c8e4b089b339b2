from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import services
from billing.models import Hold, LedgerLine, LimitAction, LineKind, SpendAlert
from tests.billing.factories import NOW, USD, SpendLimitFactory, hold, settle
from tests.factories import TeamFactory

pytestmark = pytest.mark.django_db


def lines(held):
    return list(LedgerLine.objects.filter(hold=held).order_by("sequence").values_list("kind", "amount"))


def test_a_settlement_charges_and_releases_the_rest():
    limit = SpendLimitFactory()
    held = hold(limit.team, 4).hold

    assert settle(held, 1.5) is True

    period, head = limit.periods.get(), limit.team.ledger_head
    assert lines(held) == [(LineKind.HOLD, 4 * USD), (LineKind.CHARGE, 1_500_000), (LineKind.RELEASE, 2_500_000)]
    assert (period.settled, period.held) == (1_500_000, 0)
    assert (head.charged, head.held) == (1_500_000, 0)
    assert (held.charge, held.settled_at, held.flag) == (1_500_000, NOW, "")


def test_a_second_settlement_changes_nothing():
    limit = SpendLimitFactory()
    held = hold(limit.team, 4).hold
    settle(held, 1)

    assert settle(Hold.objects.get(), 3, now=NOW + timedelta(hours=1)) is False

    assert Hold.objects.get().charge == 1 * USD
    assert len(lines(held)) == 3
    assert limit.periods.get().settled == 1 * USD


@pytest.mark.parametrize(("usd", "charge", "release"), [(0, 0, 4 * USD), (4, 4 * USD, 0)])
def test_a_settled_hold_has_three_lines_also_where_an_amount_is_zero(usd, charge, release):
    held = hold(TeamFactory(), 4).hold

    settle(held, usd)

    assert lines(held) == [(LineKind.HOLD, 4 * USD), (LineKind.CHARGE, charge), (LineKind.RELEASE, release)]


def test_a_charge_above_its_hold_is_cut_to_it():
    limit = SpendLimitFactory()
    held = hold(limit.team, 4).hold

    settle(held, 9)

    assert (held.charge, limit.periods.get().settled) == (4 * USD, 4 * USD)


def test_a_flagged_charge_may_exceed_its_hold_and_is_an_overrun_of_the_limit():
    limit = SpendLimitFactory()
    hold(limit.team, 46)
    held = hold(limit.team, 4).hold

    settle(held, 9, flag="billed beyond the deadline")

    period = limit.periods.get()
    assert lines(held) == [
        (LineKind.HOLD, 4 * USD),
        (LineKind.CHARGE, 4 * USD),
        (LineKind.RELEASE, 0),
        (LineKind.ADJUST, 5 * USD),
    ]
    assert LedgerLine.objects.get(kind=LineKind.ADJUST).reason == "Beyond the hold: billed beyond the deadline"
    assert (held.charge, held.flag) == (9 * USD, "billed beyond the deadline")
    assert (period.settled, period.held, period.overrun) == (9 * USD, 46 * USD, 5 * USD)
    assert (limit.team.ledger_head.charged, limit.team.ledger_head.held) == (9 * USD, 46 * USD)
    assert list(SpendAlert.objects.values_list("threshold_percent", flat=True)) == [50, 80, 95, 100]


def test_an_overrun_shrinks_with_what_is_released_and_never_makes_room():
    limit = SpendLimitFactory()
    other = hold(limit.team, 46).hold
    settle(hold(limit.team, 4).hold, 9, flag="billed beyond the deadline")

    settle(other, 41)

    period = limit.periods.get()
    assert (period.settled, period.held, period.overrun, period.left) == (50 * USD, 0, 0, 0)
    with pytest.raises(services.LimitReached):
        hold(limit.team, 1)


def test_a_flagged_charge_within_the_hold_is_only_marked():
    held = hold(TeamFactory(), 4).hold

    settle(held, 4, flag="the provider forgot the run")

    assert (held.flag, len(lines(held))) == ("the provider forgot the run", 3)


def test_a_warning_limit_has_no_overrun():
    limit = SpendLimitFactory(amount=1 * USD, action=LimitAction.WARN)

    settle(hold(limit.team, 4).hold, 9, flag="billed beyond the deadline")

    period = limit.periods.get()
    assert (period.settled, period.overrun) == (9 * USD, 0)


def test_less_than_nothing_cannot_be_charged():
    with pytest.raises(ValueError, match="cannot be charged"):
        settle(hold(TeamFactory(), 4).hold, -1)


def test_the_database_keeps_charges_to_their_holds():
    held = hold(TeamFactory(), 4).hold

    with pytest.raises(IntegrityError, match="charge_above_hold_is_flagged"), transaction.atomic():
        Hold.objects.filter(pk=held.pk).update(charge=5 * USD, settled_at=NOW)
    with pytest.raises(IntegrityError, match="hold_is_settled_with_a_charge"), transaction.atomic():
        Hold.objects.filter(pk=held.pk).update(settled_at=NOW)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(amount=st.integers(0, 10**13), charge=st.integers(0, 2 * 10**13), flag=st.sampled_from(["", "look"]))
def test_every_settled_hold_is_its_charge_and_its_release(amount, charge, flag):
    held = hold(TeamFactory(), amount / USD).hold

    services.settle(held, charge=charge, now=NOW, flag=flag)

    found = dict(lines(held))
    assert held.amount == amount == found[LineKind.HOLD] == found[LineKind.CHARGE] + found[LineKind.RELEASE]
    assert held.charge == found[LineKind.CHARGE] + found.get(LineKind.ADJUST, 0) == (charge if flag else min(charge, amount))
