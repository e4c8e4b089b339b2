"""Keys, their end, what a fault leaves behind (nothing), and what is tidied away."""

import errno
import os
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from jobs.models import Artifact, MultipartUpload, StorageKey
from jobs.models.results import KeyPurpose
from jobs.storage import files, keys, multipart, objects
from jobs.storage.errors import KeyEnded, StorageFull
from jobs.storage.files import Staged
from jobs.storage.objects import Arrival
from tests.jobs.factories import JobFactory

NOW = timezone.now()
# The module is read when the run begins, and a run may take hours.
LATER = NOW + timedelta(days=1)
ARRIVAL = Arrival(size=4, sha256="0" * 64, etag="0", content_type="text/plain", metadata={})


@pytest.fixture(autouse=True)
def outputs(settings, tmp_path):
    """Artifacts go to a folder of the test's own."""
    settings.STORAGES = settings.STORAGES | {
        "artifacts": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path / "outputs"}}
    }
    return tmp_path / "outputs"


@pytest.fixture
def pair(db):
    return keys.issue(job=JobFactory(), purpose=KeyPurpose.RESULTS, expires_at=LATER)


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def place_of(pair, key):
    return f"{pair.job.team.slug}/{pair.job.job_id}/{key}"


@pytest.mark.django_db
def test_a_key_pair_is_made_once_for_a_job_and_a_purpose():
    job = JobFactory()

    first = keys.issue(job=job, purpose=KeyPurpose.RESULTS, expires_at=NOW)
    again = keys.issue(job=job, purpose=KeyPurpose.RESULTS, expires_at=LATER)
    other = keys.issue(job=job, purpose=KeyPurpose.DATASET, expires_at=LATER)

    assert (again.access_key, again.secret, again.expires_at) == (first.access_key, first.secret, LATER)
    assert (first.bucket, other.bucket, first.prefix) == ("outputs", "datasets", f"{job.job_id}/")
    assert (len(first.access_key), first.access_key[:2], len(first.secret)) == (20, "TH", 40)
    assert first.secret != other.secret


@pytest.mark.django_db
def test_a_secret_is_not_in_the_database_in_clear(pair):
    with connection.cursor() as cursor:
        cursor.execute("SELECT storage_key::text FROM jobs_storagekey storage_key")
        row = cursor.fetchone()[0]

    assert pair.access_key in row
    assert pair.secret not in row
    assert pair.secret not in repr(pair)


@pytest.mark.django_db
def test_a_revoked_key_pair_does_not_come_back(pair):
    assert keys.revoke(pair.job, now=NOW) == 1
    assert keys.revoke(pair.job, now=LATER) == 0

    keys.issue(job=pair.job, purpose=KeyPurpose.RESULTS, expires_at=LATER + timedelta(days=1))

    assert StorageKey.objects.get().revoked_at == NOW
    assert StorageKey.objects.get().expires_at == LATER


@pytest.mark.django_db
def test_a_file_that_was_on_its_way_when_the_key_was_revoked_is_not_kept(pair, outputs):
    staged = Staged([b"late"])
    keys.revoke(pair.job, now=NOW)

    with pytest.raises(KeyEnded):
        objects.keep(pair, "x", staged, ARRIVAL)

    assert not Artifact.objects.exists()
    assert everything(outputs) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("earlier", [None, b"earlier"])
def test_a_commit_that_fails_puts_the_disk_back_as_it_was(earlier, outputs):
    pair = keys.issue(job=JobFactory(), purpose=KeyPurpose.RESULTS, expires_at=LATER)
    if earlier:
        objects.keep(pair, "x", Staged([earlier]), ARRIVAL)

    def fail_at_commit():
        # A constraint that is checked only at the very end: the file is in its place by then.
        with connection.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE late (job bigint REFERENCES pg_temp.early DEFERRABLE INITIALLY DEFERRED)")
            cursor.execute("INSERT INTO late VALUES (1)")

    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE early (id bigint PRIMARY KEY)")
    with pytest.raises(Exception, match="violates foreign key"):
        objects.keep(pair, "x", Staged([b"later"]), ARRIVAL, finish=fail_at_commit)
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE early CASCADE")

    assert everything(outputs) == ([place_of(pair, "x")] if earlier else [])
    assert [(outputs / artifact.stored_as).read_bytes() for artifact in Artifact.objects.all()] == ([earlier] if earlier else [])


