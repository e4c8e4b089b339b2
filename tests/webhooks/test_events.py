"""Events for browsers: what is told to whom, that none is lost or told twice, and that streams end when they should."""

import asyncio
import json
import threading

import psycopg
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.test import AsyncClient, Client
from django.utils import timezone

from accounts import tokens, visits
from accounts.roles import Role
from jobs.models import Job, JobEvent
from jobs.services import logs
from jobs.states import State
from tests.config.processes import wait_until
from tests.factories import MembershipFactory, make_token
from tests.jobs.factories import JobFactory
from tests.jobs.ready import caller_of
from webhooks import eventlog, eventstream, frames
from webhooks.eventlog import EventLog
from webhooks.eventstream import Listener, Reader, Seat

PATH = "/api/events"


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch):
    monkeypatch.setattr(eventstream, "LOOK_SECONDS", 0.01)


@pytest.fixture
def owner(db):
    return MembershipFactory()


@pytest.fixture
def job(owner):
    return JobFactory(team=owner.team, submitted_by=owner.user, config_name="flux-lora", run_name="spring")


def read(said):
    """The frames of a stream: (name, body, id)."""
    found = []
    for block in said.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        if fields:
            found.append((fields.get("event"), json.loads(fields["data"]), fields.get("id")))
    return found


def played(scene):
    async def bounded():
        async with asyncio.timeout(60):
            await scene()

    async_to_sync(bounded)()


