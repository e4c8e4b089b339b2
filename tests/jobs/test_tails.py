"""One tail a process for everybody who follows a log: who reads what from where, and who hears the end of it."""

import asyncio

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.roles import Role
from jobs import following, tails
from jobs.following import Follower
from jobs.models import Job, JobProgress
from jobs.services import logs
from jobs.states import State
from tests.factories import MembershipFactory
from tests.jobs.factories import JobFactory
from tests.jobs.ready import caller_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch):
    monkeypatch.setattr(tails, "LOOK_SECONDS", 0.02)


@pytest.fixture
def job(owner):
    return JobFactory(team=owner.team, submitted_by=owner.user)


def say(job, text):
    with transaction.atomic():
        logs.append(job, text)


def end(job, state=State.COMPLETED):
    Job.objects.filter(pk=job.pk).update(state=state, ended_at=timezone.now())


def lines_in(said):
    return [line.removeprefix("data: ") for line in said.decode().split("\n") if line.startswith("data: ")]


class Reader:
    """Reads a stream in the background, as fast as it may."""

    def __init__(self, job, owner, **where):
        self.follower = Follower(job, caller_of(owner), **where)
        self.said = b""
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.task = asyncio.create_task(self._read())

    async def _read(self):
        async for piece in self.follower.live():
            self.said += piece
            await self.may_read.wait()

    async def has(self, text):
        while text not in self.said:
            await asyncio.sleep(0.01)


def played(scene):
    async def bounded():
        async with asyncio.timeout(60):
            await scene()

    async_to_sync(bounded)()


def test_all_followers_hear_every_line_once_wherever_they_begin(job, owner):
    say(job, "one\ntwo\nthr")

    async def scene():
        readers = [Reader(job, owner), Reader(job, owner, lines_seen=1), Reader(job, owner, lines_seen=99)]
        await asyncio.gather(*[reader.has(b"ping" if number == 2 else b"two") for number, reader in enumerate(readers)])
        await sync_to_async(say)(job, "one\ntwo\nthree\r")
        await sync_to_async(say)(job, "one\ntwo\nthree\r\nfour\r50%\rfive")
        readers.append(Reader(job, owner))
        await sync_to_async(end)(job)
        await asyncio.gather(*[reader.task for reader in readers])

        whole = ["one", "two", "three", "four", "50%", "five", "completed"]
        assert [lines_in(reader.said) for reader in readers] == [whole, whole[1:], ["completed"], whole]
        assert b"id: 6\ndata: five\n\nevent: done\ndata: completed\n\n" in readers[0].said

    played(scene)


def test_a_follower_who_falls_behind_reads_the_store_and_nothing_waits_for_it(job, owner, monkeypatch):
    monkeypatch.setattr(tails, "KEPT_BYTES", 200)
    text = "line 0\n"
    say(job, text)

    async def scene():
        nonlocal text
        slow, quick = Reader(job, owner), Reader(job, owner)
        await asyncio.gather(slow.has(b"line 0"), quick.has(b"line 0"))
        slow.may_read.clear()
        for number in range(1, 40):
            text += f"line {number}\n"
            await sync_to_async(say)(job, text)
            await quick.has(f"line {number}\n".encode())
        [tail] = tails._watches[asyncio.get_running_loop()].tails.values()
        kept = sum(len(frame) for frame in tail._frames)
        await sync_to_async(end)(job)
        await quick.task
        slow.may_read.set()
        await slow.task

        assert kept <= 200
        assert lines_in(slow.said) == lines_in(quick.said) == [*text.splitlines(), "completed"]

    played(scene)


def test_questions_to_the_database_do_not_grow_with_the_followers(job, owner):
    say(job, "one\n")

    async def asked_while(readers):
        found = [Reader(job, owner) for _ in range(readers)]
        await asyncio.gather(*[reader.has(b"one") for reader in found])
        [tail] = tails._watches[asyncio.get_running_loop()].tails.values()
        while tail.position is None:
            await asyncio.sleep(0.01)
        asked = []

        def counted(look):
            with CaptureQueriesContext(connections["default"]) as queries:
                answer = look()
            asked.extend(queries)
            return answer

        looks = 0
        original = tails.looked_up

        async def looked_up(look):
            nonlocal looks
            answer = await original(lambda: counted(look))
            looks += 1
            return answer

        tails.looked_up = following.looked_up = looked_up
        try:
            while looks < 5:
                await asyncio.sleep(0.01)
        finally:
            tails.looked_up = following.looked_up = original
        for reader in found:
            reader.task.cancel()
        await asyncio.gather(*[reader.task for reader in found], return_exceptions=True)
        return len(asked) / looks

    async def scene():
        few, many = await asked_while(1), await asked_while(60)

        assert few == many == 1
        assert tails._watches[asyncio.get_running_loop()].tails == {}

    played(scene)


def test_who_may_follow_no_more_is_dismissed_and_the_others_stay(job, owner, monkeypatch):
    monkeypatch.setattr(tails, "CHECK_AFTER", tails.timedelta(0))
    leaving = MembershipFactory(team=owner.team)
    say(job, "one\n")

    async def scene():
        left, stays = Reader(job, leaving), Reader(job, owner)
        await asyncio.gather(left.has(b"one"), stays.has(b"one"))
        await sync_to_async(leaving.delete)()
        await left.task
        await sync_to_async(say)(job, "one\ntwo\n")
        await stays.has(b"two")
        await sync_to_async(Job.objects.update)(deleted_at=timezone.now())
        await stays.task

        assert (lines_in(left.said), lines_in(stays.said)) == (["one", "stream_end"], ["one", "two", "stream_end"])

    played(scene)


def test_a_team_that_hides_its_details_ends_the_streams_of_those_who_may_not_see_them(job, owner, monkeypatch):
    monkeypatch.setattr(tails, "CHECK_AFTER", tails.timedelta(0))
    other = MembershipFactory(team=owner.team, role=Role.RESEARCHER)
    say(job, "one\n")

    async def scene():
        stranger, submitter = Reader(job, other), Reader(job, owner)
        await asyncio.gather(stranger.has(b"one"), submitter.has(b"one"))
        await sync_to_async(type(owner.team).objects.update)(shows_details=False)
        await stranger.task
        await sync_to_async(end)(job)
        await submitter.task

        assert (lines_in(stranger.said)[-1], lines_in(submitter.said)[-1]) == ("stream_end", "completed")

    played(scene)


def test_while_somebody_follows_the_poller_is_told(job, owner, monkeypatch):
    monkeypatch.setattr(tails.watching, "NOTED_EVERY", tails.timedelta(0))
    forgotten = JobProgress.objects.filter(watched_at=None)

    async def scene():
        reader = Reader(job, owner)
        await reader.has(b"ping")
        await sync_to_async(JobProgress.objects.update)(watched_at=None)
        while await sync_to_async(forgotten.exists)():
            await asyncio.sleep(0.01)
        reader.task.cancel()

    played(scene)
