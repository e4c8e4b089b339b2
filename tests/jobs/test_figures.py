"""Money, durations and moments as people read them."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import translation

from accounts.models import Team
from accounts.templatetags.portal import moment
from jobs.templatetags.figures import dollars, duration, money

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("micros", "english", "spanish"),
    [
        (4_000_000, "$4.00", "4,00 US$"),
        (0, "$0.00", "0,00 US$"),
        (1_234_565_000, "$1,234.56", "1.234,56 US$"),
        (4_250, "$0.0042", "0,0042 US$"),
        (-2_500_000, "-$2.50", "-2,50 US$"),
        (None, "—", "—"),
    ],
)
def test_money_is_written_in_the_persons_language(micros, english, spanish):
    with translation.override("en"):
        in_english = dollars(micros)
    with translation.override("es"):
        in_spanish = dollars(micros)

    assert (in_english, in_spanish.replace("\xa0", " ")) == (english, spanish)


def test_the_exact_figure_is_there_on_hover():
    assert money(1_234_567) == '<data class="number" value="1.234567" title="1.234567 USD">$1.23</data>'


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (1800, "30 min"), (1861, "31 min"), (7200, "2 h"), (7380, "2 h 3 min"), (None, "—")],
)
def test_durations_are_as_exact_as_people_want_them(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("language", "distance", "words"),
    [
        ("en", timedelta(seconds=-30), "just now"),
        ("en", timedelta(minutes=-5), "5 minutes ago"),
        ("en", timedelta(days=7), "in 1 week"),
        ("es", timedelta(minutes=-5), "hace 5 minutos"),
        ("es", timedelta(days=7), "dentro de 1 semana"),
    ],
)
def test_moments_are_said_from_now(time_machine, language, distance, words):
    time_machine.move_to(NOW, tick=False)

    with translation.override(language):
        html = moment(NOW + distance, Team(time_zone="UTC"))

    assert html.endswith(f">{words}</time>")


def test_where_there_is_little_room_moments_are_short(time_machine):
    time_machine.move_to(NOW, tick=False)

    words = []
    for language in ("en", "es"):
        with translation.override(language):
            words.append(moment(NOW - timedelta(minutes=5), Team(time_zone="UTC"), "short").split(">")[1])

    assert words == ["5 min. ago</time", "hace 5 min</time"]


def test_the_exact_time_is_the_teams_with_its_zone(time_machine):
    time_machine.move_to(NOW, tick=False)
    team = Team(time_zone="Europe/Madrid")

    assert [moment(at, team, "exact").split(">")[1] for at in (NOW, NOW - timedelta(days=400))] == [
        "Nov 23, 13:00 CET</time",
        "Oct 19, 2025, 14:00 CEST</time",
    ]
