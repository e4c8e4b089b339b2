"""Bringing a job to the provider: one prediction whatever happens, and a reason whenever it has to wait."""

import errno
import json
from datetime import datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import time_machine
from django.conf import settings as django_settings
from django.utils import timezone

from accounts.models import AuditLine, Credential
from jobs import packing
from jobs.models import Job, LaunchIntent, ProviderSettings, ProviderUpload, StorageKey
from jobs.replicate.gateway import Gateway, OutcomeUnknown, Unavailable
from jobs.services import cancelling, dataflow, launching, progress, results
from jobs.services.dispatch import dispatch
from tests.billing.factories import USD, race
from tests.factories import CredentialFactory
from tests.jobs.ready import make_ready
from tests.jobs.sandbox.servers import free_port, inputs
from tests.jobs.test_gateway import Provider

RATE = 0.000975


@pytest.fixture
def job(at_provider, account):
    """A job whose turn it is, and that stays in the provider's queue once it is there."""
    account.rule(queue_seconds=1_000_000)
    job = at_provider.submit(max_seconds=3600)
    assert [job] == dispatch()
    return job


@pytest.fixture
def provider():
    """A provider that answers by a script."""
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture
def launch(fresh):
    """Ring for the job's launch as the sweep does once its pause is over, and return the job as it is then."""

    def ring(job):
        Job.objects.filter(pk=job.pk).update(try_after=None)
        launching.launch(fresh(job))
        return fresh(job)

    return ring


def test_a_launched_job_is_at_the_provider_with_its_marker_its_ceiling_and_its_webhook(job, launch, account):
    job = launch(job)

    at_provider = account.get({"id": job.prediction_id})
    given = at_provider["input"]
    assert (job.state, job.waiting_reason, job.provider_status) == ("queued", "", "starting")
    assert json.loads(given["config_json"])["--output_dir"] == f"output/{job.job_id}"
    assert (given["s3_base_path"], given["s3_access_key"], given["s3_secret_key"]) == (job.job_id, "[REDACTED]", "[REDACTED]")
    assert at_provider["webhook"] == f"http://127.0.0.1:9/api/webhooks/replicate?job={job.job_id}&callback={job.callback_key}"
    assert at_provider["webhook_events_filter"] == ["start", "completed"]
    # The sandbox's clock runs sixty times as fast.
    deadline = datetime.fromisoformat(at_provider["deadline"]) - datetime.fromisoformat(at_provider["created_at"])
    assert deadline == timedelta(seconds=60)
    assert (job.intent.outcome, job.intent.is_settled, job.intent.version) == ("created", True, at_provider["version"])
    assert ProviderUpload.objects.get(job=job).url == given["images"]
    assert job.created_at_provider is not None
    assert job.stop_at == job.created_at_provider + timedelta(seconds=3600)


def test_the_accounts_signing_secret_is_known_before_its_first_webhook_comes(job, launch, account):
    assert job.credential.signing_keys == ""

    job = launch(job)

    assert job.credential.signing_keys == account.http.get("/v1/webhooks/default/secret").json()["key"]


def test_a_second_bell_changes_nothing(job, launch, predictions):
    launch(job)

    launch(job)

    assert len(predictions()) == 1


def test_a_job_whose_answer_was_lost_is_found_and_adopted(job, launch, account, predictions):
    ProviderSettings.objects.create(team=job.team, http_timeout="2")
    account.rule(hold_create_answer_seconds=4, times=1)

    lost = launch(job)
    found = launch(job)

    assert (lost.state, lost.waiting_reason, lost.prediction_id) == ("uploading", "uncertain", None)
    assert (found.state, found.intent.outcome, found.intent.searches) == ("queued", "adopted", 1)
    assert [item["id"] for item in predictions()] == [found.prediction_id]


def test_a_worker_that_dies_between_the_answer_and_its_row_leaves_one_prediction(job, launch, predictions, monkeypatch):
    def die(*_, **__):
        raise RuntimeError("killed")

    with monkeypatch.context() as dying:
        dying.setattr(progress, "record", die)
        with pytest.raises(RuntimeError):
            launch(job)
    assert len(predictions()) == 1

    found = launch(job)

    assert ([item["id"] for item in predictions()], found.intent.outcome) == ([found.prediction_id], "adopted")


