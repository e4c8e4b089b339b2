"""Dates and times as they stand in addresses: one meaning for the API's lists and the pages'."""

from datetime import datetime, time

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime


def read(text: str) -> datetime | None:
    """A date (its first moment) or a time, in UTC unless it says another zone; None for what is neither."""
    try:
        # An address turns the plus of a zone into a blank.
        found = parse_datetime(text.replace(" ", "+"))
        if found is None:
            day = parse_date(text)
            found = datetime.combine(day, time.min) if day else None
        return found if found is None or timezone.is_aware(found) else timezone.make_aware(found)
    except (ValueError, OverflowError):
        return None
