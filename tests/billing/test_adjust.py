"""Correcting what something cost: by lines of their own, with a reason, and with every total behind."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.errors import InvalidInput
from accounts.models import AuditLine
from billing import ledger, services, totals
from billing.models import Hold, LedgerLine, LimitAction, LineKind, SpendAlert
from billing.services import NothingToAdjust
from tests.billing.factories import NOW, USD, SpendLimitFactory, hold, settle
from tests.factories import TeamFactory, UserFactory

pytestmark = pytest.mark.django_db


def adjust(held=None, usd=1, **options):
    options = {"reason": "invoice 2026-11", "by": None, "now": NOW, **options}
    return services.adjust(hold=held, amount=round(usd * USD), **options)


def settled(team, usd=2, **options):
    held = hold(team, 4, **options).hold
    settle(held, usd)
    return held


def is_sound(team):
    return (totals.differences(), ledger.unbalanced_holds(team), ledger.verify(team).valid) == ([], [], True)


@pytest.mark.parametrize(("usd", "charge"), [(1.5, 3_500_000), (-1.5, 500_000), (-2, 0)])
def test_an_adjustment_is_a_line_and_every_total_follows(usd, charge):
    limit = SpendLimitFactory()
    held, staff = settled(limit.team), UserFactory(username="ada")

    line = adjust(held, usd, by=staff, reason="the provider's invoice says so", address="192.0.2.7")

    held.refresh_from_db()
    assert (line.kind, line.amount, line.hold, line.reference, line.made_by_id) == ("adjust", usd * USD, held, held.reference, staff.pk)
    assert (held.charge, held.flag) == (charge, "")
    assert (limit.periods.get().settled, limit.team.ledger_head.charged) == (charge, charge)
    assert is_sound(limit.team)
    said = AuditLine.objects.get(event_type="ledger.adjusted")
    assert (said.team, said.actor, said.target_id, said.reason) == (limit.team, "ada", held.reference, "the provider's invoice says so")
    assert (said.before, said.after, said.address) == ({"charged": 2 * USD}, {"charged": charge}, "192.0.2.7")


def test_the_charge_itself_stays_as_it_was_written():
    held = settled(TeamFactory())
    before = list(LedgerLine.objects.order_by("sequence").values())

    adjust(held, 1)
    adjust(held, -3)

    assert list(LedgerLine.objects.order_by("sequence").values())[: len(before)] == before
    assert list(LedgerLine.objects.filter(kind=LineKind.ADJUST).order_by("sequence").values_list("amount", flat=True)) == [USD, -3 * USD]


def test_no_more_is_given_back_than_was_charged():
    held = settled(TeamFactory())

    with pytest.raises(InvalidInput, match=r"cost \$2.00; no more than that can be given back"):
        adjust(held, -2.000001)

    assert (LedgerLine.objects.count(), Hold.objects.get().charge, AuditLine.objects.count()) == (3, 2 * USD, 0)


@pytest.mark.parametrize(("usd", "reason", "refused"), [(0, "invoice", NothingToAdjust), (1, "", InvalidInput), (1, "  ", InvalidInput)])
def test_an_adjustment_changes_something_and_says_why(usd, reason, refused):
    held = settled(TeamFactory())

    with pytest.raises(refused):
        adjust(held, usd, reason=reason)

    assert LedgerLine.objects.count() == 3


def test_what_is_not_settled_has_no_charge_to_adjust():
    held = hold(TeamFactory(), 4).hold

    with pytest.raises(NothingToAdjust, match="not settled yet"):
        adjust(held, 1)


def test_beyond_the_hold_it_is_an_overrun_of_the_limit_and_marked_as_looked_at():
    limit = SpendLimitFactory()
    hold(limit.team, 46)
    held, staff = settled(limit.team, 4), UserFactory()

    adjust(held, 5, by=staff)

    held.refresh_from_db()
    period = limit.periods.get()
    assert (period.settled, period.held, period.overrun) == (9 * USD, 46 * USD, 5 * USD)
    assert (held.charge, held.flag, held.reviewed_by, held.needs_a_look) == (9 * USD, services.BEYOND, staff, False)
    assert SpendAlert.objects.filter(threshold_percent=100).exists()
    with pytest.raises(services.LimitReached):
        hold(limit.team, 0.01)


def test_what_is_given_back_makes_room_under_the_limit():
    limit = SpendLimitFactory()
    hold(limit.team, 46)
    held = settled(limit.team, 4)

    adjust(held, -3)

    assert limit.periods.get().left == 3 * USD
    hold(limit.team, 3)


def test_a_rehearsal_is_adjusted_without_any_total():
    limit = SpendLimitFactory()
    held = settled(limit.team, is_rehearsal=True)

    adjust(held, 1)

    assert (Hold.objects.get().charge, limit.periods.count(), limit.team.ledger_head.charged) == (3 * USD, 0, 0)
    assert is_sound(limit.team)


def test_a_team_is_adjusted_beside_its_holds():
    limit = SpendLimitFactory()
    settled(limit.team)

    line = adjust(team=limit.team, usd=-1.25, reason="a credit note")

    assert (line.hold, line.amount, line.reason) == (None, -1_250_000, "a credit note")
    assert (limit.team.ledger_head.charged, limit.periods.get().settled) == (750_000, 2 * USD)
    assert is_sound(limit.team)
    assert AuditLine.objects.get(event_type="ledger.adjusted").target_id == limit.team.slug


def test_a_teams_total_never_falls_below_nothing():
    team = TeamFactory()
    settled(team)

    with pytest.raises(InvalidInput, match=r"was charged \$2.00; no more"):
        adjust(team=team, usd=-2.5)

    assert LedgerLine.objects.count() == 3
    assert team.ledger_head.charged == 2 * USD


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    amounts=st.lists(st.integers(-12 * USD, 12 * USD), max_size=8),
    ceiling=st.integers(1, 20 * USD),
    action=st.sampled_from(LimitAction.values),
)
def test_totals_and_limits_stay_true_whatever_is_adjusted(amounts, ceiling, action):
    limit = SpendLimitFactory(action=LimitAction.WARN, amount=ceiling)
    held = settled(limit.team, 3)
    limit.action = action
    limit.save()
    period = limit.periods.get()
    period.follow(limit)

    for amount in amounts:
        try:
            adjust(held, amount / USD)
        except (InvalidInput, NothingToAdjust):
            assert amount == 0 or amount < 0
        period.refresh_from_db()
        assert period.overrun == period.excess
    assert is_sound(limit.team)
    held.refresh_from_db()
    assert held.charge == limit.team.ledger_head.charged == period.settled >= 0
