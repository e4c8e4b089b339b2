"""A suspended team: nothing new goes to the provider, and what is there comes home, with its result and its money."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts import teams
from billing import ledger
from jobs.models import Artifact, Job, LaunchIntent, ProviderSettings, ResultDelivery
from jobs.models.results import KeyPurpose
from jobs.services import dataflow, launching, polling, results
from jobs.services.dispatch import dispatch
from jobs.storage import keys
from tests.factories import MembershipFactory, UserFactory
from tests.jobs.factories import ArtifactFactory
from tests.webhooks.deliveries import address_of, body_of, make_job, signed
from webhooks import applying
from webhooks.models import Delivery


def suspend(team):
    teams.suspend(team, by=UserFactory(is_staff=True), reason="unpaid")


def release(team):
    teams.release(team, by=UserFactory(is_staff=True), reason="paid")


def loaded():
    """The only job as its row says now, which has no intent yet."""
    return Job.objects.select_related("team", "credential", "hold", "price_line").get()


@pytest.fixture
def launched(at_provider, account):
    """A job of a team with the sandbox as its provider, whose turn it is."""
    account.rule(queue_seconds=1_000_000)
    job = at_provider.submit(max_seconds=3600)
    assert dispatch() == [job]
    return job


@pytest.mark.django_db
def test_a_webhook_for_a_job_of_a_suspended_team_is_taken_and_settles_its_money(no_provider):
    job = make_job()
    suspend(job.team)
    body = body_of()

    answer = Client().post(address_of(job), body, content_type="application/json", headers=signed(body))
    applying.apply(Delivery.objects.get())

    job.refresh_from_db()
    assert (answer.status_code, job.state, job.cost) == (200, "completed", 97_988)
    assert (job.team.holds.open().count(), ledger.unbalanced_holds(job.team)) == (0, [])


@pytest.mark.django_db
def test_polling_goes_on_for_the_jobs_of_a_suspended_team(no_provider):
    job = make_job()
    suspend(job.team)

    assert polling.poll_due(now=timezone.now() + timedelta(hours=1)) == 1


@pytest.mark.django_db
def test_the_result_of_a_suspended_teams_job_is_stored_and_delivered(no_provider, settings, tmp_path):
    settings.STORAGES = settings.STORAGES | {
        "artifacts": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path}}
    }
    job = make_job(destination="local", state="running")
    pair = keys.issue(job=job, purpose=KeyPurpose.RESULTS, expires_at=timezone.now() + timedelta(hours=1))
    ResultDelivery.objects.create(job=job, destination="local")
    suspend(job.team)

    path = f"/api/cloud/storage/outputs/{job.job_id}/pytorch_lora_weights.safetensors"
    answer = Client().put(path, b"weights", content_type="text/plain", headers={"X-Upload-Token": pair.secret})
    ended_at = timezone.now() - timedelta(minutes=1)
    Job.objects.filter(pk=job.pk).update(state="completed", ended_at=ended_at, archived_at=ended_at)
    job.refresh_from_db()
    results.archive(job)

    assert (answer.status_code, Artifact.objects.get().size_bytes) == (200, 7)
    assert ResultDelivery.objects.get().state == "delivered"


def test_what_was_not_sent_yet_waits_for_the_teams_release_and_goes_on_then(launched, predictions):
    suspend(launched.team)
    launching.launch(loaded())
    held = Job.objects.get()
    release(launched.team)
    Job.objects.update(try_after=None)
    launching.launch(loaded())

    assert (held.state, held.waiting_reason, held.prediction_id) == ("uploading", "paused", None)
    assert (Job.objects.get().state, len(predictions())) == ("queued", 1)


def test_a_team_that_is_suspended_while_its_data_is_packed_sends_nothing(launched, predictions, monkeypatch):
    prepare = dataflow.prepare

    def prepare_and_suspend(job, replicate):
        prepared = prepare(job, replicate)
        suspend(job.team)
        return prepared

    monkeypatch.setattr(dataflow, "prepare", prepare_and_suspend)
    launching.launch(loaded())

    assert (predictions(), LaunchIntent.objects.exists(), Job.objects.get().state) == ([], False, "uploading")


def test_a_launch_in_doubt_is_searched_for_though_the_team_is_suspended(launched, account, predictions, fresh):
    ProviderSettings.objects.create(team=launched.team, http_timeout="2")
    account.rule(hold_create_answer_seconds=4, times=1)
    launching.launch(loaded())
    suspend(launched.team)
    Job.objects.update(try_after=None)

    launching.launch(fresh(launched))

    assert (fresh(launched).state, [item["id"] for item in predictions()]) == ("queued", [fresh(launched).prediction_id])


@pytest.mark.django_db
def test_members_of_a_suspended_team_read_and_fetch_their_results(no_provider, client):
    job = make_job(destination="local")
    member = MembershipFactory(team=job.team)
    ArtifactFactory(job=job)
    suspend(job.team)
    client.force_login(member.user)

    read = client.get(f"/api/cloud/jobs/{job.job_id}/artifacts", headers={"X-Team": job.team.slug})
    page = client.get(f"/t/{job.team.slug}/jobs/{job.job_id}/")

    assert (read.status_code, page.status_code) == (200, 200)
    assert "This team is suspended." in page.content.decode()
