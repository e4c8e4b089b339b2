"""A job's log as an event stream: line by line from the beginning, until the job is over.

Source: what SimpleTuner's `jobs logs -f` reads: frames end in a blank line, and the first one with `event: done` ends it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Protocol

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone

from accounts.callers import Caller, renewed
from accounts.streaming import give_back, given_back, looked_up
from jobs import tails
from jobs.models import Job, JobProgress
from jobs.permissions import sees_details
from jobs.replicate.logs import Line, Lines
from jobs.services import logs, watching
from jobs.states import TERMINAL

POLL_SECONDS = 1.0
PING_AFTER = timedelta(seconds=15)
PING = b": ping\n\n"
PIECE_CHARACTERS = 256 * 1024


class Follower:
    """Where one reader of a log stands. `step` reads what is new; it touches the database and gives the connection back."""

    def __init__(self, job: Job, caller: Caller, *, lines_seen: int = 0) -> None:
        self.job = job
        self.caller = caller
        self.is_over = False
        self.is_behind = True
        # Long ago, so that a reader hears something at once, also of a job that has not said a word.
        self._said_at = self._checked_at = datetime.min.replace(tzinfo=UTC)
        self.seek(lines_seen)

    @property
    def pause_seconds(self) -> float:
        return POLL_SECONDS

    def seek(self, line: int) -> None:
        """Go on behind this line, wherever the reader stood."""
        self.line = line
        self.is_behind = True
        self._lines: Lines | None = None
        self._position = 0

    def step(self) -> bytes:
        """The frames since the last step; none, a ping after a while, or the last one."""
        return given_back(self._step)

    def _step(self) -> bytes:
        now = timezone.now()
        is_quiet = now - self._said_at >= PING_AFTER
        # The state is read before the text: what a job that is over had to say is all there then.
        found = JobProgress.objects.filter(job=self.job, job__deleted_at=None).values_list("job__state", "length").first()
        if found is None or not self._is_welcome(now):
            return self.end(tails.NOTHING_MORE)
        state, length = found
        watching.note(self.job, now=now)
        frames, cutter = self._read(length)
        self.is_behind = self._position < length
        if state in TERMINAL and not self.is_behind:
            return frames + self._frames(cutter.finish()) + self.end(state)
        if frames or is_quiet:
            self._said_at = now
        return frames or (PING if is_quiet else b"")

    def _is_welcome(self, now: datetime) -> bool:
        """Whether the reader would be let in again, asked now and then."""
        if now - self._checked_at < PING_AFTER:
            return True
        self._checked_at = now
        caller = renewed([self.caller], now=now)[0]
        return caller is not None and sees_details(caller, self.job)

    def _read(self, length: int) -> tuple[bytes, Lines]:
        """What is behind the reader's place as frames, at most one piece of it, and what cuts it into lines."""
        cutter = self._lines
        if cutter is None:
            place = logs.place_of(self.job, after=self.line)
            cutter, self._position = Lines(place.lines), place.start
            self._lines = cutter
        if self._position >= length:
            return b"", cutter
        text = logs.read(self.job, start=self._position, limit=PIECE_CHARACTERS)
        self._position += len(text)
        return self._frames(cutter.feed(text)), cutter

    def _frames(self, lines: Iterable[Line]) -> bytes:
        new = [line for line in lines if line.number > self.line]
        if new:
            self.line = new[-1].number
        return b"".join(tails.frame(line) for line in new)

    def end(self, word: str) -> bytes:
        self.is_over = True
        return tails.last_frame(word)

    async def live(self) -> AsyncIterator[bytes]:
        """The whole stream, for a server of which nobody waits in a thread.

        A reader who has what is stored takes the rest from the tail that this process keeps of the log. One who begins late or
        falls behind reads the store alone until there is nothing more in it: no frame waits for anybody.
        """
        await give_back()
        with tails.joined(self) as tail:
            while not self.is_over:
                change = tail.change
                frames = await self._next(tail)
                if frames:
                    yield frames
                elif not self.is_behind and not self.is_over:
                    frames = await self._awaited(change)
                    if frames:
                        yield frames

    async def _next(self, tail: tails.Tail) -> bytes:
        if tail.is_dismissed(self):
            return self.end(tails.NOTHING_MORE)
        if self.is_behind:
            return await looked_up(self.step)
        frames = tail.after(self.line)
        if frames is None:
            self.seek(self.line)
            return b""
        if frames:
            self.line, self._said_at = tail.line, timezone.now()
        return frames + self.end(tail.ended) if tail.ended else frames

    async def _awaited(self, change: asyncio.Event) -> bytes:
        """Wait until there is news of the log, or it is time to say that there is none."""
        try:
            async with asyncio.timeout((self._said_at + PING_AFTER - timezone.now()).total_seconds()):
                await change.wait()
        except TimeoutError:
            self._said_at = timezone.now()
            return PING
        return b""


class Steps(Protocol):
    """What a stream is made of: `step` says what is new, until `is_over`."""

    is_over: bool
    is_behind: bool

    @property
    def pause_seconds(self) -> float: ...

    def step(self) -> bytes: ...


def response(request: HttpRequest, follower: Steps) -> StreamingHttpResponse:
    """The stream for either kind of server: a thread waits under WSGI, nobody does under ASGI."""
    pieces: Iterator[bytes] | AsyncIterator[bytes]
    if not isinstance(request, ASGIRequest):
        pieces = _waited(follower)
    else:
        pieces = follower.live() if isinstance(follower, Follower) else _awaited(follower)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(pieces, content_type="text/event-stream", headers=headers)


def _waited(follower: Steps) -> Iterator[bytes]:
    while True:
        if frames := follower.step():
            yield frames
        if follower.is_over:
            return
        if not follower.is_behind:
            time.sleep(follower.pause_seconds)


async def _awaited(follower: Steps) -> AsyncIterator[bytes]:
    while True:
        if frames := await sync_to_async(follower.step)():
            yield frames
        if follower.is_over:
            return
        if not follower.is_behind:
            await asyncio.sleep(follower.pause_seconds)
