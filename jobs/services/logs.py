"""A job's log: appended by difference, read by character or by line, and understood as it grows."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from jobs import series
from jobs.models import Job, JobProgress, LogChunk, SeriesPoint
from jobs.replicate import logs, signs
from jobs.replicate.logs import Line, Lines, Point

# A chunk is at most this long, so that reading a page of a long log touches few rows and small ones.
CHUNK_CHARACTERS = 64 * 1024
# As much of the kept log is compared with the provider's, to see whether it still begins and goes on alike.
COMPARED_CHARACTERS = 256
LONGEST_SEARCH = 200


@dataclass(frozen=True, kw_only=True)
class Figures:
    """How far a training is, by another word than the log's. None and "" for what is not said."""

    stage: str = ""
    step: int | None = None
    total_steps: int | None = None
    loss: float | None = None
    learning_rate: float | None = None
    seconds_left: int | None = None


def append(job: Job, text: str | None) -> int:
    """Add what is new in the provider's whole log so far, and return how many characters that was.

    The provider sends the whole log each time; only what lies behind our cursor is written. A text shorter
    than what we have is old news. Call it inside a transaction.
    """
    if not text:
        return 0
    progress = _locked(job)
    head = read(job, limit=COMPARED_CHARACTERS)
    end = read(job, start=max(0, progress.length - COMPARED_CHARACTERS), limit=COMPARED_CHARACTERS)
    new = logs.new_text(progress.length, text, head=head, tail=end)
    if not new:
        return 0
    chunks = list(_chunks(progress, new, is_held=end.endswith("\r")))
    LogChunk.objects.bulk_create(chunks)
    _note_signs(progress, unended=logs.unended(end), new=new)
    progress.length += len(new)
    progress.lines = chunks[-1].lines + logs.whole_lines(chunks[-1].text)
    progress.grew_at = timezone.now()
    _understand(progress, new)
    progress.save()
    return len(new)


def _locked(job: Job) -> JobProgress:
    return JobProgress.objects.select_for_update(no_key=True).get(job=job)


def _note_signs(progress: JobProgress, *, unended: str, new: str) -> None:
    """Keep the lines that would tell why the run failed, so that nobody has to look for them in the whole log."""
    found = signs.found_in(unended + new, first_line=progress.lines + 1, start=progress.length - len(unended))
    if found:
        progress.signs = progress.signs | signs.kept(found)


def _chunks(progress: JobProgress, new: str, *, is_held: bool) -> Iterator[LogChunk]:
    """The new text in rows, each with the lines before it. A carriage return before one has ended a line unless a line feed follows."""
    lines = progress.lines
    for start in range(0, len(new), CHUNK_CHARACTERS):
        piece = new[start : start + CHUNK_CHARACTERS]
        lines += is_held and not piece.startswith("\n")
        yield LogChunk(job_id=progress.job_id, start=progress.length + start, lines=lines, text=piece)
        lines, is_held = lines + logs.whole_lines(piece), piece.endswith("\r")


def _understand(progress: JobProgress, new: str) -> None:
    """Let the parser go on from where it was."""
    parser = logs.ProgressParser.resume(progress.parser)
    _keep(progress, parser, parser.feed(new))


def take_figures(job: Job, told: Figures) -> bool:
    """Take over what a trainer says of its progress beside its log, and say whether it is news. What the log knew before stays.

    The parser goes on from there, so that log and trainer may take turns. Call it inside a transaction.
    """
    progress = _locked(job)
    parser = logs.ProgressParser.resume(progress.parser)
    step, total = told.step, told.total_steps or parser.total_steps
    if step is not None and ((parser.step is not None and step < parser.step) or (total is not None and step > total)):
        return False
    parser.stage = told.stage or parser.stage
    parser.step, parser.total_steps = step if step is not None else parser.step, total
    parser.loss = told.loss if told.loss is not None else parser.loss
    parser.learning_rate = told.learning_rate if told.learning_rate is not None else parser.learning_rate
    parser.seconds_left = told.seconds_left if told.seconds_left is not None else parser.seconds_left
    points = [Point(step, told.loss, told.learning_rate)] if step is not None and told.loss is not None else []
    _keep(progress, parser, points)
    progress.save()
    return True


