from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from accounts.models import Team
from billing import services
from billing.models import Hold, LedgerLine, LimitAction, LimitPeriod, LimitPeriodKind, LimitScope, LineKind, SpendAlert
from tests.billing.factories import NOW, USD, PriceLineFactory, SpendLimitFactory, hold, settle
from tests.factories import MembershipFactory, TeamFactory, make_token

pytestmark = pytest.mark.django_db


def platform_limit(**options):
    return SpendLimitFactory(scope=LimitScope.PLATFORM, team=None, **options)


def test_a_hold_sets_money_aside_in_every_limit_that_applies():
    token, _ = make_token(member := MembershipFactory())
    team, user = member.team, member.user
    limits = [
        platform_limit(),
        SpendLimitFactory(team=team, period=LimitPeriodKind.DAILY),
        SpendLimitFactory(team=team, scope=LimitScope.PERSON, user=user),
        SpendLimitFactory(team=team, scope=LimitScope.TOKEN, token=token),
    ]
    others = [SpendLimitFactory(), SpendLimitFactory(team=team, scope=LimitScope.PERSON, user=MembershipFactory(team=team).user)]

    held = hold(team, 4, user=user, token=token)

    assert [limit.periods.get().held for limit in limits] == [4 * USD] * 4
    assert [limit.periods.count() for limit in others] == [0, 0]
    assert [(status.scope, status.window) for status in held.limits] == [
        ("platform", "monthly"),
        ("team", "daily"),
        ("person", "monthly"),
        ("token", "monthly"),
    ]
    assert set(held.hold.periods.all()) == set(LimitPeriod.objects.all())


def test_a_hold_writes_its_ledger_line():
    member = MembershipFactory()

    held = hold(member.team, 4, user=member.user, reference="job:j-ab12cd34ef").hold

    line = LedgerLine.objects.get()
    assert (line.kind, line.amount, line.hold, line.price_line) == (LineKind.HOLD, 4 * USD, held, held.price_line)
    assert (line.reference, line.made_by_id, line.at) == ("job:j-ab12cd34ef", member.user.pk, NOW)
    assert member.team.ledger_head.held == 4 * USD


def test_what_a_blocking_limit_has_left_may_be_held_to_the_last_cent():
    limit = SpendLimitFactory()

    hold(limit.team, 48)
    hold(limit.team, 2)

    assert limit.periods.get().left == 0


def test_a_refusal_names_the_tightest_limit_and_lists_all():
    limit = SpendLimitFactory(name="month")
    platform_limit(amount=1000 * USD, name="all")
    SpendLimitFactory(team=limit.team, amount=49 * USD, name="other")
    settle(hold(limit.team, 40).hold, 40)
    hold(limit.team, 8)

    with pytest.raises(services.LimitReached) as refused:
        hold(limit.team, 4)

    refusal = refused.value
    assert (refusal.status, refusal.code) == (402, "cost_limit_exceeded")
    assert refusal.detail == (
        "Cost limit exceeded: Training on L40S can cost up to $4.00, but the team's monthly limit of $49.00 has $1.00 left "
        "($40.00 used, $8.00 held) until it resets at 2026-12-01 00:00 UTC."
    )
    assert [(shown["name"], shown["binding"]) for shown in refusal.details["limits"]] == [("all", False), ("month", True), ("other", True)]
    assert refusal.details["limits"][1] == {
        "scope": "team",
        "name": "month",
        "window": "monthly",
        "action": "block",
        "limit": "50.000000",
        "limit_micros": 50_000_000,
        "top_up": "0.000000",
        "top_up_micros": 0,
        "used": "40.000000",
        "used_micros": 40_000_000,
        "held": "8.000000",
        "held_micros": 8_000_000,
        "left": "2.000000",
        "left_micros": 2_000_000,
        "requested": "4.000000",
        "requested_micros": 4_000_000,
        "resets_at": "2026-12-01T00:00:00Z",
        "binding": True,
    }


def test_a_refused_hold_leaves_nothing_behind():
    limit = SpendLimitFactory(amount=3 * USD)

    with pytest.raises(services.LimitReached):
        hold(limit.team, 4)

    assert (Hold.objects.count(), LedgerLine.objects.count(), SpendAlert.objects.count()) == (0, 0, 0)