def test_not_found_is_believed_only_after_a_while(job, launch, account, predictions):
    account.rule(create_status=502, times=1)
    launch(job)

    early = launch(job)
    given_up_at = timezone.now() - timedelta(seconds=django_settings.NOT_FOUND_AFTER_SECONDS)
    LaunchIntent.objects.update(given_up_at=given_up_at + timedelta(seconds=5))
    still_early = launch(job)
    LaunchIntent.objects.update(given_up_at=given_up_at)
    believed = launch(job)
    none_yet = predictions()
    created = launch(job)

    assert [(each.waiting_reason, each.intent.is_settled) for each in (early, still_early)] == [("uncertain", False)] * 2
    assert (believed.waiting_reason, believed.intent.is_settled, none_yet) == ("", True, [])
    assert (created.state, created.intent.outcome, len(predictions())) == ("queued", "created", 1)
    assert created.intent.first_call_at < created.intent.called_at


def test_a_list_that_was_begun_too_early_is_not_believed_however_long_it_took(job, launch, account, monkeypatch):
    account.rule(create_status=502, times=1)
    given_up_at = launch(job).intent.given_up_at
    look_for = launching._look_for

    def look_slowly(*given):
        found = look_for(*given)
        clock.shift(timedelta(seconds=30))
        return found

    monkeypatch.setattr(launching, "_look_for", look_slowly)
    with time_machine.travel(given_up_at + timedelta(seconds=django_settings.NOT_FOUND_AFTER_SECONDS - 5), tick=False) as clock:
        doubtful = launch(job)

    assert (doubtful.waiting_reason, doubtful.intent.is_settled, doubtful.intent.searches) == ("uncertain", False, 1)


@pytest.mark.parametrize("second_page", ["is missing", "has another shape"])
def test_a_list_of_which_a_page_is_missing_proves_nothing(job, launch, account, settings, provider, monkeypatch, second_page):
    monkeypatch.setattr("jobs.replicate.gateway.time.sleep", lambda _: None)
    account.rule(create_status=502, times=1)
    launch(job)
    LaunchIntent.objects.update(given_up_at=timezone.now() - timedelta(seconds=django_settings.NOT_FOUND_AFTER_SECONDS + 60))
    settings.REPLICATE_BASE_URL = provider.url
    provider.answers(200, {"results": [], "next": f"{provider.url}/v1/predictions?cursor=2"})
    provider.answers(*{"is missing": (503,), "has another shape": (200, {"detail": "no"})}[second_page])

    doubtful = launch(job)

    assert (doubtful.state, doubtful.intent.is_settled, doubtful.intent.outcome) == ("uploading", False, "open")
    assert len(provider.asked) > 1
    assert {asked["method"] for asked in provider.asked} == {"GET"}


def test_the_list_is_asked_for_from_before_the_first_call_on(job, launch, account, settings, provider):
    account.rule(create_status=502, times=1)
    first_call_at = launch(job).intent.first_call_at
    settings.REPLICATE_BASE_URL = provider.url
    provider.answers(200, {"results": [], "next": None})

    launch(job)

    [asked] = provider.asked
    since = datetime.fromisoformat(parse_qs(urlsplit(asked["path"]).query)["created_after"][0])
    assert first_call_at - timedelta(minutes=6) < since < first_call_at


def test_a_worker_that_slept_between_its_intent_and_its_call_does_not_make_the_call(job, launch, predictions, monkeypatch):
    commit_intent = launching._commit_intent

    def commit_and_sleep(*given, **named):
        intent = commit_intent(*given, **named)
        # Meanwhile another worker takes this one for dead, and searches.
        LaunchIntent.objects.update(given_up_at=timezone.now(), searches=1)
        return intent

    monkeypatch.setattr(launching, "_commit_intent", commit_and_sleep)

    slept = launch(job)

    assert (slept.state, slept.intent.is_settled, predictions()) == ("uploading", False, [])


@pytest.mark.parametrize("error", [Unavailable("busy", status=429), OutcomeUnknown("lost")])
def test_an_answer_that_comes_after_another_workers_call_settles_nothing_of_it(job, launch, monkeypatch, error):
    later = timezone.now() + timedelta(minutes=5)

    def answer_late(*_, **__):
        LaunchIntent.objects.update(called_at=later)
        raise error

    monkeypatch.setattr(Gateway, "create", answer_late)

    intent = launch(job).intent

    assert (intent.called_at, intent.is_settled, intent.given_up_at, intent.outcome) == (later, False, None, "open")


def test_a_job_that_was_found_while_its_data_was_packed_is_not_created_again(job, launch, predictions, monkeypatch):
    prepare = dataflow.prepare

    def prepare_while_it_is_found(*given):
        Job.objects.filter(pk=job.pk).update(prediction_id="found-meanwhile")
        return prepare(*given)

    monkeypatch.setattr(dataflow, "prepare", prepare_while_it_is_found)
    launching.launch(Job.objects.select_related("team", "credential").get(pk=job.pk))

    assert (predictions(), LaunchIntent.objects.count()) == ([], 0)


