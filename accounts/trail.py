"""Reading the audit trail: filters, figures, and a chain as a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Min, Q, QuerySet
from django.http import HttpRequest, StreamingHttpResponse

from accounts import audit, exports, streaming
from accounts.models import PLATFORM, AuditLine, Team

# How far a part of a diff is shown; the whole stands in the export.
SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Change:
    """One field before and after, as text; "" where it was not there."""

    name: str
    before: str
    after: str


def name_of(team: Team | None) -> str:
    """What a chain is called: the team's slug, or that of the platform."""
    return team.slug if team else PLATFORM


def lines(team: Team | None) -> QuerySet[AuditLine]:
    """A chain, newest first."""
    return AuditLine.objects.filter(team=team).order_by("-sequence")


def stats(team: Team | None, *, now: datetime) -> dict[str, Any]:
    """How many lines there are, of which events, how many of the last day, and the times of the first and the last."""
    found = AuditLine.objects.filter(team=team)
    figures = found.aggregate(
        total=Count("pk"), last_24h=Count("pk", filter=Q(at__gt=now - timedelta(hours=24))), first=Min("at"), last=Max("at")
    )
    by_type = found.order_by("event_type").values_list("event_type").annotate(count=Count("pk"))
    return {**figures, "by_type": dict(by_type)}


def records(team: Team | None) -> Iterator[exports.Record]:
    """The whole chain as an export tells it, in constant memory."""
    kept = audit.kept(team)
    yield exports.begin_record(name_of(team), kept.begins)
    for line in kept.lines:
        yield exports.line_record(line.as_link())
    if kept.ends is not None:
        yield exports.end_record(kept.ends)


def download(request: HttpRequest, team: Team | None, form: str) -> StreamingHttpResponse:
    """The whole chain as a file (`form` is jsonl or csv) that is never in memory as a whole."""
    pieces = exports.write(records(team), form)
    return streaming.download(request, pieces, name=f"{name_of(team)}-audit.{form}", content_type=exports.CONTENT_TYPES[form])


def changes(line: AuditLine) -> list[Change]:
    """What a line says of before and after, field by field, without what stayed."""
    names = dict.fromkeys([*line.before, *line.after])
    pairs = [(name, line.before.get(name), line.after.get(name)) for name in names]
    return [Change(name, _shown(before), _shown(after)) for name, before, after in pairs if before != after]


def _shown(value: Any) -> str:
    if value is None:
        return ""
    text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
