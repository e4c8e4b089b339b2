"""Runs that were started elsewhere: found by a sync, kept as jobs, and in nobody's ledger."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditLine
from accounts.roles import Role
from billing.models import Hold, LedgerLine
from jobs.models import Job, JobProgress, LaunchIntent, Trainer
from jobs.models.job import IntentOutcome
from jobs.replicate import inputs as wire
from jobs.services import cancelling, dispatch, ending, launching, polling, results
from jobs.states import State
from tests.factories import CredentialFactory, MembershipFactory, make_token
from tests.jobs.factories import JobFactory
from tests.jobs.ready import make_ready, post
from tests.jobs.sandbox.servers import archive, inputs

SYNC = "/api/cloud/jobs/sync"
SECRET = "hf_" + "x" * 34
CONFIG = {"--model_family": "flux", "--max_train_steps": 20, "--tracker_run_name": "by hand", "--note": SECRET}


def elsewhere(account, config=None, **more):
    """A run that somebody starts by hand on the same account."""
    return account.create(inputs(config_json=json.dumps(CONFIG if config is None else config), **more))


@pytest.fixture
def slow(account):
    account.rule(queue_seconds=1_000_000)


@pytest.fixture
def finished(account):
    account.rule(step_rate=1000)
    images = account.upload(archive("a red square.jpg"))["urls"]["get"]
    return account.finish(inputs(config_json=json.dumps(CONFIG), images=images))


def sync(ready):
    answer = ready.post(path=SYNC)
    assert answer.status_code == 200
    return answer.json()


def test_a_run_that_waits_is_imported_as_it_stands(at_provider, account, slow):
    run = elsewhere(account)

    said = sync(at_provider)

    job = Job.objects.get()
    assert said == {"synced": 1, "updated": 0, "message": "Discovered 1 new job from Replicate. No active job is at Replicate."}
    assert (job.team, job.submitted_by, job.prediction_id, job.state) == (
        at_provider.team,
        at_provider.member.user,
        run["id"],
        State.QUEUED,
    )
    assert (job.trainer.profile, job.version, job.run_name, job.hold) == ("advanced-trainer", run["version"], "by hand", None)
    assert job.config == {"model_family": "flux", "max_train_steps": 20, "tracker_run_name": "by hand"}
    assert [(event.state, event.cause) for event in job.events.all()] == [("queued", "sync")]
    assert JobProgress.objects.get(job=job).total_steps == 20
    assert (Hold.objects.count(), LedgerLine.objects.count()) == (0, 0)
    line = AuditLine.objects.get(event_type="job.imported")
    assert (line.target_id, line.after) == (job.job_id, {"prediction": run["id"], "state": "queued"})


def test_a_finished_run_comes_with_its_cost_log_and_output(at_provider, account, finished, django_capture_on_commit_callbacks, fresh):
    with django_capture_on_commit_callbacks():
        sync(at_provider)
    results.archive(Job.objects.get())

    job = Job.objects.get()
    seconds = Decimal(str(finished["metrics"]["predict_time"]))
    assert (job.state, job.billed_seconds, job.cleaned_up_at is not None, job.archived_at is not None) == (
        State.COMPLETED,
        seconds,
        True,
        True,
    )
    assert job.cost == round(seconds * job.price_line.usd_per_second * 1_000_000)
    assert JobProgress.objects.get(job=job).length > 0
    assert (Hold.objects.count(), LedgerLine.objects.count()) == (0, 0)
    shown = at_provider.get(f"/api/cloud/jobs/{job.job_id}").json()["job"]
    assert (shown["status"], shown["metadata"]["imported"], shown["hold"]) == ("completed", True, None)
    assert SECRET not in str(shown)


def test_a_run_is_imported_once_and_then_followed(at_provider, account, slow, fresh):
    run = elsewhere(account)

    first, second = sync(at_provider), sync(at_provider)
    account.http.post(f"/v1/predictions/{run['id']}/cancel")
    third = sync(at_provider)

    assert [said["synced"] for said in (first, second, third)] == [1, 0, 0]
    assert (third["updated"], Job.objects.get().state) == (1, State.CANCELLED)


def test_an_imported_run_can_be_cancelled(at_provider, account, slow, fresh):
    run = elsewhere(account)
    sync(at_provider)

    at_provider.post(path=f"/api/cloud/jobs/{Job.objects.get().job_id}/cancel")
    cancelling.send(Job.objects.select_related("team", "credential").get())

    assert (account.get(run)["status"] in ("canceled", "aborted"), Job.objects.get().state) == (True, State.CANCELLED)


def test_what_a_job_of_ours_has_or_may_have_is_left_to_the_launcher(at_provider, account, slow, fresh):
    ours = at_provider.submit()
    unsent = JobFactory(team=at_provider.team, state=State.UPLOADING)
    dispatch.dispatch()
    launching.launch(fresh(ours))
    elsewhere(account, {**CONFIG, wire.MARKER_KEY: wire.marker(unsent.job_id)})

    assert sync(at_provider)["synced"] == 0
    assert Job.objects.count() == 2


def test_a_run_without_its_data_is_not_taken_from_a_launch_in_doubt(at_provider, account, finished):
    account.sandbox.control(f"predictions/{finished['id']}/purge", now=True)
    assert account.get(finished)["data_removed"]
    doubtful = JobFactory(team=at_provider.team, state=State.UPLOADING)
    now = timezone.now()
    intent = LaunchIntent.objects.create(job=doubtful, version=finished["version"], first_call_at=now - timedelta(minutes=5), called_at=now)

    in_doubt = sync(at_provider)["synced"]
    LaunchIntent.objects.filter(pk=intent.pk).update(outcome=IntentOutcome.REFUSED, is_settled=True)
    settled = sync(at_provider)["synced"]

    job = Job.objects.exclude(pk=doubtful.pk).get()
    assert (in_doubt, settled, job.provider_forgot_at is not None, job.config) == (0, 1, True, {})


def test_runs_of_other_models_stay_where_they_are(at_provider, account, slow):
    Trainer.objects.update(model="acme/other")
    elsewhere(account)

    assert sync(at_provider)["synced"] == 0


def test_the_installations_account_is_shared_so_nothing_of_it_is_imported(at_provider, account, slow, settings):
    elsewhere(account)
    at_provider.team.credentials.update(removed_at=timezone.now())
    without = sync(at_provider)
    settings.REPLICATE_API_TOKEN = account.token

    shared = sync(at_provider)

    assert (without["synced"], without["message"][:64]) == (0, "New jobs are not looked for: the team has no Replicate token. No")
    assert (shared["synced"], Job.objects.count()) == (0, 0)
    assert shared["message"].startswith("New jobs are looked for only on a team's own account")


def test_a_persons_own_account_is_not_shown_to_the_team(at_provider, account, slow):
    elsewhere(account)
    at_provider.team.credentials.update(user=at_provider.member.user)

    assert sync(at_provider)["synced"] == 0


def test_a_run_without_a_price_is_left_out(at_provider, account, slow):
    elsewhere(account)
    Trainer.objects.filter(profile="advanced-trainer").update(hardware="gpu-nobody-knows")

    assert (sync(at_provider)["synced"], Job.objects.count()) == (0, 0)


def test_a_watchdog_and_the_queue_leave_imported_runs_alone(at_provider, account, slow, fresh):
    elsewhere(account)
    sync(at_provider)
    Job.objects.update(created_at_provider=timezone.now() - timedelta(days=2))

    cancelling.send_due()

    job = Job.objects.get()
    assert (job.cancel_requested_at, job.stop_at) == (None, None)
    assert not Job.objects.launched().admitted().exists()
    polling._missing(fresh(job), now=timezone.now())
    lost = Job.objects.get()
    assert (lost.state, lost.cost, lost.error) == (State.FAILED, None, ending.GONE)
    assert at_provider.get(f"/api/cloud/jobs/{lost.job_id}").json()["cost_usd"] is None


def test_an_imported_run_has_a_page_and_is_run_again_only_with_data(at_provider, account, finished):
    sync(at_provider)
    job = Job.objects.get()
    client = Client()
    client.force_login(at_provider.member.user)

    page = client.get(job.get_absolute_url()).content.decode()
    listed = client.get(reverse("jobs:list", args=[at_provider.team.slug])).content.decode()
    again = client.get(reverse("jobs:new", args=[at_provider.team.slug]), {"from": job.job_id})

    assert ["Started elsewhere: not held, not in the ledger." in page, "started elsewhere" in listed, again.status_code] == [
        True,
        True,
        200,
    ]
    Job.objects.update(state=State.FAILED)
    assert at_provider.post(path=f"/api/cloud/jobs/{job.job_id}/retry").json()["code"] == "no_dataset"


def test_the_list_has_a_button_for_who_submits(at_provider, account, slow):
    elsewhere(account)
    address = reverse("jobs:sync", args=[at_provider.team.slug])
    client, viewer = Client(), Client()
    client.force_login(at_provider.member.user)
    viewer.force_login(MembershipFactory(team=at_provider.team, role=Role.VIEWER).user)

    page = client.post(address, follow=True).content.decode()

    assert "Discovered 1 new job from Replicate." in page
    assert [f'action="{address}"' in page, viewer.post(address).status_code, client.get(address).status_code] == [True, 403, 405]


@pytest.mark.django_db(transaction=True)
def test_of_two_teams_with_one_account_whoever_is_first_has_a_run(settings, account, slow):
    settings.REPLICATE_BASE_URL = account.sandbox.url
    first = make_ready(token=account.token)
    other = MembershipFactory()
    CredentialFactory(team=other.team, secret=account.token, name="api_token")
    for _ in range(3):
        elsewhere(account)
    keys = [first.key, make_token(other)[1]] * 2

    def ask(key):
        try:
            return post(SYNC, key=key).json()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, keys))

    assert sum(answer["synced"] for answer in answers) == 3
    assert Job.objects.count() == 3