def hide_one(account):
    """A prediction of the same version whose data the provider has removed: nobody can say whose it was."""
    prediction = account.create(inputs())
    account.http.post(f"/v1/predictions/{prediction['id']}/cancel")
    account.wait_until(prediction, "canceled")
    assert account.sandbox.control(f"predictions/{prediction['id']}/purge", now=True).json() == {"purged": 1}


def test_a_run_that_cannot_be_told_apart_any_more_is_charged_to_its_ceiling_and_flagged(job, launch, account, predictions):
    account.rule(create_status=502, times=1)
    launch(job)
    hide_one(account)

    lost = launch(job)

    assert (lost.state, lost.intent.outcome) == ("failed", "abandoned")
    assert lost.error.startswith("unknown_at_provider: ")
    assert (lost.cost, lost.hold.charge, lost.hold.flag) == (round(3600 * RATE * USD), lost.cost, "unknown_at_provider")
    assert len(predictions()) == 1


def test_a_run_that_others_began_later_hides_nothing(job, launch, account):
    account.rule(create_status=502, times=1)
    launch(job)
    hide_one(account)
    LaunchIntent.objects.update(given_up_at=timezone.now() - timedelta(minutes=10))

    believed = launch(job)

    assert (believed.state, believed.intent.is_settled) == ("uploading", True)


def test_after_the_ceiling_and_an_hour_nothing_is_created_any_more(job, launch, account, predictions):
    account.rule(create_status=502, times=1)
    launch(job)
    LaunchIntent.objects.update(called_at=timezone.now() - timedelta(hours=2, seconds=1))

    lost = launch(job)

    assert (lost.state, lost.hold.flag, predictions()) == ("failed", "unknown_at_provider", [])


def test_a_token_that_is_refused_while_in_doubt_does_not_hold_the_money_for_ever(job, launch, account):
    account.rule(create_status=502, times=1)
    launch(job)
    Credential.objects.filter(pk=job.credential.pk).update(secret="r8_" + "0" * 37)

    waiting = launch(job)
    LaunchIntent.objects.update(called_at=timezone.now() - timedelta(hours=2, seconds=1))
    lost = launch(job)

    assert (waiting.state, waiting.waiting_reason) == ("uploading", "credential")
    assert (lost.state, lost.hold.flag) == ("failed", "unknown_at_provider")


def test_a_search_that_is_refused_says_nothing_about_the_job(job, launch, account, settings):
    account.rule(create_status=502, times=1)
    launch(job)
    settings.REPLICATE_BASE_URL = f"{account.sandbox.url}/elsewhere"

    job = launch(job)

    assert (job.state, job.waiting_reason, job.hold.settled_at) == ("uploading", "uncertain", None)


def test_a_busy_provider_is_asked_again_when_it_said(job, launch, account):
    account.rule(create_status=429, times=1)

    busy = launch(job)
    pause = (busy.try_after - timezone.now()).total_seconds()
    gone = launch(job)

    assert (busy.state, busy.waiting_reason, busy.intent.is_settled) == ("uploading", "provider_busy", True)
    assert pause <= 1
    assert (gone.state, gone.intent.searches) == ("queued", 0)


def test_a_busy_provider_does_not_make_a_job_wait_for_longer_than_five_minutes(job, launch, monkeypatch):
    def refuse(*_, **__):
        raise Unavailable("busy", status=429, retry_after=86_400.0)

    monkeypatch.setattr(Gateway, "create", refuse)

    busy = launch(job)

    assert 290 < (busy.try_after - timezone.now()).total_seconds() <= 300


@pytest.mark.parametrize("status", [500, 503, 504])
def test_after_a_fault_of_the_server_the_launcher_searches_before_it_asks_again(job, launch, account, predictions, status):
    account.rule(create_status=status, times=1)

    doubtful = launch(job)
    searched = launch(job)

    assert (doubtful.waiting_reason, doubtful.intent.given_up_at is not None) == ("uncertain", True)
    assert (searched.intent.searches, searched.intent.outcome, predictions()) == (1, "open", [])


def test_a_job_waits_for_credit_and_goes_on_when_there_is_some(job, launch, account):
    account.rule(create_status=402, times=1)

    poor = launch(job)
    poor_health = poor.credential.health
    gone = launch(job)

    assert (poor.state, poor.waiting_reason, poor_health) == ("uploading", "no_credit", "no_credit")
    assert (gone.state, gone.credential.health) == ("queued", "good")


