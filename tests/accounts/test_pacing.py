"""Pace: what is let through, when there is room again, and that many at once are counted one by one."""

import contextlib
from datetime import UTC, datetime, timedelta
from math import floor

import pytest
from django.db import connection
from django.test import RequestFactory
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts import pacing
from accounts.models import AuditLine, PaceCount
from accounts.pacing import Pace
from jobs.services import tidying
from tests.billing.factories import race
from tests.factories import TeamFactory

# Divisible by 60 and 3600: a window begins here.
BEGINNING = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)


def later(seconds):
    return BEGINNING + timedelta(seconds=seconds)


TEN_A_MINUTE = Pace(10, 60)


def let_through(times, *, at, pace=TEN_A_MINUTE, key="a"):
    """How many of so many calls at one time get through."""
    return sum(not pacing.count(key, pace, now=later(at)).is_exceeded for _ in range(times))


@pytest.mark.django_db
def test_a_call_says_how_many_are_left_and_when_counting_begins_anew():
    first, second = (pacing.count("a", Pace(2, 60), now=later(15.5)) for _ in range(2))

    assert (first.limit, first.remaining, first.is_exceeded, first.retry_after) == (2, 1, False, 0)
    assert (second.remaining, second.is_exceeded) == (0, False)
    assert first.resets_at == second.resets_at == later(60).timestamp()


@pytest.mark.django_db
def test_one_call_too_many_is_refused_and_told_when_there_is_room():
    let_through(10, at=20)

    refused = [pacing.count("a", TEN_A_MINUTE, now=later(20)) for _ in range(2)]

    # In the window that begins in 40 seconds ten weigh ten until a twentieth of it is over.
    assert [(standing.is_exceeded, standing.remaining, standing.retry_after) for standing in refused] == [(True, 0, 44)] * 2
    assert refused[0].resets_at == later(64).timestamp()
    assert [standing.is_first for standing in refused] == [True, False]


@pytest.mark.django_db
def test_the_window_before_weighs_by_what_the_sliding_window_still_covers_of_it():
    let_through(10, at=0)

    assert let_through(20, at=60 + 6) == 1
    assert let_through(20, at=60 + 30) == 4
    assert let_through(20, at=60 + 59.9) == 5


@pytest.mark.django_db
def test_two_windows_later_nothing_is_left_of_it():
    let_through(10, at=0)

    assert let_through(20, at=120) == 10


@pytest.mark.django_db
@pytest.mark.parametrize("calls", [1, 3, 10])
def test_whoever_keeps_knocking_gets_through_at_exactly_the_pace_allowed(calls):
    passed = [let_through(1, at=step / 10 + 0.05, pace=Pace(calls, 10)) for step in range(600)]

    assert [sum(passed[begin : begin + 100]) for begin in range(0, 600, 100)] == [calls] * 6


@pytest.mark.django_db
def test_keys_and_windows_of_other_lengths_are_counted_apart():
    let_through(10, at=0)

    assert let_through(1, at=0, key="b") == 1
    assert let_through(1, at=0, pace=Pace(10, 30)) == 1
    assert let_through(1, at=0) == 0


@pytest.mark.django_db
def test_a_limit_that_was_lowered_holds_at_once():
    let_through(10, at=0)

    assert let_through(1, at=1, pace=Pace(3, 60)) == 0
    assert let_through(1, at=61, pace=Pace(3, 60)) == 0


@given(
    limit=st.integers(1, 50),
    seconds=st.integers(1, 3_600),
    before=st.integers(0, 60),
    calls=st.integers(0, 60),
    share=st.floats(0, 0.999),
)
def test_whoever_waits_as_long_as_told_finds_room(limit, seconds, before, calls, share):
    passed = share * seconds

    def has_room(passed):
        overlap = 1 - passed / seconds
        return calls + floor(before * overlap + 0.5) < limit

    if has_room(passed):
        return
    wait = pacing._seconds_until_room(Pace(limit, seconds), before=before, calls=calls, passed=passed)

    assert wait >= 1
    windows, passed_then = divmod(passed + wait, seconds)
    if windows == 0:
        assert has_room(passed_then)
    elif windows == 1:
        assert floor(calls * (1 - passed_then / seconds) + 0.5) < limit
    else:
        assert windows == 2 or seconds == 1


