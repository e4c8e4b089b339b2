"""The ends of the logs that somebody follows: one a job and process, read once a second for however many followers.

Everything but `_look` runs in the server's one loop, so that nothing here needs a lock.
"""

import asyncio
import contextvars
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from weakref import WeakKeyDictionary

import structlog
from django.db import InterfaceError, OperationalError
from django.db.models import Q
from django.utils import timezone

from accounts.callers import Caller, renewed
from accounts.streaming import looked_up
from jobs.models import Job, JobProgress, LogChunk
from jobs.permissions import sees_details
from jobs.replicate.logs import Line, Lines
from jobs.services import logs, watching
from jobs.services.logs import Place
from jobs.states import TERMINAL

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
CHECK_AFTER = timedelta(seconds=15)
# As much of each log's end is kept; who is further behind reads the store.
KEPT_BYTES = 512 * 1024
# One look takes at most so many chunks of all logs together.
CHUNKS_A_LOOK = 40
NOTHING_MORE = "stream_end"


def frame(line: Line) -> bytes:
    """A line as an event. The client would take these words in a log for the end of the stream."""
    text = line.text.replace("event: done", "event:  done")
    return f"id: {line.number}\ndata: {text}\n\n".encode()


def last_frame(word: str) -> bytes:
    return f"event: done\ndata: {word}\n\n".encode()


class Following(Protocol):
    """One who follows a job's log."""

    job: Job
    caller: Caller


@dataclass(frozen=True)
class News:
    """What a look found of one log: its job's state, how long it is, and what of it is new; `begins` at the first look."""

    state: str
    length: int
    text: str
    begins: Place | None = None


class Tail:
    """The end of one log in frames. `line` is the newest line in it, `change` is set when something changes, and then another."""

    def __init__(self) -> None:
        self.followers: set[Following] = set()
        self.dismissed: set[Following] = set()
        self.change = asyncio.Event()
        self.ended = ""
        self.position: int | None = None
        self.line = 0
        self._before = 0
        self._cutter = Lines()
        self._frames: list[bytes] = []
        self._bytes = 0
        self._joined: dict[int, bytes] = {}

    def is_dismissed(self, follower: Following) -> bool:
        return follower in self.dismissed

    def after(self, line: int) -> bytes | None:
        """The frames behind a line: none if there is no news, None if the tail does not go back so far."""
        if self.position is None or line >= self.line:
            return b""
        if line < self._before:
            return None
        # Most followers stand at the same line, and share what they are given.
        if line not in self._joined:
            self._joined[line] = b"".join(self._frames[line - self._before :])
        return self._joined[line]

    def take(self, news: News | None) -> bool:
        """Take in what a look found; says whether there is more to be had at once."""
        if news is None:
            return self._end(NOTHING_MORE)
        if self.position is None:
            place = news.begins or Place()
            self.position, self._cutter = place.start, Lines(place.lines)
            # The first line from there on may have begun before.
            self.line = self._before = place.lines + (place.start > 0)
            self._changed()
        if news.text:
            self.position += len(news.text)
            self._keep(self._cutter.feed(news.text))
        if self.position < news.length:
            return True
        if news.state in TERMINAL:
            self._keep(self._cutter.finish())
            return self._end(news.state)
        return False

    def _keep(self, lines: Iterable[Line]) -> None:
        new = [line for line in lines if line.number > self.line]
        if not new:
            return
        self._frames += [frame(line) for line in new]
        self.line = new[-1].number
        self._bytes += sum(len(each) for each in self._frames[-len(new) :])
        too_many = 0
        while self._bytes > KEPT_BYTES and too_many < len(self._frames):
            self._bytes -= len(self._frames[too_many])
            too_many += 1
        del self._frames[:too_many]
        self._before += too_many
        self._changed()

    def _end(self, word: str) -> bool:
        self.ended = word
        self._changed()
        return False

    def dismiss(self, followers: Iterable[Following]) -> None:
        """End the streams of those who may not follow any more."""
        self.dismissed |= set(followers)
        self._changed()

    def _changed(self) -> None:
        self._joined.clear()
        self.change.set()
        self.change = asyncio.Event()