def _keep(progress: JobProgress, parser: logs.ProgressParser, points: list[Point]) -> None:
    progress.parser = parser.state
    progress.stage, progress.last_log = parser.stage, parser.last_log
    progress.step = parser.step if parser.step is not None else progress.step
    progress.total_steps = parser.total_steps or progress.total_steps
    progress.percent = Decimal(str(parser.percent)) if parser.percent is not None else progress.percent
    progress.loss, progress.learning_rate, progress.seconds_left = parser.loss, parser.learning_rate, parser.seconds_left
    if points:
        _extend_series(progress, points)


def _extend_series(progress: JobProgress, points: list[Point]) -> None:
    """Take new points into the series, and thin out what that makes too many: only the stretches that they fall into change.

    Where the run has become so long that stretches merge, all of them do.
    """
    width = series.width(points[-1].step)
    stored = SeriesPoint.objects.filter(job_id=progress.job_id)
    if width == series.width(stored.order_by("-step").values_list("step", flat=True).first() or 0):
        stored = stored.filter(step__gte=points[0].step // width * width)
    known = {row.step: Point(row.step, row.loss, row.learning_rate) for row in stored}
    kept = series.thinned({**known, **{point.step: point for point in points}}.values(), width=width)
    if dropped := known.keys() - {point.step for point in kept}:
        stored.filter(step__in=dropped).delete()
    SeriesPoint.objects.bulk_create(
        (
            SeriesPoint(job_id=progress.job_id, step=point.step, loss=point.loss, learning_rate=point.learning_rate)
            for point in kept
            if known.get(point.step) != point
        ),
        update_conflicts=True,
        unique_fields=["job", "step"],
        update_fields=["loss", "learning_rate"],
    )


def read(job: Job, *, start: int = 0, limit: int | None = None) -> str:
    """The log from character `start` on, at most `limit` characters of it."""
    return "".join(pieces(job, start=start, limit=limit))


def pieces(job: Job, *, start: int = 0, limit: int | None = None) -> Iterator[str]:
    """The same, piece by piece, for logs too long to hold in memory."""
    left = limit
    holding = job.log_chunks.filter(start__lte=start).order_by("-start").values("start")[:1]
    behind = job.log_chunks.filter(start__gte=Coalesce(Subquery(holding), 0)).order_by("start")
    # What fits into the limit is fetched at once, which spares the server a cursor.
    for chunk in behind.iterator(chunk_size=20) if limit is None else behind.filter(start__lt=start + limit):
        piece = chunk.text[max(0, start - chunk.start) :]
        if left is not None:
            piece = piece[:left]
            left -= len(piece)
        yield piece
        if left == 0:
            return


@dataclass(frozen=True)
class Place:
    """Where reading may begin to get all lines behind a number: the character, and how many lines end before it."""

    start: int = 0
    lines: int = 0


def place_of(job: Job, *, after: int) -> Place:
    """A place at or before the beginning of line `after` + 1, and near it: that line begins where line `after` ends."""
    chunk = job.log_chunks.filter(lines__lt=after).order_by("-start").values_list("start", "lines").first() if after > 0 else None
    return Place(*chunk) if chunk else Place()


def lines(job: Job, *, after: int = 0) -> Iterator[Line]:
    """The lines behind number `after`, the last one even if nothing ends it yet. They are read as they are asked for."""
    place = place_of(job, after=after)
    cutter = Lines(place.lines)
    for piece in pieces(job, start=place.start):
        yield from (line for line in cutter.feed(piece) if line.number > after)
    yield from (line for line in cutter.finish() if line.number > after)


def last_lines(job: Job, count: int) -> list[Line]:
    """The last lines, at most so many."""
    known = JobProgress.objects.filter(job=job).values_list("lines", flat=True).first() or 0
    # The text may have grown since it was asked how long it is.
    return list(deque(lines(job, after=max(0, known - count)), maxlen=count))


def search(job: Job, text: str, *, after: int = 0) -> Iterator[Line]:
    """The lines behind number `after` in which a text occurs, in capitals or not; none for an empty text."""
    wanted = text.casefold()
    return (line for line in lines(job, after=after) if wanted and wanted in line.text.casefold())


def joined(found: Iterable[Line]) -> str:
    """Lines as a text again, each with a line feed behind it."""
    return "".join(f"{line.text}\n" for line in found)
