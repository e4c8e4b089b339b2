"""Telling browsers what happens: one reader of the event log a process, and for each stream what its person may see.

Under an ASGI server everything but looking into the database runs in its one loop. Under WSGI a stream has a thread and a
reader of its own.
"""

import asyncio
import contextvars
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from threading import Lock
from weakref import WeakKeyDictionary

import structlog
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from accounts.callers import Caller
from accounts.errors import Refusal
from accounts.streaming import give_back, given_back, looked_up
from accounts.visits import Visit, looked_after
from jobs.models import Job, JobEvent, JobProgress
from jobs.permissions import sees_details
from jobs.states import State
from webhooks import frames
from webhooks.eventlog import EventLog, of_team
from webhooks.frames import Story

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
CHECK_AFTER = timedelta(seconds=5)
HEARTBEAT_AFTER = timedelta(seconds=15)
# Who is further behind is closed, comes again, and is told the rest from the database.
STORIES_KEPT = 1000
REPLAYED_AT_ONCE = 200
EVENTS_AT_FIRST = 50
STREAMS_A_PERSON, STREAMS_A_PROCESS = 5, 100


class ConnectionLimit(Refusal):
    """The person or the process has as many streams open as it may."""

    code = "connection_limit"
    status = 503


class Seat:
    """One open stream among those that are allowed. It is given up when nobody holds it any more, read or not."""

    _taken: "Counter[int]" = Counter()
    _lock = Lock()

    def __init__(self, person: int) -> None:
        """Raises ConnectionLimit."""
        self._person: int | None = None
        with self._lock:
            if self._taken[person] >= STREAMS_A_PERSON or self._taken.total() >= STREAMS_A_PROCESS:
                raise ConnectionLimit(
                    "Connection limit reached", hint="Close another tab or stream, or come again later.", details={"retry_after": 10}
                )
            self._taken[person] += 1
            self._person = person

    def give_up(self) -> None:
        with self._lock:
            if self._person is not None:
                self._taken[self._person] -= 1
                self._taken += Counter()
                self._person = None

    def __del__(self) -> None:
        self.give_up()


class Reader:
    """Reads what is new: the events, and how far the runs of those teams are that somebody listens for."""

    def __init__(self) -> None:
        self.log = EventLog()
        self._runs: dict[int, JobProgress] = {}

    def step(self, teams: Iterable[int]) -> list[Story]:
        now = timezone.now()
        told = [frames.of_event(event, now=now) for event in self.log.step() if event.job.deleted_at is None]
        return told + self._progress(set(teams))

    def _progress(self, teams: set[int]) -> list[Story]:
        running = JobProgress.objects.filter(job__team__in=teams, job__state=State.RUNNING, job__deleted_at=None).select_related("job")
        before, self._runs = self._runs, {progress.job_id: progress for progress in running}
        found = (frames.of_progress(run, before[job]) for job, run in self._runs.items() if job in before)
        return [story for story in found if story is not None]


def may_see_details(caller: Caller, story: Story) -> bool:
    return sees_details(caller, Job(submitted_by_id=story.submitter))


def told_to(caller: Caller, stories: Iterable[Story]) -> bytes:
    """What of this the caller may hear, on the wire."""
    mine = (story for story in stories if story.team == caller.team.pk)
    return b"".join(story.frames(details=may_see_details(caller, story)) for story in mine)


def stories_behind(caller: Caller, number: int, *, up_to: int, limit: int) -> list[Story]:
    """The team's events behind a number, as the database has them."""
    now = timezone.now()
    events = of_team(caller.team).filter(pk__gt=number, pk__lte=up_to).order_by("pk")[:limit]
    return [frames.of_event(event, now=now) for event in events]