class Stream:
    """A stream that is read in the background."""

    def __init__(self, member, *, number=None):
        self.listener = Listener(visits.Visit(caller_of(member)), Seat(member.user.pk), number=number)
        self.said = b""
        self.task = asyncio.create_task(self._read())

    async def _read(self):
        async for piece in self.listener.live():
            self.said += piece

    async def has(self, text):
        while text not in self.said:
            await asyncio.sleep(0.01)

    def states(self):
        return [body["new_status"] for name, body, _ in read(self.said) if name == "cloud_job_update" and body["updates"]]

    async def closed(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


# --- What is told -------------------------------------------------------------------------------------------


def story_of(event):
    return frames.of_event(eventlog.with_jobs(JobEvent.objects.filter(pk=event.pk)).get(), now=timezone.now())


def told_of(job, state="", *, cause):
    """What is told of a move of this job to those who see its details."""
    return read(story_of(job.events.create(state=state, cause=cause)).frames(details=True))


def test_a_committed_change_is_told_in_the_fields_that_the_page_reads(job):
    job.move_to(State.COMPLETED, cause="poll", ended_at=timezone.now(), cost=1_250_000)
    story = story_of(JobEvent.objects.get())

    named = [(name, body["type"]) for name, body, _ in read(story.frames(details=True))]
    _, body, number = read(story.frames(details=True))[-1]
    assert named == [(None, "job_status_changed"), ("notification", "notification"), ("cloud_job_update", "cloud_job_update")]
    assert number == str(JobEvent.objects.get().pk)
    assert body == {
        "type": "cloud_job_update", "job_id": job.job_id, "event_type": "status_changed", "status": "completed", "new_status": "completed",
        "updates": {"status": "completed"}, "payload": {"cause": "poll", "at": JobEvent.objects.get().at.isoformat(), "detail": ""},
        "external_job_id": None, "config_name": "flux-lora", "error_message": None, "cost_usd": 1.25,
    }  # fmt: skip


def test_the_poller_tells_what_the_state_was_before(job):
    job.events.create(state=State.QUEUED, cause="launch")

    told = told_of(job, State.RUNNING, cause="poll")

    assert told[0] == (
        None, {"type": "job_status_changed", "job_id": job.job_id, "status": "running", "old_status": "queued"}, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("state", "cause", "word", "severity"),
    [
        (State.PENDING, "submit", "submitted", "info"),
        (State.BLOCKED, "submit", "submitted", "info"),
        (State.COMPLETED, "webhook", "completed", "success"),
        (State.FAILED, "webhook", "failed", "error"),
        (State.CANCELLED, "person", "cancelled", "warning"),
    ],
)
def test_beginnings_and_ends_are_notifications(job, state, cause, word, severity):
    name, body, _ = told_of(job, state, cause=cause)[0]

    assert (name, body["message_type"], body["severity"], body["source"]) == ("notification", f"cloud.job.{word}", severity, "cloud")
    assert (body["job_id"], body["provider"], body["message"][:6]) == (job.job_id, "replicate", "spring")


def test_an_approval_that_nobody_gave_is_told(job):
    assert told_of(job, State.CANCELLED, cause="expiry")[0][1]["type"] == "approval_expired"


def test_how_far_a_run_is_is_told_while_somebody_listens(job, owner):
    reader = Reader()
    logs.append(job, "Loading\n")
    reader.step([owner.team.pk])

    text = "Loading\nEpoch 1/1 Steps:  10%|#   | 1/10 [00:01<00:09, 1.0it/s, lr=0.1, step_loss=0.5]\n[CHECKPOINT] Checkpoint saved\n"
    logs.append(job, text)
    [story] = reader.step([owner.team.pk])

    assert [(name, body.get("step"), body.get("loss")) for name, body, _ in read(story.frames(details=True))] == [
        ("lifecycle.stage", None, None), ("checkpoint", 1, None), ("training.progress", 1, 0.5),
    ]  # fmt: skip
    assert "loss" not in read(story.frames(details=False))[-1][1]
    assert reader.step([owner.team.pk]) == []


def test_details_of_others_are_left_out_where_the_team_wants_it_so(job, owner):
    job.error = "CUDA out of memory"
    job.save()
    other = caller_of(MembershipFactory(team=owner.team, role=Role.RESEARCHER))

    job.move_to(State.FAILED, cause="webhook")
    story = story_of(JobEvent.objects.get())
    other.team.shows_details = False

    errors = [read(eventstream.told_to(caller, [story]))[-1][1]["error_message"] for caller in (caller_of(owner), other)]
    assert errors == ["CUDA out of memory", None]
    assert eventstream.told_to(caller_of(MembershipFactory()), [story]) == b""


# --- None lost, none twice ----------------------------------------------------------------------------------


def heard(reader, number):
    """What is told until it is so much, and a step beyond: the database's own cleaning up may hold a step up for a moment."""
    told = []
    wait_until(lambda: told.extend(event.cause for event in reader.step()) or len(told) >= number)
    return told + [event.cause for event in reader.step()]


@pytest.mark.django_db(transaction=True)
def test_a_row_that_is_committed_behind_a_later_one_is_told_before_it():
    job = JobFactory()
    reader, told = EventLog(), []
    told += reader.step()
    has_number, may_commit = threading.Event(), threading.Event()

    def slow():
        with transaction.atomic():
            job.events.create(cause="slow")
            has_number.set()
            may_commit.wait(20)
        connection.close()

    thread = threading.Thread(target=slow)
    thread.start()
    has_number.wait(20)
    job.events.create(cause="quick")
    for _ in range(4):
        told += reader.step()
    before = [event.cause for event in told]
    may_commit.set()
    thread.join()

    assert (before, heard(reader, 2)) == ([], ["slow", "quick"])


@pytest.mark.django_db(transaction=True)
def test_a_number_that_was_given_back_holds_nobody_up():
    job = JobFactory()
    reader = EventLog()
    reader.step()
    with transaction.atomic():
        job.events.create(cause="rolled back")
        transaction.set_rollback(True)
    job.events.create(cause="kept")

    assert heard(reader, 1) == ["kept"]


@pytest.mark.django_db(transaction=True)
def test_a_writer_in_another_database_of_the_server_holds_nobody_up():
    job = JobFactory()
    reader = EventLog()
    reader.step()
    with transaction.atomic():
        job.events.create(cause="rolled back")
        transaction.set_rollback(True)
    job.events.create(cause="kept")

    elsewhere = {name: value for name, value in connection.get_connection_params().items() if name in ("host", "port", "user", "password")}
    with psycopg.connect(**elsewhere, dbname="postgres") as other:
        other.execute("SELECT pg_current_xact_id()")
        told = heard(reader, 1)

    assert told == ["kept"]


@pytest.mark.parametrize(
    ("shown", "xmax", "whole"), [(7, 9, 7), (9, 9, 9), (2**32 - 1, 2**32 + 5, 2**32 - 1), (3, 5 * 2**32 + 4, 5 * 2**32 + 3)]
)
def test_the_whole_number_of_a_transaction_is_found_by_its_last_bits(shown, xmax, whole):
    assert eventlog._in_full(shown, xmax) == whole


@pytest.mark.django_db(transaction=True)
def test_what_was_under_way_when_the_reading_began_is_told():
    job = JobFactory()
    has_number, may_commit = threading.Event(), threading.Event()

    def slow():
        with transaction.atomic():
            job.events.create(cause="slow")
            has_number.set()
            may_commit.wait(20)
        connection.close()

    thread = threading.Thread(target=slow)
    thread.start()
    has_number.wait(20)
    job.events.create(cause="old")
    reader = EventLog()
    told = [event.cause for _ in range(3) for event in reader.step()]
    may_commit.set()
    thread.join()
    told += heard(reader, 1)

    assert (told, reader.is_ready) == (["slow"], True)


@pytest.mark.django_db(transaction=True)
def test_many_writers_at_once_are_all_told_once_and_in_order(monkeypatch):
    monkeypatch.setattr(eventlog, "ROWS_AT_ONCE", 7)
    jobs = [JobFactory() for _ in range(4)]
    reader, told = EventLog(), []
    reader.step()

    def write(job):
        for number in range(25):
            with transaction.atomic():
                job.events.create(cause=f"{number}")
                if number % 5 == 0:
                    transaction.set_rollback(True)
        connection.close()

    threads = [threading.Thread(target=write, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        told += reader.step()
    wait_until(lambda: told.extend(reader.step()) or len(told) >= 80)
    told += reader.step()

    assert [event.pk for event in told] == list(JobEvent.objects.order_by("pk").values_list("pk", flat=True))
    assert len(told) == 80


# --- Streams ------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_everybody_of_the_team_hears_of_it_and_nobody_else(owner, job):
    async def scene():
        ours, theirs = Stream(owner), Stream(await sync_to_async(MembershipFactory)())
        await asyncio.gather(ours.has(b"connected"), theirs.has(b"connected"))
        await sync_to_async(job.move_to)(State.COMPLETED, cause="webhook")
        await ours.has(b"cloud_job_update")
        await ours.closed()
        await theirs.closed()

        assert [name for name, _, _ in read(ours.said)] == ["connection", "notification", "cloud_job_update"]
        assert [name for name, _, _ in read(theirs.said)] == ["connection"]

    played(scene)


@pytest.mark.django_db(transaction=True)
def test_who_comes_back_is_told_what_was_missed(owner, job):
    events = [job.events.create(state=state, cause="x") for state in ("pending", "uploading", "queued")]

    async def scene():
        stream = Stream(owner, number=events[0].pk)
        await stream.has(b'"new_status": "queued"')
        await sync_to_async(job.events.create)(state="running", cause="x")
        await stream.has(b'"new_status": "running"')
        beyond = Stream(owner, number=10**17)
        await beyond.has(b"connected")
        await asyncio.gather(stream.closed(), beyond.closed())

        assert stream.states() == ["uploading", "queued", "running"]
        assert beyond.states() == []

    played(scene)


@pytest.mark.django_db(transaction=True)
def test_who_falls_behind_is_closed(owner, job, monkeypatch):
    monkeypatch.setattr(eventstream, "STORIES_KEPT", 2)

    async def scene():
        tower = eventstream.tower_of_this_loop()
        stream = Listener(visits.Visit(caller_of(owner)), Seat(owner.user.pk)).live()
        await anext(stream)
        for _ in range(4):
            await sync_to_async(job.events.create)(cause="x")
        while tower.place < 4:
            await asyncio.sleep(0.01)

        assert [piece async for piece in stream] == []
        assert tower.since(tower.place - 2) is not None

    played(scene)


@pytest.mark.django_db(transaction=True)
def test_silence_is_filled_with_heartbeats(owner, monkeypatch):
    monkeypatch.setattr(eventstream, "HEARTBEAT_AFTER", eventstream.timedelta(seconds=0.05))

    async def scene():
        stream = Stream(owner)
        await stream.has(b"heartbeat")
        await stream.closed()

        assert read(stream.said)[1][1].keys() == {"type", "timestamp"}

    played(scene)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda member, client: client.logout(), "signed_out"),
        (lambda member, client: (member.user.set_password("another one"), member.user.save()), "password_changed"),
        (lambda member, client: member.delete(), "access_ended"),
        (lambda member, client: type(member.user).objects.filter(pk=member.user.pk).update(is_active=False), "access_ended"),
    ],
)
def test_who_is_let_in_no_more_is_told_so_and_closed(owner, act, reason, monkeypatch):
    monkeypatch.setattr(eventstream, "CHECK_AFTER", eventstream.timedelta(0))
    client = Client()
    client.force_login(owner.user)
    async_client = AsyncClient()
    async_client.cookies = client.cookies

    async def scene():
        response = await async_client.get(PATH)
        stream = aiter(response.streaming_content)
        first = await anext(stream)
        await sync_to_async(act)(owner, client)
        rest = [piece async for piece in stream]

        assert b"connected" in first
        assert read(rest[-1]) == [("auth", {"type": "session_invalidated", "reason": reason}, None)]

    played(scene)


