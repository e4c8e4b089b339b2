"""Watching a job's data on its way to the provider: noted while it goes, and streamed."""

import json

import pytest
from asgiref.sync import async_to_sync
from django.db import Error, connection
from django.test import AsyncRequestFactory
from django.utils import timezone

from accounts.roles import Role, Scope
from jobs import following, upload_following
from jobs.models import Job, UploadProgress
from jobs.models.job import UploadStage
from jobs.services import dispatch, ending, launching, uploads
from jobs.states import State, WaitingReason
from jobs.upload_following import UploadFollower
from tests.factories import MembershipFactory, make_token
from tests.jobs.factories import JobFactory
from tests.jobs.ready import caller_of

ID = "3f0a0c9e-9d4b-4f0e-8a53-0f6f5e6e9c11"
PATHS = [f"/api/cloud/upload/progress/{ID}", f"/api/webhooks/upload/progress/{ID}/"]


@pytest.fixture
def job(owner, monkeypatch):
    monkeypatch.setattr(upload_following, "PAUSE_SECONDS", 0.01)
    return JobFactory(team=owner.team, submitted_by=owner.user, state=State.UPLOADING, upload_id=ID, started_at=None)


@pytest.fixture
def ask(client):
    def send(member, path, *, scopes=None):
        _, key = make_token(member, scopes=scopes)
        return client.get(path, headers={"Authorization": f"Bearer {key}", "Accept": "text/event-stream"})

    return send


def note(job, stage, current=0, total=0):
    values = {"stage": stage, "current": current, "total": total, "updated_at": timezone.now()}
    UploadProgress.objects.update_or_create(job=job, defaults=values)


def read(frame):
    assert frame.startswith(b"data: ")
    assert frame.endswith(b"\n\n")
    return json.loads(frame.removeprefix(b"data: "))


@pytest.mark.parametrize("path", PATHS)
def test_an_upload_is_watched_from_stage_to_stage(ask, owner, job, path):
    answer = ask(owner, path)
    frames = iter(answer.streaming_content)

    seen = [read(next(frames))]
    for stage, current in ((UploadStage.PACKAGING, 10), (UploadStage.UPLOADING, 30)):
        note(job, stage, current, 40)
        seen.append(read(next(frames)))
    Job.objects.update(prediction_id="p" * 26, state=State.QUEUED, queued_at=timezone.now())
    last = list(frames)

    assert (answer.status_code, answer.headers["Content-Type"], answer.headers["X-Accel-Buffering"]) == (200, "text/event-stream", "no")
    assert [(frame["stage"], frame["current"], frame["total"], frame["percent"], frame["done"]) for frame in seen] == [
        ("scanning", 0, 0, 0.0, False), ("packaging", 10, 40, 25.0, False), ("uploading", 30, 40, 75.0, False),
    ]  # fmt: skip
    assert sorted(seen[0]) == ["current", "done", "error", "message", "percent", "stage", "total", "updated_at"]
    assert (len(last), read(last[0])["stage"], read(last[0])["percent"], read(last[0])["done"]) == (1, "complete", 100.0, True)


def test_a_job_that_ends_without_its_upload_says_why(ask, owner, job):
    note(job, UploadStage.PACKAGING, 10, 40)
    ending.fail(job, error="Archive size 120.0 MiB exceeds Replicate's 100 MiB upload limit", cause="launch")
    failed = [read(frame) for frame in ask(owner, PATHS[0]).streaming_content]
    Job.objects.update(state=State.CANCELLED, error="")
    cancelled = [read(frame) for frame in ask(owner, PATHS[0]).streaming_content]

    assert [(frame["stage"], frame["done"], frame["error"]) for frame in failed + cancelled] == [
        ("error", False, "Archive size 120.0 MiB exceeds Replicate's 100 MiB upload limit"),
        ("error", False, "The job was cancelled before its data was sent."),
    ]


def test_a_job_that_waits_says_for_what(owner, job):
    Job.objects.update(state=State.PENDING, waiting_reason=WaitingReason.TURN)

    said = read(UploadFollower(job, caller_of(owner)).step())

    assert (said["stage"], said["message"], said["done"]) == ("scanning", "It waits for its turn.", False)


def test_nothing_is_repeated_and_a_silence_is_broken_now_and_then(owner, job, monkeypatch):
    follower = UploadFollower(job, caller_of(owner))
    first, second = follower.step(), follower.step()
    monkeypatch.setattr(upload_following, "PING_AFTER", following.timedelta())

    assert (read(first)["stage"], second, follower.step()) == ("scanning", b"", b": ping\n\n")


def test_who_left_and_a_job_that_is_gone_end_the_stream(owner, job, monkeypatch):
    monkeypatch.setattr(upload_following, "PING_AFTER", following.timedelta())
    member = MembershipFactory(team=owner.team)
    left, gone = UploadFollower(job, caller_of(member)), UploadFollower(job, caller_of(owner))

    member.delete()
    left.step()
    Job.objects.update(deleted_at=timezone.now())
    gone.step()

    assert (left.is_over, gone.is_over) == (True, True)


