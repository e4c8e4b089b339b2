"""A job's log as an event stream: line by line from the beginning, until the job is over.

Source: what SimpleTuner's `jobs logs -f` reads: frames end in a blank line, and the first one with `event: done` ends it.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone

from accounts.callers import Caller, is_still_welcome
from jobs.models import Job, JobProgress
from jobs.services import logs, watching
from jobs.states import TERMINAL

POLL_SECONDS = 1.0
PING_AFTER = timedelta(seconds=15)
PIECE_CHARACTERS = 256 * 1024
# What ends a line for readers of an event stream; a progress bar writes many lines with carriage returns alone.
LINE_END = re.compile(r"\r\n|\n|\r")


class Follower:
    """Where one reader of a log stands. `step` reads what is new; it touches the database and gives the connection back."""

    def __init__(self, job: Job, caller: Caller, *, lines_seen: int = 0) -> None:
        self.job = job
        self.caller = caller
        self.is_over = False
        self.is_behind = False
        self._position = 0
        self._rest = ""
        self._line = 0
        self._skipped = lines_seen
        # Long ago, so that a reader hears something at once, also of a job that has not said a word.
        self._said_at = datetime.min.replace(tzinfo=UTC)

    def step(self) -> bytes:
        """The frames since the last step; none, a ping after a while, or the last one."""
        try:
            return self._step().encode()
        finally:
            # Between two steps a follower holds none of the pool's connections.
            if not connection.in_atomic_block:
                connection.close()

    def _step(self) -> str:
        now = timezone.now()
        is_quiet = now - self._said_at >= PING_AFTER
        # The state is read before the text: what a job that is over had to say is all there then.
        found = JobProgress.objects.filter(job=self.job, job__deleted_at=None).values_list("job__state", "length").first()
        if found is None or (is_quiet and not is_still_welcome(self.caller, now=now)):
            return self._end("stream_end")
        state, length = found
        watching.note(self.job, now=now)
        frames = self._frames(logs.read(self.job, start=self._position, limit=PIECE_CHARACTERS)) if length > self._position else ""
        self.is_behind = self._position < length
        if state in TERMINAL and not self.is_behind:
            return frames + self._last_line() + self._end(state)
        if frames or is_quiet:
            self._said_at = now
        return frames or (": ping\n\n" if is_quiet else "")

    def _frames(self, text: str) -> str:
        """The whole lines in what was held back and `text`; a line that goes on, or may end in two characters, waits."""
        self._position += len(text)
        text = self._rest + text
        held = text[-1:] if text.endswith("\r") else ""
        *lines, self._rest = LINE_END.split(text[: len(text) - len(held)])
        self._rest += held
        return "".join(self._frame(line) for line in lines)

    def _last_line(self) -> str:
        return "".join(self._frame(line) for line in LINE_END.split(self._rest) if line)

    def _frame(self, line: str) -> str:
        self._line += 1
        if self._line <= self._skipped:
            return ""
        # The client would take these words in a log for the end of the stream.
        return f"id: {self._line}\ndata: {line.replace('event: done', 'event:  done')}\n\n"

    def _end(self, word: str) -> str:
        self.is_over = True
        return f"event: done\ndata: {word}\n\n"


def response(request: HttpRequest, follower: Follower) -> StreamingHttpResponse:
    """The stream for either kind of server: a thread waits under WSGI, nobody does under ASGI."""
    pieces = _awaited(follower) if isinstance(request, ASGIRequest) else _waited(follower)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(pieces, content_type="text/event-stream", headers=headers)


def _waited(follower: Follower) -> Iterator[bytes]:
    while True:
        if frames := follower.step():
            yield frames
        if follower.is_over:
            return
        if not follower.is_behind:
            time.sleep(POLL_SECONDS)


async def _awaited(follower: Follower) -> AsyncIterator[bytes]:
    while True:
        if frames := await sync_to_async(follower.step)():
            yield frames
        if follower.is_over:
            return
        if not follower.is_behind:
            await asyncio.sleep(POLL_SECONDS)
