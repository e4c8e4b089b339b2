"""What the provider forgets an hour after the end: brought home first, with an alarm, or said to be lost with its times."""

import hashlib
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from accounts.models import CredentialHealth, Letter
from accounts.roles import Role
from jobs import archives, tasks
from jobs.models import AccountWatch, Job, ResultDelivery
from jobs.replicate import outputs, predictions
from jobs.services import logs, progress, rescuing, results
from jobs.states import State
from jobs.storage import objects
from tests.factories import UserFactory, make_token
from tests.jobs.factories import JobFactory, make_member
from tests.jobs.sandbox.servers import inputs

WEIGHTS = b"weights" * 1000


class Files(ThreadingHTTPServer):
    """A provider of files; `says` maps a path to a status and a body."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.says: dict[str, tuple[int, bytes]] = {}
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("authorization")))
        status, body = self.server.says.get(self.path, (404, b""))
        self.send_response(status)
        if status in (301, 302):
            self.send_header("location", body.decode())
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path.endswith("cut") else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def files(settings, tmp_path):
    """The provider's files on a server of this test, which is taken for the provider."""
    settings.STORAGES = settings.STORAGES | {
        "artifacts": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path / "artifacts"}}
    }
    server = Files()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.REPLICATE_BASE_URL = server.url
    yield server
    server.shutdown()
    server.server_close()


def succeeded(output, **more):
    body = {"id": "p" * 26, "status": "succeeded", "output": output, "logs": "done\n", "metrics": {"predict_time": 12.5, "total_time": 20}}
    return predictions.parse(body | more)


def ended(**fields):
    now = timezone.now()
    fields = {"state": State.COMPLETED, "prediction_id": "p" * 26, "ended_at": now - timedelta(minutes=1)} | fields
    return JobFactory(**fields)


# --- What an end says --------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_all_references_and_the_figures_of_an_end_are_kept():
    job = JobFactory(prediction_id="p" * 26)

    progress.record(
        job, succeeded({"lora": "https://replicate.delivery/x/a.safetensors", "more": ["https://hub.example/acme"]}), cause="poll"
    )

    job = Job.objects.get()
    assert job.outputs == [
        {"reference": "https://replicate.delivery/x/a.safetensors", "key": "provider-output/1/a.safetensors"},
        {"reference": "https://hub.example/acme"},
    ]
    assert (job.metrics, job.archived_at is not None, logs.read(job)) == ({"predict_time": 12.5, "total_time": 20}, True, "done\n")
    assert archives.archive_of(job).state == "pending"


@pytest.mark.parametrize(
    ("url", "is_there"),
    [
        ("https://replicate.delivery/x/a", True),
        ("https://tjzk.replicate.delivery/a", True),
        ("http://127.0.0.1:8001/files/a", True),
        ("http://replicate.delivery/x/a", False),
        ("https://replicate.delivery:8443/a", False),
        ("https://replicate.delivery.evil.example/a", False),
        ("https://evilreplicate.delivery/a", False),
        ("https://me@replicate.delivery/a", False),
        ("http://127.0.0.1:8002/files/a", False),
        ("http://169.254.169.254/latest", False),
        ("https://[", False),
    ],
)
def test_only_the_providers_own_hosts_are_fetched_from(url, is_there):
    assert outputs.is_at_provider(url, base_url="http://127.0.0.1:8001") == is_there


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://x/a/lora.safetensors?sig=1", "lora.safetensors"),
        ("https://x/a/..%2f..%2fetc", "etc"),
        ("https://x/%2e%2e", "file"),
        ("https://x/", "file"),
    ],
)
def test_a_files_name_leads_nowhere_else(url, name):
    assert outputs.name_in(url) == name


# --- Files at the provider ---------------------------------------------------------------------------------


@pytest.mark.django_db
def test_files_at_the_provider_come_into_our_storage_with_their_hash_and_without_our_token(files):
    files.says = {"/a/lora.safetensors": (302, b"/b/lora.safetensors"), "/b/lora.safetensors": (200, WEIGHTS)}
    job = JobFactory(prediction_id="p" * 26)
    progress.record(job, succeeded(f"{files.url}/a/lora.safetensors"), cause="poll")
    ResultDelivery.objects.create(job=job, destination="local")

    results.archive(Job.objects.get())
    results.archive(Job.objects.get())

    job = Job.objects.get()
    artifact = job.artifacts.get()
    assert (artifact.key, artifact.kind, artifact.size_bytes) == ("provider-output/1/lora.safetensors", "weights", len(WEIGHTS))
    assert artifact.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    with objects.open_artifact(artifact) as stored:
        assert stored.read() == WEIGHTS
    assert [authorization for _, authorization in files.asked] == [None, None]
    assert (archives.archive_of(job).state, job.rescued_at is not None, job.cleaned_up_at is not None) == ("complete", True, True)
    assert ResultDelivery.objects.get().state == "delivered"