def test_a_hold_is_undone_with_the_transaction_of_its_caller():
    limit = SpendLimitFactory()
    hold(limit.team, 4)

    with transaction.atomic():
        hold(limit.team, 4)
        transaction.set_rollback(True)

    assert limit.periods.get().held == 4 * USD
    assert LedgerLine.objects.count() == 1


@pytest.mark.parametrize("action", LimitAction.values)
@pytest.mark.parametrize("usd", [0, 4])
def test_an_enabled_limit_of_nothing_blocks_everything(action, usd):
    limit = SpendLimitFactory(amount=0, action=action)

    with pytest.raises(services.LimitReached):
        hold(limit.team, usd)


def test_a_disabled_limit_decides_nothing_and_still_counts():
    limit = SpendLimitFactory(amount=5 * USD, is_enabled=False)

    held = hold(limit.team, 40)

    assert (held.limits, held.warnings) == ([], [])
    limit.is_enabled = True
    limit.save()
    with pytest.raises(services.LimitReached, match=r"has \$0.00 left \(\$0.00 used, \$40.00 held\)"):
        hold(limit.team, 1)


def test_a_warning_limit_lets_pass_and_warns_from_80_percent_on():
    limit = SpendLimitFactory(action=LimitAction.WARN)

    warnings = [hold(limit.team, usd).warnings for usd in (39.99, 0.01, 10, 4)]

    assert warnings == [
        [],
        ["Approaching limit: $40.00 / $50.00 (monthly)"],
        ["Approaching limit: $50.00 / $50.00 (monthly)"],
        ["Spending limit exceeded: $54.00 / $50.00 (monthly)"],
    ]


def test_beyond_a_limit_that_requires_approval_the_hold_is_taken_and_needs_one():
    limit = SpendLimitFactory(action=LimitAction.REQUIRE_APPROVAL)

    within, beyond = hold(limit.team, 48), hold(limit.team, 4)

    assert (within.needs_approval, beyond.needs_approval) == (False, True)
    assert limit.periods.get().held == 52 * USD


def test_a_rehearsal_counts_against_no_limit_and_no_total():
    limit = SpendLimitFactory(amount=0)

    held = hold(limit.team, 4, is_rehearsal=True)
    settle(held.hold, 3)

    assert (held.limits, LimitPeriod.objects.count()) == ([], 0)
    assert list(LedgerLine.objects.values_list("is_rehearsal", flat=True)) == [True] * 3
    assert (limit.team.ledger_head.held, limit.team.ledger_head.charged) == (0, 0)


def test_each_threshold_is_noted_once_a_period():
    limit = SpendLimitFactory(action=LimitAction.WARN)

    for usd in (24.99, 0.01, 20, 5, 10):
        hold(limit.team, usd)
    hold(limit.team, 30, now=NOW + timedelta(days=30))

    noted = SpendAlert.objects.order_by("period", "threshold_percent").values_list("period__starts_at__month", "threshold_percent")
    assert list(noted) == [(11, 50), (11, 80), (11, 95), (11, 100), (12, 50)]


def test_a_lowered_limit_counts_from_the_next_hold_on():
    limit = SpendLimitFactory()
    running = hold(limit.team, 40).hold
    limit.amount = 10 * USD
    limit.save()

    with pytest.raises(services.LimitReached, match=r"limit of \$10.00 has \$0.00 left"):
        hold(limit.team, 1)
    settle(running, 7)
    hold(limit.team, 3)

    period = limit.periods.get()
    assert (period.ceiling, period.settled, period.held, period.overrun) == (10 * USD, 7 * USD, 3 * USD, 0)


def test_what_a_lowered_limit_leaves_above_itself_is_an_overrun_that_makes_no_room():
    limit = SpendLimitFactory()
    running = hold(limit.team, 40).hold
    limit.amount = 10 * USD
    limit.save()

    limit.periods.get().follow(limit)

    assert limit.periods.get().overrun == 30 * USD
    with pytest.raises(services.LimitReached):
        hold(limit.team, 0.01)
    settle(running, 9)
    assert limit.periods.get().overrun == 0
    with pytest.raises(services.LimitReached):
        hold(limit.team, 1.01)


