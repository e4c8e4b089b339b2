"""After the end: what arrived, the provider's copy deleted, the keys revoked; and what is thrown away in time."""

from datetime import timedelta

import pytest
import time_machine
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone

from accounts.models import AuditLine
from jobs.models import Blob, IdempotencyKey, Job, LogChunk, ProviderUpload, ResultDelivery
from jobs.models.results import KeyPurpose
from jobs.services import deliveries, results, tidying
from jobs.states import State
from jobs.storage import keys
from tests.jobs.factories import ArtifactFactory, JobFactory
from tests.jobs.sandbox.servers import inputs


def ended(state=State.COMPLETED, *, destination="local", **fields):
    """A job that ended long enough ago for its last files, with its delivery and a key."""
    now = timezone.now()
    fields = {"ended_at": now - timedelta(minutes=1), "archived_at": now, "output_url": "https://hub.example/acme"} | fields
    job = JobFactory(state=state, destination=destination, **fields)
    ResultDelivery.objects.create(job=job, destination=destination)
    keys.issue(job=job, purpose=KeyPurpose.RESULTS, expires_at=now + timedelta(hours=1))
    return job


def delivery_of(job):
    return ResultDelivery.objects.get(job=job)


@pytest.mark.django_db
def test_weights_in_our_storage_are_a_delivery_with_a_receipt():
    job = ended()
    weights = ArtifactFactory(job=job, key="lora.safetensors", size_bytes=4)
    ArtifactFactory(job=job, key="readme.md", kind="other", size_bytes=2)

    results.archive(job)

    delivery = delivery_of(job)
    assert (delivery.state, delivery.attempts, delivery.target) == ("delivered", 1, f"outputs/{job.job_id}/")
    assert delivery.receipt == {
        "files": 2, "size_bytes": 6, "weights": [{"key": "lora.safetensors", "sha256": weights.sha256, "size_bytes": 4}],
    }  # fmt: skip
    assert Job.objects.get(pk=job.pk).cleaned_up_at is not None
    assert job.storage_keys.get().revoked_at is not None


@pytest.mark.django_db
def test_the_last_file_is_waited_for_a_moment_and_then_missed_in_words():
    job = ended(ended_at=timezone.now())

    results.archive(job)
    early = delivery_of(job).state, job.storage_keys.get().revoked_at
    Job.objects.update(ended_at=timezone.now() - results.LAST_FILES, try_after=None)
    results.archive(job)

    late = delivery_of(job)
    assert early == ("waiting", None)
    assert (late.state, late.error) == (
        "failed", "The trainer reported success, but no weights arrived in our storage. See the end of the log.",
    )  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_a_run_that_did_not_complete_delivers_nothing(state):
    job = ended(state)

    results.archive(job)

    assert (delivery_of(job).state, delivery_of(job).error) == ("failed", "The run did not complete.")


@pytest.mark.django_db
def test_what_the_trainer_took_elsewhere_is_looked_at_after_the_job_was_cleaned_up_behind():
    job = ended(destination="hub")

    results.archive(job)

    found = delivery_of(job)
    assert (found.state, found.receipt, found.delivered_at) == ("delivering", {"said_by_trainer": "https://hub.example/acme"}, None)
    assert deliveries.due(now=timezone.now()) == [found]
    assert Job.objects.get(pk=job.pk).cleaned_up_at is not None


@pytest.mark.django_db
def test_a_job_that_is_not_over_or_in_hand_is_left_alone():
    running = ended(State.RUNNING, ended_at=None)
    in_hand = ended(leased_until=timezone.now() + timedelta(minutes=1))

    results.archive(running)
    results.archive(in_hand)

    assert [delivery.state for delivery in ResultDelivery.objects.all()] == ["waiting", "waiting"]


def test_the_providers_copy_is_deleted_once_and_audited(at_provider, account):
    file = account.upload(b"zip")
    job = ended(State.FAILED, team=at_provider.team, credential=at_provider.credential)
    ProviderUpload.objects.create(job=job, archive_sha256="a" * 64, archive_bytes=3, file_id=file["id"])

    results.archive(job)
    results.archive(job)

    line = AuditLine.objects.get(event_type="job.data_deleted")
    assert account.http.get(f"/v1/files/{file['id']}").status_code == 404
    assert (line.target_id, line.after) == (job.job_id, {"archive_sha256": "a" * 64, "bytes": 3})
    assert Job.objects.get(pk=job.pk).cleaned_up_at is not None


