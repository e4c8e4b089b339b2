"""A job's log as people read it: its end on the job's page, page by page with numbers to link to, searched, and as a file.

Bars are shown as a terminal would have left them; numbers count every line, so that they mean the same everywhere.
"""

import zlib
from dataclasses import dataclass
from itertools import islice

from django.http import HttpRequest, StreamingHttpResponse

from accounts import streaming
from jobs.models import Job, JobProgress
from jobs.replicate.logs import Line, without_repaints
from jobs.services import logs

LINES_A_PAGE = 2000
# The job's page begins with so many, found in the last of the log.
LINES_OF_THE_END = 400
# One answer of the live page reads at most so many; the next one goes on.
LINES_AT_ONCE = 5000
MATCHES_A_PAGE = 500


@dataclass(frozen=True)
class Part:
    """Some lines. All but the last are as they will stay; the last one may yet go on, or be drawn anew."""

    lines: list[Line]
    seen: str = ""

    @property
    def settled(self) -> list[Line]:
        return self.lines[:-1]

    @property
    def last(self) -> list[Line]:
        return self.lines[-1:]

    @property
    def end(self) -> int:
        """The number behind which reading goes on: that of the line before the last."""
        return self.lines[-1].number - 1 if self.lines else 0

    @property
    def earlier(self) -> int:
        """The number of the line before the first; 0 for none."""
        return self.lines[0].number - 1 if self.lines else 0

    @property
    def digest(self) -> str:
        """Enough of the last line to see that it changed."""
        return f"{zlib.crc32(self.last[0].text.encode()):08x}-{self.last[0].number}" if self.last else ""

    @property
    def is_news(self) -> bool:
        return self.digest != self.seen


@dataclass(frozen=True)
class Page:
    """A page of the log: always the same numbers, however long it gets. `earlier` and `later` are lines of its neighbours."""

    lines: list[Line]
    earlier: int
    later: int


@dataclass(frozen=True)
class Matches:
    """Lines in which a text occurs, and whether there are more behind them."""

    lines: list[Line]
    is_more: bool

    @property
    def end(self) -> int:
        return self.lines[-1].number if self.lines else 0


def end_of(job: Job) -> Part:
    """The end of a log."""
    return Part(list(without_repaints(logs.last_lines(job, LINES_A_PAGE)))[-LINES_OF_THE_END:])


def news_of(job: Job, *, after: int, seen: str) -> Part:
    """What a log says behind a line, for whoever has seen a last line with this digest."""
    return Part(list(without_repaints(islice(logs.lines(job, after=after), LINES_AT_ONCE))), seen=seen)


def page_of(job: Job, *, line: int | None) -> Page:
    """The page with this line, the last one for None and for lines that there are none of."""
    whole = JobProgress.objects.filter(job=job).values_list("lines", flat=True).first() or 0
    # The line behind the last whole one may have begun.
    shown = max(1, whole) if not line else min(line, whole + 1)
    before = (shown - 1) // LINES_A_PAGE * LINES_A_PAGE
    found = list(islice(logs.lines(job, after=before), LINES_A_PAGE + 1))
    is_last = len(found) <= LINES_A_PAGE
    return Page(
        lines=list(without_repaints(found[:LINES_A_PAGE])),
        earlier=before,
        later=0 if is_last else found[-1].number,
    )


def search(job: Job, text: str, *, after: int) -> Matches:
    """The lines behind a number in which a text occurs."""
    found = list(islice(logs.search(job, text, after=after), MATCHES_A_PAGE + 1))
    return Matches(found[:MATCHES_A_PAGE], is_more=len(found) > MATCHES_A_PAGE)


def file(request: HttpRequest, job: Job) -> StreamingHttpResponse:
    """The whole log as it came, as an attachment that is never in memory as a whole."""
    pieces = (piece.encode() for piece in logs.pieces(job))
    return streaming.download(request, pieces, name=f"{job.job_id}.log", content_type="text/plain; charset=utf-8")
