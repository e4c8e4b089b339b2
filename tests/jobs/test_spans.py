"""The days that a report covers: words mean what the limits' calendar means, in the team's zone."""

from datetime import UTC, date, datetime

import pytest

from accounts.errors import InvalidInput
from accounts.models import Team
from jobs import spans

NOW = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)


def days(team, **given):
    span = spans.asked(given, team, now=NOW)
    return span.first.isoformat(), span.last.isoformat()


@pytest.mark.parametrize(
    ("zone", "first_weekday", "word", "expected"),
    [
        ("UTC", 0, "today", ("2026-03-01", "2026-03-01")),
        ("America/New_York", 0, "today", ("2026-02-28", "2026-02-28")),
        ("UTC", 0, "yesterday", ("2026-02-28", "2026-02-28")),
        ("UTC", 0, "this_week", ("2026-02-23", "2026-03-01")),
        ("UTC", 6, "this_week", ("2026-03-01", "2026-03-07")),
        ("UTC", 6, "last_week", ("2026-02-22", "2026-02-28")),
        ("UTC", 0, "this_month", ("2026-03-01", "2026-03-31")),
        ("America/New_York", 0, "this_month", ("2026-02-01", "2026-02-28")),
        ("UTC", 0, "last_month", ("2026-02-01", "2026-02-28")),
        ("UTC", 0, "", ("2026-03-01", "2026-03-31")),
    ],
)
def test_a_word_means_days_of_the_teams_calendar(zone, first_weekday, word, expected):
    assert days(Team(time_zone=zone, first_weekday=first_weekday), span=word) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"from": "2026-02-03", "to": "2026-02-04"}, ("2026-02-03", "2026-02-04")),
        ({"from": "2026-02-03"}, ("2026-02-03", "2026-03-01")),
        ({"from": "2026-05-03"}, ("2026-05-03", "2026-05-03")),
        ({"to": "2026-02-04"}, ("2026-02-01", "2026-02-04")),
        ({"from": "2026-02-03", "to": "2026-02-04", "span": "today"}, ("2026-02-03", "2026-02-04")),
    ],
)
def test_one_end_of_the_days_is_enough(given, expected):
    assert days(Team(), **given) == expected


@pytest.mark.parametrize("given", [{"from": "0001-01-01"}, {"to": "9999-12-31"}, {"from": "2026-13-01"}, {"to": "soon"}])
def test_what_is_no_day_is_refused(given):
    with pytest.raises(InvalidInput):
        days(Team(), **given)


def test_a_day_begins_and_ends_with_the_zones_midnight_over_a_clock_change():
    span = spans.asked({"from": "2026-03-29", "to": "2026-03-29"}, Team(time_zone="Europe/Madrid"), now=NOW)

    assert (span.starts_at, span.ends_at) == (datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC))
    assert span.days() == [date(2026, 3, 29)]