@pytest.mark.django_db
def test_of_the_caller_nothing_is_kept():
    pacing.count("api address:203.0.113.9", TEN_A_MINUTE, now=BEGINNING)

    with connection.cursor() as cursor:
        cursor.execute("SELECT c::text FROM accounts_pacecount c")
        rows = [row for (row,) in cursor.fetchall()]
    assert len(rows) == 1
    assert "203.0.113.9" not in rows[0]
    assert len(PaceCount.objects.get().key) == 64


@pytest.mark.django_db
def test_the_table_may_be_lost_at_a_crash():
    with connection.cursor() as cursor:
        cursor.execute("SELECT relpersistence FROM pg_class WHERE relname = 'accounts_pacecount'")

        assert cursor.fetchone() == ("u",)


@pytest.mark.django_db
def test_one_call_is_one_statement(django_assert_num_queries):
    with django_assert_num_queries(1):
        pacing.count("a", TEN_A_MINUTE, now=BEGINNING)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("before", [0, 10])
def test_of_forty_at_once_exactly_as_many_get_through_as_may(before):
    let_through(before, at=0, pace=Pace(25, 60))

    outcomes = race(lambda number: pacing.count("a", Pace(25, 60), now=later(90 if before else 0)), times=40)

    admitted = [outcome for outcome in outcomes if not outcome.is_exceeded]
    assert len(outcomes) == 40
    assert len(admitted) == 25 - before // 2
    assert sorted(outcome.remaining for outcome in admitted) == list(range(25 - before // 2))
    assert sum(outcome.is_first for outcome in outcomes) == 1


@pytest.mark.django_db
def test_old_counts_are_tidied_away_and_those_that_a_window_looks_at_stay(time_machine):
    now = datetime(2027, 3, 1, 12, 30, tzinfo=UTC)
    time_machine.move_to(now, tick=False)
    for pace, age in [(Pace(5, 60), 121), (Pace(5, 60), 61), (Pace(5, 3_600), 3_600), (Pace(5, 3_600), 7_200)]:
        pacing.count(f"{age}", pace, now=now - timedelta(seconds=age))

    tidying.tidy()

    assert PaceCount.objects.count() == 2
    assert PaceCount.objects.filter(forget_at__lt=now).count() == 0


# --- Spending -----------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_first_refusal_of_each_window_leaves_a_line_in_the_teams_chain(settings):
    settings.RATE_LIMIT_CALLS = 1
    team = TeamFactory()
    request = RequestFactory().get("/", REMOTE_ADDR="203.0.113.9")

    for at in [0, 1, 2, 3, 120, 121, 122]:
        with contextlib.suppress(pacing.TooManyRequests):
            pacing.spend(request, "a", Pace(1, 60), now=later(at), what="storage", team=team)

    lines = AuditLine.objects.filter(event_type="security.rate_limited")
    assert [(line.team, line.address, line.target_id, line.action) for line in lines] == [
        (team, "203.0.113.9", "storage", "Turned a caller away: more than 1 requests in 60 seconds (storage)")
    ] * 2


@pytest.mark.django_db
def test_of_several_counts_the_tightest_is_shown(settings):
    settings.RATE_LIMIT_CALLS = 1
    request = RequestFactory().get("/")

    for limit in [50, 3, 100]:
        pacing.spend(request, f"{limit}", Pace(limit, 60), now=timezone.now(), what="api")

    assert (request.pace.limit, request.pace.remaining) == (3, 2)


@pytest.mark.parametrize(
    ("one", "other", "are_the_same"),
    [
        ("203.0.113.9", "203.0.113.10", False),
        ("::ffff:203.0.113.9", "203.0.113.9", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
    ],
)
def test_an_address_counts_alone_and_on_ipv6_with_its_network(one, other, are_the_same):
    first, second = (pacing.stranger(RequestFactory().get("/", REMOTE_ADDR=address)) for address in (one, other))

    assert (first == second) is are_the_same