def test_a_revoked_token_ends_its_streams(owner):
    token, _ = make_token(owner)
    visit = visits.Visit(eventstream.Caller(owner.team, owner.user, owner.role, owner.rights, token, ""))
    assert visits.looked_after([visit], now=timezone.now())[0].reason == ""

    tokens.revoke(token, by=owner.user)

    assert visits.looked_after([visit], now=timezone.now())[0].reason == "access_ended"


# --- Doors --------------------------------------------------------------------------------------------------


@pytest.fixture
def call(client, owner):
    _, key = make_token(owner)

    def ask(path, **headers):
        return client.get(path, headers={"Authorization": f"Bearer {key}", **headers})

    return ask


@pytest.mark.django_db(transaction=True)
def test_without_asgi_a_stream_has_a_thread_and_says_the_same(call, job):
    answer = call(f"{PATH}/stream/")
    stream = iter(answer.streaming_content)

    first = next(stream)
    job.move_to(State.COMPLETED, cause="webhook")

    assert (answer["Content-Type"], answer["Cache-Control"], answer["X-Accel-Buffering"]) == ("text/event-stream", "no-cache", "no")
    assert read(first)[0][1]["type"] == "connected"
    assert read(next(stream))[-1][1]["new_status"] == "completed"


@pytest.mark.django_db(transaction=True)
def test_without_asgi_last_event_id_counts_too(call, job):
    events = [job.events.create(state=state, cause="x") for state in ("pending", "uploading")]

    stream = iter(call(PATH, **{"Last-Event-ID": str(events[0].pk)}).streaming_content)

    assert [read(next(stream))[-1][1].get("new_status") for _ in range(2)] == [None, "uploading"]


