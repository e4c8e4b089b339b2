"""Having a job in hand, and what a worker that is killed or sleeps too long leaves to the next one."""

from datetime import timedelta

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from jobs.models import Job, LaunchIntent, ProviderUpload
from jobs.services import dataflow, launching, results
from jobs.services.dispatch import dispatch
from jobs.services.leases import lease
from jobs.states import State


@pytest.fixture
def job(at_provider, account):
    """A job whose turn it is, and that stays in the provider's queue once it is there."""
    account.rule(queue_seconds=1_000_000)
    job = at_provider.submit(max_seconds=3600)
    assert dispatch() == [job]
    return job


def test_a_lease_is_given_back_by_its_holder(job, fresh):
    with lease(job) as ours, lease(job) as theirs:
        assert (ours, theirs) == (True, False)
        assert fresh(job).leased_until > timezone.now()

    assert fresh(job).leased_until is None


def test_a_lease_that_another_worker_has_taken_over_is_not_given_back(job, fresh):
    others = timezone.now() + timedelta(minutes=1)

    with lease(job):
        Job.objects.filter(pk=job.pk).update(leased_until=others)

    assert fresh(job).leased_until == others


def test_a_worker_that_slept_through_its_lease_does_not_call_while_another_ones_call_is_open(job, fresh, predictions, monkeypatch):
    prepare = dataflow.prepare
    now = timezone.now()

    def prepare_slowly(*given):
        prepared = prepare(*given)
        LaunchIntent.objects.create(job=job, version=prepared.version, first_call_at=now, called_at=now)  # the other worker's
        return prepared

    monkeypatch.setattr(dataflow, "prepare", prepare_slowly)

    launching.launch(fresh(job))

    assert (fresh(job).state, fresh(job).intent.is_settled, predictions()) == (State.UPLOADING, False, [])


def test_the_copy_of_an_upload_whose_answer_was_lost_is_deleted_too(job, fresh, account, monkeypatch):
    def lose_the_answer(self, *given, **named):
        upload(self, *given, **named)
        raise ConnectionError("killed")

    with monkeypatch.context() as dying:
        upload = dataflow.Gateway.upload
        dying.setattr(dataflow.Gateway, "upload", lose_the_answer)
        with pytest.raises(ConnectionError):
            launching.launch(fresh(job))
    launching.launch(fresh(job))
    copies = account.http.get("/v1/files").json()["results"]
    assert [copy["metadata"] for copy in copies] == [{"job": job.job_id}] * 2
    Job.objects.filter(pk=job.pk).update(state=State.FAILED, ended_at=timezone.now())

    results.archive(fresh(job))

    assert account.http.get("/v1/files").json()["results"] == []
    assert ProviderUpload.objects.get(job=job).deleted_at is not None


def test_what_a_killed_worker_had_packed_is_removed_behind_the_job(job, fresh):
    left = django_settings.DATA_DIR / "packing" / f"{job.job_id}-abcdefgh" / f".{job.job_id}.zip.0123.partial"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half an archive")
    launching.launch(fresh(job))
    Job.objects.filter(pk=job.pk).update(state=State.FAILED, ended_at=timezone.now())

    results.archive(fresh(job))

    assert list((django_settings.DATA_DIR / "packing").glob(f"*{job.job_id}*")) == []