@pytest.mark.django_db
def test_a_file_that_is_away_or_cut_is_tried_again_and_one_that_is_gone_is_lost(files):
    files.says = {"/away": (503, b""), "/cut": (200, WEIGHTS)}
    job = JobFactory(prediction_id="p" * 26)
    progress.record(job, succeeded([f"{files.url}/{name}" for name in ("away", "cut", "gone")]), cause="poll")

    results.archive(Job.objects.get())
    early = Job.objects.get()
    files.says = {"/away": (200, WEIGHTS), "/cut": (404, b"")}
    Job.objects.update(try_after=None)
    results.archive(Job.objects.get())

    late = Job.objects.get()
    archive = archives.archive_of(late)
    assert (archives.archive_of(early).state, early.cleaned_up_at) == ("pending", None)
    assert [artifact.key for artifact in late.artifacts.all()] == ["provider-output/1/away"]
    assert archive.state == "partial"
    assert [(loss.part, loss.name, loss.reason) for loss in archive.lost] == [
        ("file", "provider-output/2/cut", "The provider answers 404."),
        ("file", "provider-output/3/gone", "The provider answers 404."),
    ]
    assert all(loss.at is not None for loss in archive.lost)
    assert late.events.get(cause="archive").detail.startswith("Could not be saved before Replicate removed it: file provider-output/2/cut")


@pytest.mark.django_db
def test_a_file_that_leads_elsewhere_is_not_followed_and_one_without_end_is_not_kept(files, monkeypatch):
    monkeypatch.setattr(objects, "MAX_OBJECT_BYTES", 100)
    files.says = {"/away": (302, b"http://127.0.0.1:9/inside"), "/large": (200, WEIGHTS)}
    job = JobFactory(prediction_id="p" * 26)
    progress.record(job, succeeded([f"{files.url}/away", f"{files.url}/large"]), cause="poll")

    results.archive(Job.objects.get())

    assert not job.artifacts.exists()
    assert [loss.reason for loss in archives.archive_of(Job.objects.get()).lost] == [
        "The file is not at one of the provider's own addresses.",
        "The file is larger than any that we keep.",
    ]


# --- First of all ------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_what_is_not_rescued_comes_before_any_number_of_others_and_longest_ended_first(monkeypatch):
    monkeypatch.setattr(results, "MOST_AT_ONCE", 2)
    now = timezone.now()
    for minutes in (90, 80, 70):
        ended(prediction_id=f"r{minutes:025d}", rescued_at=now, ended_at=now - timedelta(minutes=minutes))
    late = ended(ended_at=now - timedelta(minutes=30))
    later = ended(prediction_id="l" * 26, ended_at=now - timedelta(minutes=20))

    found = results.uncleaned(now=now)

    assert found[:2] == [late, later]
    assert len(found) == 4


@pytest.mark.django_db
def test_a_credential_that_rests_is_not_hammered_for_its_ended_jobs(at_provider, account):
    job = ended(team=at_provider.team, credential=at_provider.credential)
    account.rule(call_status=503)

    results.archive(job)
    Job.objects.update(try_after=None)
    results.archive(job)

    assert AccountWatch.objects.get().failures == 1
    assert Job.objects.get().cleaned_up_at is None


# --- The alarm ---------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_after_forty_minutes_owners_and_staff_are_told_once_and_the_page_says_so(client, monkeypatch):
    monkeypatch.setattr(tasks.archive, "delay", lambda **_: None)
    now = timezone.now()
    job = ended(ended_at=now - timedelta(minutes=41), archived_at=None)
    owner, staff = make_member(job, Role.OWNER), UserFactory(is_staff=True)
    make_member(job, Role.LEAD)
    AccountWatch.objects.create(team=job.team, credential=job.credential, failures=2, error="The proxy refuses us.")
    fresh = ended(prediction_id="f" * 26, team=job.team, ended_at=now - timedelta(minutes=39))

    tasks.sweep()
    tasks.sweep()

    assert {letter.person for letter in Letter.objects.filter(event="archive_late")} == {owner.user, staff}
    assert Letter.objects.filter(event="archive_late").count() == 2
    assert Letter.objects.first().facts["reason"] == "unanswered"
    assert [event.detail for event in job.events.filter(cause="archive")] == [rescuing.LATE]
    assert not fresh.events.exists()
    client.force_login(owner.user)
    page = client.get(reverse("jobs:detail", args=[job.team.slug, job.job_id])).text
    assert page.count("are not saved here yet") == 1
    _, key = make_token(owner)
    said = client.get(f"/api/cloud/jobs/{job.job_id}", headers={"Authorization": f"Bearer {key}"}).json()["job"]["archive"]
    assert (said["state"], said["is_late"], said["lost"]) == ("pending", True, [])