class Listener:
    """One stream. `number` is the last event that its person has heard of; None begins with what happens next."""

    def __init__(self, visit: Visit, seat: Seat, *, number: int | None = None) -> None:
        self.visit = visit
        self.number = number
        self._seat = seat

    @property
    def caller(self) -> Caller:
        return self.visit.caller

    # Under an ASGI server

    async def live(self) -> AsyncIterator[bytes]:
        try:
            await give_back()
            with listening(self) as tower:
                # Whatever happens once the person has read that they are connected is told.
                await tower.begun()
                place = tower.place
                yield frames.frame(frames.connected())
                if self.number is not None:
                    await tower.readied()
                    place = tower.place
                    async for piece in self._replayed(tower.told):
                        yield piece
                async for piece in self._followed(tower, place):
                    yield piece
        finally:
            self._seat.give_up()

    async def _replayed(self, up_to: int) -> AsyncIterator[bytes]:
        number = self.number or 0
        while number < up_to:
            found = await looked_up(partial(stories_behind, self.caller, number, up_to=up_to, limit=REPLAYED_AT_ONCE))
            if not found:
                return
            yield told_to(self.caller, found)
            number = found[-1].number or up_to

    async def _followed(self, tower: "Tower", place: int) -> AsyncIterator[bytes]:
        said_at = timezone.now()
        while not self.visit.reason:
            change = tower.change
            stories = tower.since(place)
            if stories is None:
                return
            place += len(stories)
            piece = told_to(self.caller, stories)
            if not piece and not stories:
                piece = await _awaited(change, said_at + HEARTBEAT_AFTER)
            if piece:
                said_at = timezone.now()
                yield piece
        yield frames.frame(frames.invalidated(self.visit.reason))

    # Under WSGI

    def waited(self) -> Iterator[bytes]:
        try:
            reader, said_at, checked_at = Reader(), timezone.now(), timezone.now()
            given_back(partial(reader.step, [self.caller.team.pk]))
            yield frames.frame(frames.connected())
            while not self.visit.reason:
                now = timezone.now()
                piece = told_to(self.caller, given_back(lambda: self._stories(reader)))
                if not piece and now - said_at >= HEARTBEAT_AFTER:
                    piece = frames.frame(frames.heartbeat(now))
                if piece:
                    said_at = now
                    yield piece
                if now - checked_at >= CHECK_AFTER:
                    [self.visit], checked_at = given_back(lambda: looked_after([self.visit], now=timezone.now())), now
                time.sleep(LOOK_SECONDS)
            yield frames.frame(frames.invalidated(self.visit.reason))
        finally:
            self._seat.give_up()

    def _stories(self, reader: Reader) -> list[Story]:
        new = reader.step([self.caller.team.pk])
        if self.number is None or not reader.log.is_ready:
            return new if self.number is None else []
        # From the database, which has what came while the reader was not ready as well.
        behind, self.number = self.number, None
        return stories_behind(self.caller, behind, up_to=reader.log.told, limit=STORIES_KEPT)


async def _awaited(change: asyncio.Event, until: datetime) -> bytes:
    """Wait until there is news, or it is time to say that there is none."""
    try:
        async with asyncio.timeout((until - timezone.now()).total_seconds()):
            await change.wait()
    except TimeoutError:
        return frames.frame(frames.heartbeat(timezone.now()))
    return b""