class Watch:
    """All tails of one loop, and the task that looks after them while there are any."""

    def __init__(self) -> None:
        self.tails: dict[int, Tail] = {}
        self._task: asyncio.Task[None] | None = None
        self._noted_at = self._checked_at = timezone.now()

    def join(self, follower: Following) -> Tail:
        tail = self.tails.setdefault(follower.job.pk, Tail())
        tail.followers.add(follower)
        if self._task is None or self._task.done():
            # Not in the context of the request that happens to be first, which ends before the others.
            self._task = asyncio.get_running_loop().create_task(self._look_on(), context=contextvars.Context())
        return tail

    def leave(self, follower: Following) -> None:
        tail = self.tails.get(follower.job.pk)
        if tail is None:
            return
        tail.followers.discard(follower)
        tail.dismissed.discard(follower)
        if not tail.followers:
            del self.tails[follower.job.pk]

    async def _look_on(self) -> None:
        try:
            while self.tails:
                is_more = False
                try:
                    is_more = await self._look_once()
                except (OperationalError, InterfaceError) as error:
                    log.warning("tails.database_away", reason=str(error))
                if not is_more:
                    await asyncio.sleep(LOOK_SECONDS)
        finally:
            # Were there a fault in looking, nobody should wait for ever: clients come again.
            for tail in self.tails.values():
                tail.take(None)

    async def _look_once(self) -> bool:
        now = timezone.now()
        asked = {job: tail.position for job, tail in self.tails.items() if not tail.ended}
        found = await looked_up(lambda: _look(asked))
        more = [tail.take(found.get(job)) for job, tail in self.tails.items() if job in asked]
        if now - self._noted_at >= watching.NOTED_EVERY:
            self._noted_at = now
            await looked_up(lambda: watching.note_each(asked, now=now))
        if now - self._checked_at >= CHECK_AFTER:
            self._checked_at = now
            await self._check(now)
        return any(more)

    async def _check(self, now: datetime) -> None:
        """See who would still be let in. Two questions, however many follow."""
        following = [follower for tail in self.tails.values() for follower in tail.followers]
        callers = {_key(follower.caller): follower.caller for follower in following}
        renewed_ones = await looked_up(lambda: renewed(list(callers.values()), now=now))
        welcome = dict(zip(callers, renewed_ones, strict=True))
        for tail in list(self.tails.values()):
            # Who joined meanwhile is asked about the next time.
            asked_about = [follower for follower in tail.followers if _key(follower.caller) in welcome]
            if gone := [follower for follower in asked_about if not _may_follow(welcome[_key(follower.caller)], follower)]:
                tail.dismiss(gone)


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, Watch] = WeakKeyDictionary()


@contextmanager
def joined(follower: Following) -> Iterator[Tail]:
    """The tail of the follower's job, kept up for as long as somebody follows."""
    watch = _watches.setdefault(asyncio.get_running_loop(), Watch())
    tail = watch.join(follower)
    try:
        yield tail
    finally:
        watch.leave(follower)


def _key(caller: Caller) -> tuple[int, int, int | None]:
    return caller.team.pk, caller.user.pk, caller.token.pk if caller.token else None


def _may_follow(caller: Caller | None, follower: Following) -> bool:
    return caller is not None and sees_details(caller, follower.job)


def _look(asked: dict[int, int | None]) -> dict[int, News]:
    """What is new of these logs behind the positions; jobs that are gone are left out. One question, and a second for what has grown."""
    # The state is read before the text: what a job that is over had to say is all there then.
    rows = JobProgress.objects.filter(job__in=list(asked), job__deleted_at=None)
    columns = rows.values_list("job_id", "job__state", "length", "lines")
    known = {job: (state, length, lines) for job, state, length, lines in columns}
    begins = {job: logs.place_of(Job(pk=job), after=lines) for job, (_, _, lines) in known.items() if asked[job] is None}
    places = {job: begins[job].start if job in begins else asked[job] or 0 for job in known}
    wanted = Q()
    for job, (_, length, _) in known.items():
        if places[job] < length:
            wanted |= Q(job=job, start__gte=places[job])
    texts: dict[int, str] = {}
    if wanted:
        chunks = LogChunk.objects.filter(wanted).order_by("job_id", "start").values_list("job_id", "text")[:CHUNKS_A_LOOK]
        for job, text in chunks:
            texts[job] = texts.get(job, "") + text
    return {job: News(state, length, texts.get(job, ""), begins.get(job)) for job, (state, length, _) in known.items()}