def test_a_job_whose_token_is_refused_takes_the_new_one(job, launch, account):
    Credential.objects.filter(pk=job.credential.pk).update(secret="r8_" + "0" * 37)
    refused = launch(job)
    refused_health = refused.credential.health
    Credential.objects.update(removed_at=timezone.now())
    new = CredentialFactory(team=job.team, secret=account.token)

    gone = launch(job)

    assert (refused.state, refused.waiting_reason, refused_health) == ("uploading", "credential", "refused")
    assert (gone.state, gone.credential) == ("queued", new)


def test_what_the_provider_refuses_fails_without_cost(job, launch, account):
    ProviderSettings.objects.create(team=job.team, version_override=f"simpletuner/advanced-trainer:{'0' * 64}")

    job = launch(job)

    assert (job.state, job.cost, job.hold.charge) == ("failed", 0, 0)
    assert job.error.startswith("Replicate refused the job: Replicate answered 404: ")


def test_a_refused_create_is_a_refusal_and_not_a_doubt(job, launch, account, predictions, monkeypatch):
    # The sandbox checks the version as the real one does; only the intent knows the wrong one here.
    prepare = dataflow.prepare
    monkeypatch.setattr(dataflow, "prepare", lambda *given: dataflow.Prepared(**{**vars(prepare(*given)), "version": "0" * 64}))

    job = launch(job)

    assert (job.state, job.cost, job.intent.outcome, predictions()) == ("failed", 0, "refused", [])
    assert "The specified version does not exist" in job.error


def test_a_job_waits_while_the_provider_is_away_and_goes_on_when_it_is_back(job, launch, settings, account):
    settings.REPLICATE_BASE_URL = f"http://127.0.0.1:{free_port()}"
    away = launch(job)
    settings.REPLICATE_BASE_URL = account.sandbox.url

    back = launch(job)

    assert (away.state, away.waiting_reason, LaunchIntent.objects.count()) == ("uploading", "provider_down", 1)
    assert back.state == "queued"


def test_a_full_disk_is_waited_for(job, launch, monkeypatch):
    def full(*_, **__):
        raise packing.PackingFailed("No space left on device.") from OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(packing, "pack", full)
        waiting = launch(job)

    gone = launch(job)

    assert (waiting.state, waiting.waiting_reason, gone.state) == ("uploading", "disk_full", "queued")


def test_a_job_that_is_cancelled_during_its_upload_is_not_created_and_its_data_is_deleted(
    at_provider, job, launch, fresh, account, predictions, monkeypatch
):
    prepare = dataflow.prepare

    def prepare_and_cancel(*given):
        prepared = prepare(*given)
        cancelling.cancel(job, caller=at_provider.caller)
        # The bell of the job's end rings while the upload is still in hand.
        results.archive(fresh(job))
        return prepared

    monkeypatch.setattr(dataflow, "prepare", prepare_and_cancel)

    cancelled = launch(job)
    results.archive(fresh(job))

    assert (cancelled.state, cancelled.cost, cancelled.hold.charge) == ("cancelled", 0, 0)
    assert (predictions(), account.http.get("/v1/files").json()["results"]) == ([], [])
    assert ProviderUpload.objects.get(job=job).deleted_at is not None
    assert not StorageKey.objects.filter(revoked_at=None).exists()
    assert fresh(job).cleaned_up_at is not None
    assert AuditLine.objects.filter(event_type="job.data_deleted", target_id=job.job_id).count() == 1


def test_a_trainer_that_cannot_unpack_any_more_fails_the_job_in_words(job, launch):
    job.trainer.versions.update(unpacks_archives=False)

    job = launch(job)

    assert (job.state, job.cost) == ("failed", 0)
    assert job.error.startswith("The trainer's newest version cannot unpack archives any more.")


@pytest.mark.django_db(transaction=True)
def test_several_workers_with_the_same_bell_make_one_prediction(settings, account, predictions):
    account.rule(queue_seconds=1_000_000)
    settings.REPLICATE_BASE_URL, settings.PUBLIC_URL = account.sandbox.url, "http://127.0.0.1:9"
    job = make_ready(token=account.token).submit()
    dispatch()

    race(lambda number: launching.launch(Job.objects.select_related("team", "credential").get(pk=job.pk)), times=4, threads=4)

    job.refresh_from_db()
    assert ([item["id"] for item in predictions()], job.leased_until) == ([job.prediction_id], None)


def test_a_stranded_job_is_rung_for_again_when_nobody_has_it_in_hand(job):
    now = timezone.now()

    def found():
        return launching.stranded(now=now)

    assert found() == [job]
    Job.objects.update(leased_until=now + timedelta(seconds=1))
    assert found() == []
    Job.objects.update(leased_until=now - timedelta(seconds=1))
    assert found() == [job]
    Job.objects.update(try_after=now + timedelta(seconds=1))
    assert found() == []