def test_who_may_watch(ask, owner, job, client):
    viewer = MembershipFactory(team=owner.team, role=Role.VIEWER)

    answers = [ask(viewer, PATHS[0]), ask(owner, PATHS[0], scopes=[Scope.READ]), ask(MembershipFactory(), PATHS[0])]

    assert [answer.status_code for answer in answers] == [403, 403, 404]
    assert answers[0].json()["details"] == {"required_permission": "job.submit"}
    assert ask(owner, "/api/cloud/upload/progress/other").json()["detail"] == "Upload not found: other"
    assert client.get(PATHS[0]).status_code == 401


def test_the_newest_job_of_an_id_is_meant(ask, owner, job):
    JobFactory(
        team=owner.team, upload_id=ID, state=State.FAILED, error="older", submitted_at=job.submitted_at - following.timedelta(days=1)
    )
    Job.objects.filter(pk=job.pk).update(prediction_id="p" * 26, state=State.QUEUED)

    assert [read(frame)["stage"] for frame in ask(owner, PATHS[0]).streaming_content] == ["complete"]


def test_under_asgi_an_upload_comes_piece_by_piece_too(owner, job):
    response = following.response(AsyncRequestFactory().get("/"), UploadFollower(job, caller_of(owner)))

    async def frames():
        stream = response.__aiter__()
        first = await stream.__anext__()
        await following.sync_to_async(Job.objects.filter(pk=job.pk).update)(prediction_id="p" * 26, state=State.QUEUED)
        return [first, *[frame async for frame in stream]]

    assert [read(frame)["stage"] for frame in async_to_sync(frames)()] == ["scanning", "complete"]


@pytest.mark.django_db(transaction=True)
def test_between_two_looks_a_watcher_holds_no_connection():
    owner = MembershipFactory()
    job = JobFactory(team=owner.team, state=State.UPLOADING)

    UploadFollower(job, caller_of(owner)).step()

    assert connection.connection is None


# --- Noting -------------------------------------------------------------------------------------------------


def test_a_launch_notes_every_stage_of_its_upload(at_provider, account, fresh, monkeypatch):
    account.rule(queue_seconds=1_000_000)
    monkeypatch.setattr(uploads, "NOTED_EVERY_SECONDS", 0)
    noted = []
    monkeypatch.setattr(uploads.Reporter, "_note", lambda self, current, total: noted.append((self._stage.value, current, total)))
    job = at_provider.submit(upload_id=ID)
    dispatch.dispatch()

    launching.launch(fresh(job))

    size = fresh(job).provider_upload.archive_bytes
    packed = at_provider.version.files.get().blob.size_bytes
    assert list(dict.fromkeys(stage for stage, _, _ in noted)) == ["scanning", "packaging", "uploading", "complete"]
    assert ("packaging", packed, packed) in noted
    assert ("uploading", size, size) in noted
    assert fresh(job).state == State.QUEUED


def test_an_upload_stands_in_the_job_as_well(ready, owner):
    job = ready.submit(upload_id=ID)
    Job.objects.update(state=State.UPLOADING, waiting_reason="")
    note(job, UploadStage.UPLOADING, 1, 4)

    said = ready.get(f"/api/cloud/jobs/{job.job_id}").json()["upload_progress"]

    assert (said["stage"], said["percent"], said["message"], said["error"]) == ("uploading", 25.0, "uploading", None)


def test_the_page_of_a_job_shows_how_far_its_upload_is(client, owner, job):
    note(job, UploadStage.UPLOADING, 1024, 4096)
    client.force_login(owner.user)

    page = client.get(job.get_absolute_url()).content.decode()

    assert '<progress class="progress-uploading" max="100" value="25" aria-label="Upload">' in page


def test_notes_are_few(job, django_assert_num_queries, monkeypatch):
    monkeypatch.setattr(uploads, "NOTED_EVERY_SECONDS", 60)
    reporter = uploads.Reporter(job)
    reporter.begin(UploadStage.UPLOADING, total=1000)

    with django_assert_num_queries(0):
        for done in range(1000):
            reporter.at(done, 1000)

    monkeypatch.setattr(uploads, "NOTED_EVERY_SECONDS", 0)
    reporter.at(1000, 1000)
    assert UploadProgress.objects.get(job=job).current == 1000


def test_a_note_that_cannot_be_written_fails_no_launch(at_provider, account, fresh, monkeypatch):
    def fail(**_):
        raise Error("the database is away")

    account.rule(queue_seconds=1_000_000)
    monkeypatch.setattr(UploadProgress.objects, "update_or_create", fail)
    job = at_provider.submit()
    dispatch.dispatch()

    launching.launch(fresh(job))

    assert (fresh(job).state, UploadProgress.objects.exists()) == (State.QUEUED, False)