def test_a_person_has_five_streams_and_a_process_a_hundred(call, owner, monkeypatch):
    seats = [Seat(owner.user.pk) for _ in range(5)]

    refused = call(PATH)
    seats.pop().give_up()
    again = call(PATH)
    monkeypatch.setattr(eventstream, "STREAMS_A_PROCESS", 4)
    full = call("/broadcast")
    del seats

    assert again.status_code == 200
    for answer in (refused, full):
        assert (answer.status_code, answer.json()["detail"], answer["Retry-After"]) == (503, "Connection limit reached", "10")
    assert Seat(-1) is not None


@pytest.mark.django_db(transaction=True)
def test_scripts_poll_for_what_is_behind_a_number(call, job):
    first, second = (job.events.create(state=state, cause="x") for state in ("pending", "uploading"))

    def poll(query):
        return json.loads(b"".join(call(f"/broadcast?{query}").streaming_content))

    newest, behind, nothing = (
        poll("timeout=5"),
        poll(f"last_event_index={first.pk}&timeout=5"),
        poll(f"last_event_index={second.pk}&timeout=0"),
    )

    assert [event["new_status"] for event in newest["events"]] == ["pending", "uploading"]
    assert [event["new_status"] for event in behind["events"]] == ["uploading"]
    assert newest["next_index"] == behind["next_index"] == second.pk
    assert nothing == {"events": [], "next_index": second.pk}
    assert call("/broadcast?timeout=x").status_code == 400


@pytest.mark.django_db(transaction=True)
def test_a_poll_waits_for_what_happens(owner, job):
    first = job.events.create(state="pending", cause="x")

    async def scene():
        poll = eventstream.Poll(caller_of(owner), Seat(owner.user.pk), number=first.pk, seconds=30)
        waiting = asyncio.create_task(anext(poll.live()))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await sync_to_async(job.events.create)(state="uploading", cause="x")

        assert [event["new_status"] for event in json.loads(await waiting)["events"]] == ["uploading"]

    played(scene)


def test_the_newest_events_are_a_piece_of_html(call, job):
    job.events.create(state="running", cause="<x>")
    Job.objects.update(deleted_at=None)

    said = call("/api/events/recent")

    assert (said["Content-Type"], f"<li>{job.job_id} running <time>" in said.content.decode()) == ("text/html; charset=utf-8", True)
