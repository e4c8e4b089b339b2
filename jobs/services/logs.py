"""A job's log: appended by difference, read by cursor, and understood as it grows."""

from collections.abc import Iterator
from decimal import Decimal

from django.db.models import F
from django.db.models.functions import Length

from jobs.models import Job, JobProgress, LogChunk, SeriesPoint
from jobs.replicate import logs

# A chunk is at most this long, so that reading a page of a long log touches few rows and small ones.
CHUNK_CHARACTERS = 64 * 1024
# As much of the kept log is compared with the provider's, to see whether it still begins and goes on alike.
COMPARED_CHARACTERS = 256


def append(job: Job, text: str | None) -> int:
    """Add what is new in the provider's whole log so far, and return how many characters that was.

    The provider sends the whole log each time; only what lies behind our cursor is written. A text shorter
    than what we have is old news. Call it inside a transaction.
    """
    if not text:
        return 0
    progress = _locked(job)
    head = read(job, limit=COMPARED_CHARACTERS)
    end = read(job, start=max(0, progress.length - COMPARED_CHARACTERS))
    new = logs.new_text(progress.length, text, head=head, tail=end)
    if not new:
        return 0
    LogChunk.objects.bulk_create(
        LogChunk(job=job, start=progress.length + start, text=new[start : start + CHUNK_CHARACTERS])
        for start in range(0, len(new), CHUNK_CHARACTERS)
    )
    progress.length += len(new)
    progress.lines += new.count("\n")
    _understand(progress, new)
    progress.save()
    return len(new)


def _locked(job: Job) -> JobProgress:
    JobProgress.objects.get_or_create(job=job)
    return JobProgress.objects.select_for_update(no_key=True).get(job=job)


def _understand(progress: JobProgress, new: str) -> None:
    """Let the parser go on from where it was, and keep what it found."""
    parser = logs.ProgressParser.resume(progress.parser)
    points = parser.feed(new)
    progress.parser = parser.state
    progress.stage, progress.last_log = parser.stage, parser.last_log
    progress.step = parser.step if parser.step is not None else progress.step
    progress.total_steps = parser.total_steps or progress.total_steps
    progress.percent = Decimal(str(parser.percent)) if parser.percent is not None else progress.percent
    progress.loss, progress.learning_rate, progress.seconds_left = parser.loss, parser.learning_rate, parser.seconds_left
    SeriesPoint.objects.bulk_create(
        (SeriesPoint(job_id=progress.job_id, step=point.step, loss=point.loss, learning_rate=point.learning_rate) for point in points),
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
    behind = job.log_chunks.annotate(end=F("start") + Length("text")).filter(end__gt=start).order_by("start")
    for chunk in behind.iterator(chunk_size=20):
        piece = chunk.text[max(0, start - chunk.start) :]
        if left is not None:
            piece = piece[:left]
            left -= len(piece)
        yield piece
        if left == 0:
            return


def tail(job: Job, *, characters: int = 8192) -> str:
    """The end of the log."""
    progress = JobProgress.objects.filter(job=job).first()
    return read(job, start=max(0, progress.length - characters)) if progress else ""