def test_a_copy_that_cannot_be_deleted_now_is_deleted_later(at_provider, account, settings):
    file = account.upload(b"zip")
    job = ended(State.FAILED, team=at_provider.team, credential=at_provider.credential)
    ProviderUpload.objects.create(job=job, archive_sha256="a" * 64, archive_bytes=3, file_id=file["id"])
    settings.REPLICATE_BASE_URL = "http://127.0.0.1:9"

    results.archive(job)
    waits = results.uncleaned(now=timezone.now()), results.uncleaned(now=timezone.now() + results.TRY_AGAIN_AFTER)
    settings.REPLICATE_BASE_URL = account.sandbox.url
    Job.objects.update(try_after=None)
    results.archive(job)

    assert waits == ([], [job])
    assert account.http.get("/v1/files").json()["results"] == []
    assert results.uncleaned(now=timezone.now()) == []


@pytest.mark.django_db
def test_a_copy_that_we_may_not_delete_any_more_is_gone_when_it_expires(no_provider):
    job = ended(destination="hub")
    upload = ProviderUpload.objects.create(
        job=job, archive_sha256="a" * 64, archive_bytes=1, file_id="f", expires_at=timezone.now() + timedelta(hours=1)
    )

    results.archive(job)
    before = ProviderUpload.objects.get().deleted_at
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        results.archive(job)

    assert (before, ProviderUpload.objects.get().deleted_at) == (None, upload.expires_at)
    assert Job.objects.get(pk=job.pk).cleaned_up_at is not None


def test_the_log_is_rescued_before_anything_else(at_provider, account):
    prediction = account.create(inputs())
    account.http.post(f"/v1/predictions/{prediction['id']}/cancel")
    account.wait_until(prediction, "canceled")
    job = ended(State.CANCELLED, team=at_provider.team, credential=at_provider.credential, archived_at=None, prediction_id=prediction["id"])

    results.archive(job)

    assert Job.objects.get(pk=job.pk).archived_at is not None


# --- Tidying ----------------------------------------------------------------------------------------------


@pytest.fixture
def long_ago(settings):
    settings.LOG_RETENTION_DAYS = 30
    return timezone.now() - timedelta(days=31)


@pytest.mark.django_db
def test_old_logs_and_used_keys_go_and_young_ones_stay(long_ago):
    old, young, running = ended(ended_at=long_ago), ended(), ended(State.RUNNING, ended_at=None, submitted_at=long_ago)
    for job in (old, young, running):
        LogChunk.objects.create(job=job, start=0, text="x")
        IdempotencyKey.objects.create(team=job.team, key="k", body={}, job=job, created_at=job.ended_at or timezone.now())
    IdempotencyKey.objects.filter(job=young).update(created_at=timezone.now() - timedelta(hours=23))

    tidying.tidy()

    assert set(LogChunk.objects.values_list("job", flat=True)) == {young.pk, running.pk}
    assert set(IdempotencyKey.objects.values_list("job", flat=True)) == {young.pk, running.pk}


@pytest.mark.django_db
def test_secrets_of_removed_credentials_are_forgotten_when_no_job_needs_them():
    over, active = ended(cleaned_up_at=timezone.now()), JobFactory()
    for job in (over, active):
        job.credential.removed_at = timezone.now()
        job.credential.save()

    tidying.tidy()

    over.credential.refresh_from_db()
    active.credential.refresh_from_db()
    assert (over.credential.secret, active.credential.secret != "") == ("", True)


@pytest.mark.django_db
def test_bytes_that_a_refused_upload_left_are_thrown_away_after_a_day(ready, django_capture_on_commit_callbacks):
    store = storages["datasets"]
    day = timezone.now() - timedelta(hours=25)
    left, fresh = (
        Blob.objects.create(team=ready.team, sha256=letter * 64, size_bytes=1, stored_as=store.save(f"x/{letter}", ContentFile(b"x")))
        for letter in "ab"
    )
    Blob.objects.exclude(pk=fresh.pk).update(created_at=day)
    used = ready.version.files.get().blob

    with django_capture_on_commit_callbacks(execute=True):
        tidying.tidy()

    assert set(Blob.objects.all()) == {fresh, used}
    assert [store.exists(blob.stored_as) for blob in (left, fresh, used)] == [False, True, True]