class Tower:
    """What all streams of one loop are told from: the newest stories, and the task that reads on while somebody listens.

    `place` counts the stories, `told` is the number up to which every event is among them or in the database for good.
    """

    def __init__(self) -> None:
        self.listeners: set[Listener] = set()
        self.waiting = 0
        self.change = asyncio.Event()
        self.place = 0
        self.told = 0
        self.has_begun = self.is_ready = False
        self._reader = Reader()
        self._stories: list[Story] = []
        self._task: asyncio.Task[None] | None = None
        self._checked_at = timezone.now()

    def since(self, place: int) -> list[Story] | None:
        """The stories from a place on; None if they are not kept any more."""
        first = self.place - len(self._stories)
        return None if place < first else self._stories[place - first :]

    async def begun(self) -> None:
        """Wait until what happens from now on is told."""
        while not self.has_begun:
            await self.change.wait()

    async def readied(self) -> None:
        """Wait until everything is told that was there when the tower began."""
        while not self.is_ready:
            await self.change.wait()

    @contextmanager
    def kept_up(self) -> Iterator[None]:
        """Read on for as long as somebody wants it."""
        self.waiting += 1
        if self._task is None or self._task.done():
            # Not in the context of the request that happens to be first. What happened while nobody listened is no news.
            self._reader, self.has_begun, self.is_ready = Reader(), False, False
            self._task = asyncio.get_running_loop().create_task(self._read_on(), context=contextvars.Context())
        try:
            yield
        finally:
            self.waiting -= 1

    async def _read_on(self) -> None:
        while self.waiting:
            try:
                await self._read_once()
            except (OperationalError, InterfaceError) as error:
                log.warning("events.database_away", reason=str(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def _read_once(self) -> None:
        teams = {listener.caller.team.pk for listener in self.listeners}
        stories = await looked_up(lambda: self._reader.step(teams))
        became_ready = not self.has_begun or self._reader.log.is_ready != self.is_ready
        self.told, self.has_begun, self.is_ready = self._reader.log.told, True, self._reader.log.is_ready
        self._stories = [*self._stories, *stories][-STORIES_KEPT:]
        self.place += len(stories)
        now = timezone.now()
        is_over = False
        if now - self._checked_at >= CHECK_AFTER:
            self._checked_at = now
            is_over = await self._check(now)
        if stories or became_ready or is_over:
            self.change.set()
            self.change = asyncio.Event()

    async def _check(self, now: datetime) -> bool:
        """See who is still let in, and with which rights. A few questions, however many listen."""
        listeners = list(self.listeners)
        visits = await looked_up(lambda: looked_after([listener.visit for listener in listeners], now=now))
        for listener, visit in zip(listeners, visits, strict=True):
            listener.visit = visit
        return any(visit.reason for visit in visits)


_towers: WeakKeyDictionary[asyncio.AbstractEventLoop, Tower] = WeakKeyDictionary()


def tower_of_this_loop() -> Tower:
    return _towers.setdefault(asyncio.get_running_loop(), Tower())


@contextmanager
def listening(listener: Listener) -> Iterator[Tower]:
    """The tower of this process, which tells the listener for as long as it listens."""
    tower = tower_of_this_loop()
    tower.listeners.add(listener)
    try:
        with tower.kept_up():
            yield tower
    finally:
        tower.listeners.discard(listener)


class Poll:
    """One call that waits for events behind a number, for clients that cannot stream. It answers JSON once, at last after a while."""

    def __init__(self, caller: Caller, seat: Seat, *, number: int, seconds: float) -> None:
        self.caller = caller
        self._seat = seat
        self._number = number
        self._seconds = seconds

    async def live(self) -> AsyncIterator[bytes]:
        until = time.monotonic() + self._seconds
        tower = tower_of_this_loop()
        try:
            await give_back()
            with tower.kept_up():
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._seconds):
                        await tower.readied()
                while True:
                    change, told = tower.change, tower.told
                    answer = await looked_up(partial(self._answer, told, is_last=time.monotonic() >= until))
                    if answer:
                        yield answer
                        return
                    with suppress(TimeoutError):
                        async with asyncio.timeout(until - time.monotonic()):
                            await change.wait()
        finally:
            self._seat.give_up()

    def waited(self) -> Iterator[bytes]:
        until, reader = time.monotonic() + self._seconds, EventLog()
        try:
            while True:
                given_back(reader.step)
                is_last = time.monotonic() >= until
                if (reader.is_ready or is_last) and (answer := given_back(partial(self._answer, reader.told, is_last=is_last))):
                    yield answer
                    return
                time.sleep(LOOK_SECONDS)
        finally:
            self._seat.give_up()

    def _answer(self, told: int, *, is_last: bool) -> bytes:
        """The body, or nothing while there is time to wait for more. 0 asks for the newest."""
        if self._number:
            found = stories_behind(self.caller, self._number, up_to=told, limit=REPLAYED_AT_ONCE)
        else:
            now = timezone.now()
            found = [frames.of_event(event, now=now) for event in newest(self.caller, EVENTS_AT_FIRST) if event.pk <= told]
        if not found and not is_last:
            return b""
        # Where all were found, there is nothing of the team's up to what is told.
        end = found[-1].number if len(found) == REPLAYED_AT_ONCE else max(told, self._number)
        bodies = [message.body for story in found for message in story.messages(details=may_see_details(self.caller, story))]
        return json.dumps({"events": bodies, "next_index": end}).encode()


def newest(caller: Caller, count: int) -> list[JobEvent]:
    """The last events of the team, oldest first."""
    return list(of_team(caller.team).order_by("-pk")[:count])[::-1]