@pytest.mark.django_db
def test_the_mail_says_what_is_in_the_way_in_the_words_of_its_language(monkeypatch):
    monkeypatch.setattr(tasks.archive, "delay", lambda **_: None)
    now = timezone.now()
    unanswered = ended(ended_at=now - timedelta(minutes=41), archived_at=None)
    refused = ended(prediction_id="f" * 26, team=unanswered.team, ended_at=now - timedelta(minutes=41), archived_at=None)
    refused.credential.health = CredentialHealth.REFUSED
    refused.credential.save()
    make_member(unanswered, Role.OWNER)
    AccountWatch.objects.create(team=unanswered.team, credential=unanswered.credential, failures=2, error="The proxy refuses us.")

    rescuing.watch(now=now)

    texts = [render_to_string("mail/archive_late.txt", letter.facts) for letter in Letter.objects.order_by("pk")]
    assert sorted(letter.facts["reason"] for letter in Letter.objects.all()) == ["refused", "unanswered"]
    assert ["refuses the team's token" in text for text in texts].count(True) == 1
    assert not any("proxy" in text for text in texts)


@pytest.mark.django_db
def test_what_nobody_could_ask_for_in_a_day_is_given_up():
    now = timezone.now()
    job = ended(ended_at=now - timedelta(hours=25), outputs=[{"reference": "https://replicate.delivery/a", "key": "provider-output/1/a"}])

    rescuing.watch(now=now)

    archive = archives.archive_of(Job.objects.get(pk=job.pk))
    assert [loss.part for loss in archive.lost] == ["log", "metrics", "file"]
    assert {loss.at for loss in archive.lost} == {now}


# --- Lost --------------------------------------------------------------------------------------------------


def test_a_log_that_was_purged_before_its_end_came_is_shown_as_lost_from_there(client, at_provider, account, fresh):
    run = account.create(inputs())
    account.http.post(f"/v1/predictions/{run['id']}/cancel")
    account.wait_until(run, "canceled", "failed")
    now = timezone.now()
    job = JobFactory(team=at_provider.team, credential=at_provider.credential, prediction_id=run["id"], created_at_provider=now)
    progress.record(job, predictions.parse({"id": run["id"], "status": "processing", "logs": "the beginning\n"}), cause="poll")
    account.sandbox.control(f"predictions/{run['id']}/purge", now=True)
    removed = predictions.parse(account.get(run) | {"metrics": {"predict_time": 9.0, "total_time": 10.0}})

    progress.record(job, removed, cause="poll")
    results.archive(fresh(job))

    job = fresh(job)
    archive = archives.archive_of(job)
    assert (archive.state, [loss.part for loss in archive.lost], archive.lost[0].at) == ("partial", ["log_end"], job.provider_forgot_at)
    client.force_login(make_member(job, Role.OWNER).user)
    page = client.get(reverse("jobs:detail", args=[job.team.slug, job.job_id])).text
    assert "the beginning" in page
    assert "The end of this log is lost" in page
    assert page.count('id="archive-title"') == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "state", "lost"),
    [
        ({"archived_at": timezone.now()}, "complete", []),
        ({}, "pending", []),
        ({"state": State.RUNNING}, "pending", []),
        ({"prediction_id": None, "state": State.FAILED}, "complete", []),
        ({"prediction_id": None, "state": State.FAILED, "error": "unknown_at_provider: …"}, "lost", ["log"]),
        ({"provider_forgot_at": timezone.now()}, "lost", ["log", "output", "metrics"]),
        ({"provider_forgot_at": timezone.now(), "state": State.FAILED, "metrics": {"predict_time": 3}}, "lost", ["log"]),
        ({"provider_forgot_at": timezone.now(), "state": State.CANCELLED, "metrics": {"predict_time": 0}}, "complete", []),
        ({"provider_forgot_at": timezone.now(), "state": State.CANCELLED, "provider_status": "aborted"}, "complete", []),
    ],
)
def test_how_complete_our_copy_is(fields, state, lost):
    archive = archives.archive_of(ended(**fields))

    assert (archive.state, [loss.part for loss in archive.lost]) == (state, lost)


@pytest.mark.django_db
def test_a_page_of_a_job_that_was_archived_says_nothing_of_losses(client):
    job = ended(archived_at=timezone.now(), rescued_at=timezone.now())
    client.force_login(make_member(job, Role.OWNER).user)

    page = client.get(reverse("jobs:detail", args=[job.team.slug, job.job_id])).text

    assert 'id="job-archive" hx-swap-oob="true" hidden' in page
    assert "archive-title" not in page
