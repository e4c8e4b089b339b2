from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.models import LimitPeriodKind
from billing.periods import bounds
from tests.thoroughness import FULL

ZONES = ["Europe/Madrid", "America/Santiago", "Asia/Kolkata", "Asia/Tokyo", "Pacific/Auckland"]
# Zones that change their clocks over midnight, by half an hour, or that once skipped a day.
ODD_ZONES = ["America/Havana", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Cairo", "Asia/Beirut", "America/Nuuk"]

kinds = st.sampled_from(LimitPeriodKind.values)
weekdays = st.integers(0, 6)
moments = st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone


def assert_parts_time(kind, moment, zone, first_weekday):
    """The period holds the moment, and all that lies in it names the same one: so each instant is in exactly one."""
    rules = {"time_zone": zone, "first_weekday": first_weekday}

    starts_at, ends_at = bounds(kind, moment, **rules)

    assert starts_at <= moment < ends_at
    assert bounds(kind, starts_at, **rules) == (starts_at, ends_at)
    assert bounds(kind, ends_at - timedelta(microseconds=1), **rules) == (starts_at, ends_at)
    assert bounds(kind, ends_at, **rules)[0] == ends_at
    assert bounds(kind, starts_at - timedelta(microseconds=1), **rules)[1] == starts_at


@settings(max_examples=5000 if FULL else 300, deadline=None)
@given(kind=kinds, moment=moments, zone=st.sampled_from(ZONES + ODD_ZONES), first_weekday=weekdays)
def test_every_instant_lies_in_exactly_one_period(kind, moment, zone, first_weekday):
    assert_parts_time(kind, moment, zone, first_weekday)


def clock_changes(zone, year):
    """The instants, to the minute, at which a zone's offset from UTC changes in a year."""
    moment, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    changes = []
    while moment < end:
        after = moment + timedelta(hours=6)
        if moment.astimezone(ZoneInfo(zone)).utcoffset() != after.astimezone(ZoneInfo(zone)).utcoffset():
            while moment.astimezone(ZoneInfo(zone)).utcoffset() == (moment + timedelta(minutes=1)).astimezone(ZoneInfo(zone)).utcoffset():
                moment += timedelta(minutes=1)
            changes.append(moment + timedelta(minutes=1))
        moment = after
    return changes


@pytest.mark.parametrize("zone", ["Europe/Madrid", "America/Santiago", "Pacific/Auckland"])
def test_the_hours_around_both_clock_changes_lie_in_exactly_one_period_each(zone):
    changes = clock_changes(zone, 2026)

    assert len(changes) == 2
    for change in changes:
        for minutes in range(-26 * 60, 26 * 60, 15):
            for kind in LimitPeriodKind.values:
                assert_parts_time(kind, change + timedelta(minutes=minutes), zone, change.weekday())


CHANGES = [(zone, change) for zone in ("Europe/Madrid", "America/Santiago", "Pacific/Auckland") for change in clock_changes(zone, 2026)]
# These two change no clocks; the days of the others' changes are days like any other there.
CHANGES += [(zone, change) for zone in ("Asia/Kolkata", "Asia/Tokyo") for _, change in CHANGES[:6]]


@settings(max_examples=5000 if FULL else 300, deadline=None)
@given(kind=kinds, at=st.sampled_from(CHANGES), beside=st.timedeltas(timedelta(days=-32), timedelta(days=32)), first_weekday=weekdays)
def test_every_instant_around_a_clock_change_lies_in_exactly_one_period(kind, at, beside, first_weekday):
    zone, change = at

    assert_parts_time(kind, change + beside, zone, first_weekday)


@pytest.mark.parametrize(
    ("zone", "local_day", "hours"),
    [
        ("Europe/Madrid", datetime(2026, 3, 29, 12), 23),  # noqa: DTZ001 - local noon
        ("Europe/Madrid", datetime(2026, 10, 25, 12), 25),  # noqa: DTZ001
        ("America/Santiago", datetime(2026, 9, 6, 12), 23),  # noqa: DTZ001 - its midnight does not exist
        ("America/Santiago", datetime(2026, 4, 4, 12), 25),  # noqa: DTZ001 - its last hour comes twice
        ("Pacific/Auckland", datetime(2026, 9, 27, 12), 23),  # noqa: DTZ001
        ("Pacific/Auckland", datetime(2026, 4, 5, 12), 25),  # noqa: DTZ001
        ("Asia/Kolkata", datetime(2026, 3, 29, 12), 24),  # noqa: DTZ001
        ("Asia/Tokyo", datetime(2026, 3, 29, 12), 24),  # noqa: DTZ001
    ],
)
def test_a_day_is_as_long_as_the_clocks_make_it(zone, local_day, hours):
    starts_at, ends_at = bounds("daily", local_day.replace(tzinfo=ZoneInfo(zone)), time_zone=zone, first_weekday=0)

    assert ends_at - starts_at == timedelta(hours=hours)


@pytest.mark.parametrize(("first_weekday", "starts_on"), [(0, 23), (6, 22), (5, 21), (1, 17), (2, 18)])
def test_a_week_begins_on_the_chosen_day(first_weekday, starts_on):
    monday = datetime(2026, 11, 23, 12, tzinfo=UTC)

    starts_at, ends_at = bounds("weekly", monday, time_zone="UTC", first_weekday=first_weekday)

    assert starts_at == datetime(2026, 11, starts_on, tzinfo=UTC)
    assert ends_at - starts_at == timedelta(days=7)


def test_a_month_begins_at_midnight_in_the_zone():
    moment = datetime(2026, 11, 30, 20, tzinfo=UTC)  # December already in Tokyo

    starts_at, ends_at = bounds("monthly", moment, time_zone="Asia/Tokyo", first_weekday=0)

    assert (starts_at, ends_at) == (datetime(2026, 11, 30, 15, tzinfo=UTC), datetime(2026, 12, 31, 15, tzinfo=UTC))


def test_an_unknown_kind_of_period_is_a_fault():
    with pytest.raises(ValueError, match="Unknown period: 'yearly'"):
        bounds("yearly", datetime(2026, 11, 23, tzinfo=UTC), time_zone="UTC", first_weekday=0)
