"""Calendar periods. Pure functions over zones: every instant lies in exactly one day, week and month."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)


def bounds(kind: str, moment: datetime, *, time_zone: str, first_weekday: int) -> tuple[datetime, datetime]:
    """The period that `moment` lies in, as two UTC instants: the first in it, and the first after it.

    `kind` is daily, weekly or monthly; `first_weekday` is 0 for Monday to 6 for Sunday. A day begins at its
    first midnight, or where a clock change skips midnight, with the change.

    Raises ZoneInfoNotFoundError for an unknown zone, ValueError for an unknown kind.
    """
    zone = ZoneInfo(time_zone)
    first = _first_day(kind, moment.astimezone(zone).date(), first_weekday)
    # Where the clock went back over midnight, a date comes twice; the beginnings decide, not the date.
    if moment < beginning(first, zone):
        first = _first_day(kind, first - DAY, first_weekday)
    elif moment >= beginning(_next_first_day(kind, first), zone):
        first = _next_first_day(kind, first)
    return beginning(first, zone), beginning(_next_first_day(kind, first), zone)


def _first_day(kind: str, day: date, first_weekday: int) -> date:
    match kind:
        case "daily":
            return day
        case "weekly":
            return day - DAY * ((day.weekday() - first_weekday) % 7)
        case "monthly":
            return day.replace(day=1)
    raise ValueError(f"Unknown period: {kind!r}.")


def _next_first_day(kind: str, first: date) -> date:
    if kind == "monthly":
        return (first + 31 * DAY).replace(day=1)
    return first + (7 * DAY if kind == "weekly" else DAY)


def beginning(day: date, zone: ZoneInfo) -> datetime:
    """The UTC instant at which a day begins in a zone."""
    return datetime.combine(day, time.min, tzinfo=zone).astimezone(UTC)
