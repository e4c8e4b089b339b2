"""Spans of days over which spending is reported: whole days in the team's zone. Pure: values in, values out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

from accounts.errors import InvalidInput
from accounts.models import Team
from billing.periods import beginning, bounds

DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)
# A year, leap days and all.
MOST_DAYS = 366


class Word(TextChoices):
    """The spans that have a name."""

    TODAY = "today", _("Today")
    YESTERDAY = "yesterday", _("Yesterday")
    THIS_WEEK = "this_week", _("This week")
    LAST_WEEK = "last_week", _("Last week")
    THIS_MONTH = "this_month", _("This month")
    LAST_MONTH = "last_month", _("Last month")


KINDS = {
    Word.TODAY: "daily",
    Word.YESTERDAY: "daily",
    Word.THIS_WEEK: "weekly",
    Word.LAST_WEEK: "weekly",
    Word.THIS_MONTH: "monthly",
    Word.LAST_MONTH: "monthly",
}
FORMER = {Word.YESTERDAY, Word.LAST_WEEK, Word.LAST_MONTH}


@dataclass(frozen=True)
class Span:
    """The days from `first` to `last`, both of them in it, as a team's zone counts them. `word` is its name if it has one."""

    first: date
    last: date
    time_zone: str
    word: str = ""

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def starts_at(self) -> datetime:
        return beginning(self.first, self.zone)

    @property
    def ends_at(self) -> datetime:
        """The first instant after it."""
        return beginning(self.last + DAY, self.zone)

    def days(self) -> list[date]:
        return [self.first + DAY * number for number in range((self.last - self.first).days + 1)]

    def nearest(self, day: date) -> date:
        """The day in the span that a date stands for: where a clock goes back over midnight, an hour bears the date of the day before."""
        return min(max(day, self.first), self.last)


def named(word: Word, team: Team, *, now: datetime) -> Span:
    """The span that a word means now, by the calendar of the team's limits."""
    calendar = {"time_zone": team.time_zone, "first_weekday": team.first_weekday}
    starts_at, ends_at = bounds(KINDS[word], now, **calendar)  # type: ignore[arg-type]
    if word in FORMER:
        starts_at, ends_at = bounds(KINDS[word], starts_at - INSTANT, **calendar)  # type: ignore[arg-type]
    zone = ZoneInfo(team.time_zone)
    first, last = starts_at.astimezone(zone).date(), (ends_at - INSTANT).astimezone(zone).date()
    return Span(first=first, last=last, time_zone=team.time_zone, word=word.value)


def month_of(day: date, time_zone: str) -> Span:
    """The calendar month that a day lies in."""
    first = day.replace(day=1)
    return Span(first=first, last=(first + 31 * DAY).replace(day=1) - DAY, time_zone=time_zone)


def asked(given: Mapping[str, str], team: Team, *, now: datetime) -> Span:
    """The span that `from` and `to` (both in it), else `span`, say; this month where nothing is said.

    Without `to` it ends today, without `from` it begins with the month of its end. Raises InvalidInput.
    """
    if not given.get("from") and not given.get("to"):
        return named(_word(given.get("span") or Word.THIS_MONTH), team, now=now)
    first, last = _day(given, "from"), _day(given, "to")
    if last is None:
        today = now.astimezone(ZoneInfo(team.time_zone)).date()
        last = max(today, first or today)
    first = first or last.replace(day=1)
    if first > last:
        raise InvalidInput(f"from ({first}) must not lie after to ({last}).", field="from")
    if (last - first).days >= MOST_DAYS:
        raise InvalidInput(f"A report covers at most {MOST_DAYS} days.", field="from", hint="Ask for one year after the other.")
    return Span(first=first, last=last, time_zone=team.time_zone)


def _word(text: str) -> Word:
    if text not in Word.values:
        raise InvalidInput(f"Unknown span '{text}'. Valid ones: {', '.join(Word.values)}.", field="span")
    return Word(text)


def _day(given: Mapping[str, str], name: str) -> date | None:
    text = given.get(name, "")
    if not text:
        return None
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = date.min
    # Far from the ends of the calendar, which has no day before or after.
    if not 2000 <= found.year <= 2199:
        raise InvalidInput(f"{name} must be a date like 2026-01-31, between the years 2000 and 2199.", field=name)
    return found