def test_a_raised_limit_makes_room_at_once():
    limit = SpendLimitFactory()
    hold(limit.team, 48)
    limit.amount = 60 * USD
    limit.save()

    hold(limit.team, 12)

    assert limit.periods.get().left == 0


def test_the_database_itself_refuses_what_is_above_the_ceiling():
    limit = SpendLimitFactory()
    hold(limit.team, 48)

    with pytest.raises(IntegrityError, match="limit_period_under_ceiling"), transaction.atomic():
        limit.periods.update(held=51 * USD)
    with pytest.raises(IntegrityError, match="limit_period_overrun_makes_no_room"), transaction.atomic():
        limit.periods.update(overrun=4 * USD)


def test_a_limit_that_is_set_in_mid_month_knows_the_months_spending():
    team, other = TeamFactory(), TeamFactory()
    settle(hold(team, 30).hold, 25)
    running = hold(team, 10).hold
    hold(team, 5, now=NOW - timedelta(days=30))
    hold(team, 5, is_rehearsal=True)
    hold(other, 5)
    limit = SpendLimitFactory(team=team, amount=40 * USD)

    before = services.statuses(team=team, now=NOW)
    hold(team, 5)
    settle(running, 1)

    assert [(status.used, status.held, status.left) for status in before] == [(25 * USD, 10 * USD, 5 * USD)]
    period = limit.periods.get()
    assert (period.settled, period.held) == (26 * USD, 5 * USD)


def test_a_new_period_begins_with_nothing_spent_and_an_old_hold_stays_in_the_old_one():
    team = TeamFactory(time_zone="Asia/Tokyo")
    limit = SpendLimitFactory(team=team, period=LimitPeriodKind.DAILY)
    late = hold(team, 48, now=datetime(2026, 11, 23, 14, 59, tzinfo=UTC)).hold

    hold(team, 48, now=datetime(2026, 11, 23, 15, 0, tzinfo=UTC))
    settle(late, 40, now=datetime(2026, 11, 23, 16, 0, tzinfo=UTC))

    days = limit.periods.order_by("starts_at").values_list("starts_at__day", "settled", "held")
    assert list(days) == [(22, 40 * USD, 0), (23, 0, 48 * USD)]


def test_another_time_zone_begins_other_periods_that_know_what_was_spent_in_them():
    limit = SpendLimitFactory(period=LimitPeriodKind.DAILY)
    hold(limit.team, 30, now=datetime(2026, 11, 23, 12, tzinfo=UTC))
    Team.objects.filter(pk=limit.team.pk).update(time_zone="Asia/Tokyo")

    with pytest.raises(services.LimitReached):
        hold(limit.team, 30, now=datetime(2026, 11, 23, 14, tzinfo=UTC))


def test_statuses_show_limits_as_they_are_now_without_writing():
    member = MembershipFactory()
    limit = SpendLimitFactory(team=member.team)
    hold(member.team, 20)
    type(limit).objects.filter(pk=limit.pk).update(amount=15 * USD)
    SpendLimitFactory(team=member.team, scope=LimitScope.PERSON, user=member.user, action=LimitAction.WARN)
    SpendLimitFactory(team=member.team, is_enabled=False)

    shown = services.statuses(team=member.team, user=member.user, now=NOW)

    assert [(status.scope, status.limit, status.held, status.left, status.binding) for status in shown] == [
        ("team", 15 * USD, 20 * USD, 0, True),
        ("person", 50 * USD, 0, 50 * USD, False),
    ]
    assert LimitPeriod.objects.count() == 1


def test_less_than_nothing_cannot_be_held():
    with pytest.raises(ValueError, match="cannot be held"):
        hold(TeamFactory(), -1)


def test_a_hold_costs_one_query_more_for_each_limit(django_assert_num_queries):
    price_line = PriceLineFactory()
    for limits in (1, 3):
        team = TeamFactory()
        SpendLimitFactory.create_batch(limits, team=team)
        hold(team, 1, price_line=price_line)

        with django_assert_num_queries(13 + limits):  # one UPDATE for each period
            hold(team, 1, price_line=price_line)