@pytest.fixture
def full_disk(monkeypatch):
    """The disk has room for the first bytes only. It says so when they are forced out, as a quota or a network drive does."""

    def fsync(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", fsync)


@pytest.mark.django_db
def test_a_full_disk_is_told_and_nothing_is_half_visible(pair, outputs, full_disk):
    path = f"/api/cloud/storage/outputs/{pair.job.job_id}/x"

    answer = Client().put(path, b"data", content_type="text/plain", headers={"X-Upload-Token": pair.secret})

    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
    assert answer.json()["detail"] == "The server's disk is full. Nothing was stored."
    assert not Artifact.objects.exists()
    assert everything(outputs) == []


@pytest.mark.django_db
def test_a_full_disk_keeps_the_object_that_was_there(pair, outputs, monkeypatch):
    objects.keep(pair, "x", Staged([b"earlier"]), ARRIVAL)
    monkeypatch.setattr(files.os, "fsync", lambda _descriptor: (_ for _ in ()).throw(OSError(errno.EDQUOT, "quota")))

    with pytest.raises(StorageFull):
        objects.keep(pair, "x", Staged([b"later"]), ARRIVAL)

    assert (outputs / Artifact.objects.get().stored_as).read_bytes() == b"earlier"
    assert everything(outputs) == [place_of(pair, "x")]


@pytest.mark.django_db
def test_other_faults_of_the_disk_are_not_called_full():
    with pytest.raises(OSError, match="strange"), files.refusing_when_full():
        raise OSError(errno.EIO, "strange")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("pytorch_lora_weights.safetensors", "weights"),
        ("a/b/model.SAFETENSORS", "weights"),
        ("checkpoint-500/pytorch_lora_weights.safetensors", "checkpoint"),
        ("out/checkpoint-500/optimizer.bin", "checkpoint"),
        ("checkpoint-500/samples/1.png", "sample"),
        ("samples/1.webp", "sample"),
        ("README.md", "other"),
        ("checkpoint-500", "other"),
    ],
)
def test_a_file_is_what_its_name_says(key, kind):
    assert objects.kind_of(key) == kind


@pytest.mark.django_db
def test_abandoned_uploads_are_tidied_away_and_running_ones_are_not(pair, outputs, django_capture_on_commit_callbacks):
    uploads = {name: multipart.begin(pair, name, content_type="text/plain", metadata={}) for name in ("running", "abandoned")}
    for name, upload in uploads.items():
        with Staged([name.encode()]) as staged:
            part = staged.place(f".multipart/{upload.upload_id}/00001-x")
        upload.parts.create(number=1, size_bytes=1, etag="0", stored_as=part)
    MultipartUpload.objects.filter(key="abandoned").update(started_at=NOW - timedelta(hours=25))
    for name, age in {"fresh": 0, "stale": 25 * 3600, "../.multipart/orphan/00001-x": 25 * 3600}.items():
        path = outputs / ".incoming" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        os.utime(path, (NOW.timestamp() - age,) * 2)

    with django_capture_on_commit_callbacks(execute=True):
        removed = multipart.tidy(NOW)

    assert removed == 3
    assert everything(outputs) == [".incoming/fresh", f".multipart/{uploads['running'].upload_id}/00001-x"]
    assert MultipartUpload.objects.get() == uploads["running"]


@pytest.mark.django_db
def test_uploads_of_an_ended_job_are_tidied_away(pair):
    multipart.begin(pair, "x", content_type="text/plain", metadata={})
    keys.revoke(pair.job, now=NOW)

    assert multipart.tidy(NOW) == 1
    assert not MultipartUpload.objects.exists()


@pytest.mark.django_db
def test_an_artifact_is_opened_by_who_has_it(pair):
    artifact = objects.keep(pair, "x", Staged([b"da", b"ta"]), ARRIVAL)

    with objects.open_artifact(artifact) as file:
        assert file.read() == b"data"


@pytest.mark.django_db
def test_the_last_object_of_a_folder_takes_the_folder_with_it(pair, outputs):
    objects.keep(pair, "a/b/c", Staged([b"data"]), ARRIVAL)
    objects.keep(pair, "a/d", Staged([b"data"]), ARRIVAL)

    objects.delete(pair, "a/b/c")

    assert not (outputs / place_of(pair, "a/b")).exists()
    assert everything(outputs) == [place_of(pair, "a/d")]
