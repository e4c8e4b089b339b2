"""One-off top-ups: room for one period, with a reason and an end, and the limit stays as it is."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.callers import Caller, Staff
from accounts.errors import Conflict, InvalidInput, NotFound, NotPermitted
from accounts.models import AuditLine
from accounts.roles import Right, Role
from billing import alerts, documented, ledger, limits, services, top_ups, totals
from billing.models import LedgerLine, LimitAction, LimitPeriod, LimitScope, LineKind, SpendAlert, SpendLimit, TopUp
from tests.billing.factories import NOW, USD, PriceLineFactory, SpendLimitFactory, hold, race, settle
from tests.factories import MembershipFactory, UserFactory, make_token

pytestmark = pytest.mark.django_db


def caller_of(member, token=None):
    return Caller(team=member.team, user=member.user, role=member.role, rights=member.rights, token=token, address="203.0.113.5")


@pytest.fixture
def owner():
    return MembershipFactory()


@pytest.fixture
def limit(owner):
    return SpendLimitFactory(team=owner.team)


@pytest.fixture
def top_up(owner, limit):
    def make(usd=20, of=None, **options):
        options = {"reason": "release week", "now": NOW, **options}
        return top_ups.add(caller_of(owner), of or limit, amount=round(usd * USD), **options)

    return make


def standing(limit, now=NOW):
    return limits.standing(SpendLimit.objects.filter(pk=limit.pk), now=now)[limit]


def test_a_top_up_gives_room_and_leaves_the_limit_alone(limit, top_up):
    hold(limit.team, 48)

    top_up(20)

    hold(limit.team, 22)
    with pytest.raises(services.LimitReached, match=r"limit of \$50.00 plus \$20.00 topped up has \$0.00 left") as refused:
        hold(limit.team, 0.01)
    shown = refused.value.details["limits"][0]
    assert [shown[f"{name}_micros"] for name in ("limit", "top_up", "used", "held", "left")] == [50 * USD, 20 * USD, 0, 70 * USD, 0]
    assert (shown["top_up"], SpendLimit.objects.get().amount) == ("20.000000", 50 * USD)


def test_the_figures_of_a_limit_add_up_with_its_top_ups(limit, top_up):
    settle(hold(limit.team, 30).hold, 12.5)
    hold(limit.team, 4)
    top_up(20)
    top_up(5)

    now = standing(limit)

    assert now.limit + now.top_up == now.used + now.held + now.left
    assert (now.top_up, now.left) == (25 * USD, 58_500_000)


def test_the_next_period_begins_without_it(limit, top_up):
    top_up(20)

    with pytest.raises(services.LimitReached):
        hold(limit.team, 51, now=NOW + timedelta(days=30))
    assert standing(limit, NOW + timedelta(days=30)).top_up == 0


def test_it_leaves_a_line_in_the_ledger_and_in_the_audit_trail(owner, limit, top_up):
    made = top_up(20)

    line = LedgerLine.objects.get()
    assert (line.kind, line.amount, line.reason, line.made_by_id, line.reference) == (
        LineKind.TOP_UP, 20 * USD, "release week", owner.user.pk, f"top-up:{made.pk}",
    )  # fmt: skip
    assert ledger.totals(owner.team) == ledger.Totals(held=0, charged=0)
    told = AuditLine.objects.get(event_type="quota.topped_up")
    assert (told.team, told.actor, told.reason, told.target_id) == (owner.team, owner.user.username, "release week", str(limit.pk))
    assert (told.before, told.after["topped_up_micros"], told.after["amount_micros"]) == ({"topped_up_micros": 0}, 20 * USD, 20 * USD)


def test_one_that_expires_takes_its_room_away_and_what_was_used_is_an_overrun(limit, top_up):
    running = hold(limit.team, 48).hold
    top_up(20, expires_at=NOW + timedelta(hours=1))
    hold(limit.team, 20)
    later = NOW + timedelta(hours=1)

    before = standing(limit, later)
    with pytest.raises(services.LimitReached):
        hold(limit.team, 0.01, now=later)
    with transaction.atomic():
        (period,) = limits.lock_periods(SpendLimit.objects.all(), now=later)

    assert (before.top_up, before.left, before.held) == (0, 0, 68 * USD)
    assert (period.topped_up, period.overrun, period.left) == (0, 18 * USD, 0)
    assert TopUp.objects.get().taken_out_at == later
    settle(running, 1, now=later)
    period.refresh_from_db()
    assert (period.settled, period.held, period.overrun, period.left) == (1 * USD, 20 * USD, 0, 29 * USD)


def test_one_that_is_out_stays_out_also_for_a_clock_that_is_behind(limit, top_up):
    top_up(20, expires_at=NOW + timedelta(hours=1))
    hold(limit.team, 1, now=NOW + timedelta(hours=1))

    with pytest.raises(services.LimitReached):
        hold(limit.team, 60, now=NOW + timedelta(minutes=59))
    assert limit.periods.get().topped_up == 0


def test_a_limit_of_nothing_with_a_top_up_lets_that_much_pass_whatever_the_action(limit, top_up):
    SpendLimit.objects.update(amount=0, action=LimitAction.WARN)
    top_up(5)

    hold(limit.team, 5)

    with pytest.raises(services.LimitReached):
        hold(limit.team, 0.01)


def test_a_limit_that_is_lowered_keeps_its_top_up(limit, top_up):
    top_up(20)
    SpendLimit.objects.update(amount=10 * USD)

    hold(limit.team, 30)

    assert (standing(limit).left, limit.periods.get().overrun) == (0, 0)


def test_the_same_key_again_answers_the_first(limit, top_up):
    first, again = top_up(20, key="form-1"), top_up(20, key="form-1")

    assert (first, limit.periods.get().topped_up, LedgerLine.objects.count()) == (again, 20 * USD, 1)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"usd": 0}, "amount"),
        ({"usd": -1}, "amount"),
        ({"usd": 1_000_001}, "amount"),
        ({"reason": "  "}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"expires_at": NOW}, "expires_at"),
        ({"expires_at": datetime(2026, 12, 1, 0, 0, 1, tzinfo=UTC)}, "expires_at"),
    ],
)
def test_what_is_no_top_up_is_refused_and_leaves_nothing(top_up, options, field):
    with pytest.raises(InvalidInput) as refused:
        top_up(**options)

    assert (refused.value.field, TopUp.objects.count(), LedgerLine.objects.count()) == (field, 0, 0)


def test_the_end_of_the_period_is_the_latest_expiry(top_up):
    assert top_up(expires_at=datetime(2026, 12, 1, tzinfo=UTC)).ends_at == datetime(2026, 12, 1, tzinfo=UTC)
    assert top_up().ends_at == datetime(2026, 12, 1, tzinfo=UTC)


def test_a_limit_that_is_switched_off_takes_none(limit, top_up):
    SpendLimit.objects.update(is_enabled=False)

    with pytest.raises(Conflict, match="switched off"):
        top_up()


def test_only_owners_top_up_and_only_their_teams_limits(limit):
    lead, stranger = MembershipFactory(team=limit.team, role=Role.LEAD), MembershipFactory()

    with pytest.raises(NotPermitted, match=r"quota\.manage"):
        top_ups.add(caller_of(lead), limit, amount=1, reason="x", now=NOW)
    with pytest.raises(NotFound):
        top_ups.add(caller_of(stranger), limit, amount=1, reason="x", now=NOW)
    with pytest.raises(NotPermitted, match="owners of the team"):
        top_ups.add(Staff(user=UserFactory(is_staff=True), address=""), limit, amount=1, reason="x", now=NOW)


def test_a_token_cannot_give_itself_more(owner):
    token, _ = make_token(owner)
    limit = SpendLimitFactory(team=owner.team, scope=LimitScope.TOKEN, token=token)

    with pytest.raises(NotPermitted, match="A token cannot change"):
        top_ups.add(caller_of(owner, token), limit, amount=USD, reason="more", now=NOW)
    assert Right.MANAGE in caller_of(owner, token).rights


def test_limits_of_people_and_tokens_are_topped_up_alike(owner, limit, top_up):
    token, _ = make_token(owner)
    person = SpendLimitFactory(team=owner.team, scope=LimitScope.PERSON, user=owner.user, amount=1 * USD)
    bearer = SpendLimitFactory(team=owner.team, scope=LimitScope.TOKEN, token=token, amount=1 * USD)

    for each in (person, bearer):
        top_up(4, of=each)

    held = hold(owner.team, 5, user=owner.user, token=token)
    assert [(status.scope, status.left - 5 * USD) for status in held.limits] == [("team", 45 * USD), ("person", 0), ("token", 0)]


def test_staff_top_the_platforms_limit_up_which_stands_in_its_audit_trail_alone():
    limit = SpendLimitFactory(scope=LimitScope.PLATFORM, team=None)
    staff = UserFactory(is_staff=True)

    top_ups.add(Staff(user=staff, address="203.0.113.5"), limit, amount=20 * USD, reason="launch", now=NOW)

    line = AuditLine.objects.get(event_type="quota.topped_up")
    assert (line.team, line.actor, line.reason, line.address) == (None, staff.username, "launch", "203.0.113.5")
    assert (LedgerLine.objects.count(), limit.periods.get().room) == (0, 70 * USD)


def test_a_top_up_does_not_repeat_an_alert_and_one_that_expired_may_bring_the_next(limit, top_up):
    hold(limit.team, 40)
    top_up(50, expires_at=NOW + timedelta(hours=1))
    hold(limit.team, 8)
    within = list(SpendAlert.objects.order_by("threshold_percent").values_list("threshold_percent", "room"))
    assert standing(limit).alerted == 0

    alerts.look_again(now=NOW + timedelta(hours=2))

    assert within == [(50, 50 * USD), (80, 50 * USD)]
    assert list(SpendAlert.objects.order_by("threshold_percent").values_list("threshold_percent", "total", "room"))[2:] == [
        (95, 48 * USD, 50 * USD)
    ]
    assert standing(limit, NOW + timedelta(hours=2)).alerted == 95
    assert TopUp.objects.get().taken_out_at == NOW + timedelta(hours=2)


def test_the_documented_limit_counts_its_top_up(owner, top_up):
    documented.save(owner.team, documented.CostLimit(is_enabled=True, amount=50 * USD, action="block"))
    hold(owner.team, 45)
    top_up(50, of=SpendLimit.objects.get(name=documented.NAME))

    now = documented.standing(owner.team, now=NOW)

    assert (now.top_up, now.percent, now.is_warning, now.is_exceeded) == (50 * USD, 45.0, False, False)


def test_stored_top_ups_are_compared_and_rebuilt(limit, top_up):
    top_up(20)
    hold(limit.team, 60)
    LimitPeriod.objects.update(topped_up=15 * USD)

    found = totals.differences()
    totals.rebuild()

    assert [(each.field, each.stored, each.summed) for each in found] == [("topped_up", 15 * USD, 20 * USD)]
    assert (limit.periods.get().topped_up, totals.differences()) == (20 * USD, [])


def test_the_database_itself_refuses_what_is_above_limit_and_top_ups(limit, top_up):
    top_up(20)
    hold(limit.team, 70)

    for changes in ({"held": 71 * USD}, {"topped_up": 19 * USD}):
        with pytest.raises(IntegrityError, match="limit_period_under_ceiling"), transaction.atomic():
            limit.periods.update(**changes)
    with pytest.raises(IntegrityError, match="limit_period_overrun_makes_no_room"), transaction.atomic():
        limit.periods.update(overrun=1)
    with pytest.raises(IntegrityError, match="top_up_adds_something"), transaction.atomic():
        TopUp.objects.update(amount=0)


def test_a_hold_costs_one_query_more_where_a_limit_was_topped_up(limit, top_up, django_assert_num_queries):
    price_line = PriceLineFactory()
    hold(limit.team, 1, price_line=price_line)
    with CaptureQueriesContext(connection) as before:
        hold(limit.team, 1, price_line=price_line)
    top_up(20)

    with django_assert_num_queries(len(before) + 1):
        hold(limit.team, 1, price_line=price_line)


@pytest.mark.django_db(transaction=True)
def test_racing_holds_and_top_ups_stay_below_limit_and_top_ups(owner, limit, top_up):
    price_line = PriceLineFactory()

    def act(number):
        if number % 10 == 5:
            return top_up(4)
        return hold(limit.team, 4, price_line=price_line)

    outcomes = race(act, times=60)

    made = [each for each in outcomes if isinstance(each, TopUp)]
    taken = [each for each in outcomes if isinstance(each, services.Held)]
    assert [each for each in outcomes if not isinstance(each, TopUp | services.Held | services.LimitReached)] == []
    period = limit.periods.get()
    assert (len(made), period.topped_up, period.held, period.overrun) == (6, 24 * USD, len(taken) * 4 * USD, 0)
    assert 12 <= len(taken) <= 18
    assert totals.differences() == []
    assert ledger.verify(owner.team).valid
