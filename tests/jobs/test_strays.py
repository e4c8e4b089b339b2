"""Runs that carry the mark of a job and are not the job's: found, cancelled, booked, and somebody is told."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import AuditLine
from billing.models import Hold, LedgerLine
from jobs import tasks
from jobs.models import AccountWatch, Job, LaunchIntent, StrayRun
from jobs.models.job import IntentOutcome
from jobs.replicate import inputs as wire
from jobs.replicate import predictions
from jobs.services import ending, progress, reconciling, strays
from jobs.states import State
from tests.jobs.factories import JobFactory, hold_for
from tests.jobs.sandbox.servers import archive, inputs

HELD = 3_568_500
CEILING = 3_510_000


def run_of(account, job, **more):
    """A run that our own call for this job created."""
    config = {"--model_family": "flux", "--max_train_steps": 20, wire.MARKER_KEY: wire.marker(job.job_id)}
    return account.create(inputs(config_json=json.dumps(config), **more))


@pytest.fixture
def running(account):
    """Runs begin at once, and train for long."""
    account.rule(step_rate=0.01)
    return account.upload(archive("a red square.jpg"))["urls"]["get"]


@pytest.fixture
def doubtful(at_provider):
    """A job of which a call was made whose outcome nobody knows."""
    now = timezone.now()
    job = JobFactory(team=at_provider.team, credential=at_provider.credential, state=State.UPLOADING, started_at=None)
    hold_for(job, micros=HELD)
    LaunchIntent.objects.create(job=job, version="v", first_call_at=now - timedelta(seconds=10), called_at=now - timedelta(seconds=10))
    return job


def look(ready):
    reconciling.reconcile(ready.team, ready.credential, [])


def ended(account, stray):
    account.wait_until({"id": stray.prediction_id}, "canceled", "succeeded", "failed")
    StrayRun.objects.update(try_after=None)
    strays.end(StrayRun.objects.select_related("job__team", "credential").get(pk=stray.pk))
    return StrayRun.objects.get(pk=stray.pk)


def charge_of(account, stray):
    seconds = account.get({"id": stray.prediction_id})["metrics"]["predict_time"]
    return round(seconds * 975)


def test_a_run_of_a_job_that_was_cancelled_meanwhile_is_cancelled_and_its_cost_booked(at_provider, account, running, doubtful, fresh):
    run = run_of(account, doubtful, images=running)
    account.wait_until(run, "processing")
    ending.cancel_unsent(fresh(doubtful), cause="person")

    look(at_provider)
    stray = StrayRun.objects.get()
    strays.end(stray)
    stray = ended(account, stray)

    job = fresh(doubtful)
    assert account.get(run)["status"] == "canceled"
    assert (job.state, job.prediction_id, job.hold.charge) == (State.CANCELLED, None, charge_of(account, stray))
    assert (stray.charge, stray.settled_at is not None) == (job.hold.charge, True)
    assert LedgerLine.objects.filter(kind="adjust").get().reason == f"The provider ran {run['id']} for {job.job_id}."
    assert AuditLine.objects.get(event_type="job.stray_run").after == {"prediction": run["id"], "status": "processing"}
    assert [run["id"] in event.detail for event in job.events.filter(state="")] == [True, True]


def test_a_run_of_a_job_that_was_given_up_is_charged_by_its_own_time_in_place_of_the_ceiling(
    at_provider, account, running, doubtful, fresh
):
    run = run_of(account, doubtful, images=running)
    account.wait_until(run, "processing")
    ending.lose(fresh(doubtful), cause="search")
    lost_at = fresh(doubtful).hold.charge

    look(at_provider)
    strays.end(StrayRun.objects.get())
    stray = ended(account, StrayRun.objects.get())

    hold = fresh(doubtful).hold
    assert (lost_at, hold.charge) == (CEILING, charge_of(account, stray))
    assert (hold.needs_a_look, hold.review) == (False, f"The provider ran {run['id']} for {doubtful.job_id}.")


def test_a_run_in_doubt_is_left_to_the_launcher(at_provider, account, running, doubtful):
    run_of(account, doubtful, images=running)

    strays.note(at_provider.team, at_provider.credential, listed(account), now=timezone.now())

    assert not StrayRun.objects.exists()


def listed(account):
    return [predictions.parse(item) for item in account.http.get("/v1/predictions").json()["results"]]


def test_of_two_runs_of_one_job_the_second_is_cancelled_and_booked_when_the_first_is_over(at_provider, account, running, doubtful, fresh):
    first, second = run_of(account, doubtful, images=running), run_of(account, doubtful, images=running)
    progress.record(fresh(doubtful), predictions.parse(first), cause="launch")

    for _ in range(2):
        strays.note(at_provider.team, at_provider.credential, listed(account), now=timezone.now())
    stray = StrayRun.objects.get()
    strays.end(stray)
    early = ended(account, stray)
    account.http.post(f"/v1/predictions/{first['id']}/cancel")
    progress.record(fresh(doubtful), predictions.parse(account.wait_until(first, "canceled")), cause="poll")
    settled = fresh(doubtful).hold.charge
    late = ended(account, stray)

    assert (stray.prediction_id, early.settled_at) == (second["id"], None)
    assert fresh(doubtful).hold.charge == settled + charge_of(account, late)
    assert fresh(doubtful).state == State.CANCELLED


def test_a_webhook_of_a_run_that_came_too_late_ties_nothing_to_a_job_that_is_over(at_provider, account, running, doubtful, fresh):
    ending.cancel_unsent(fresh(doubtful), cause="person")
    run = run_of(account, doubtful, images=running)

    progress.record(fresh(doubtful), predictions.parse(run), cause="webhook")

    assert fresh(doubtful).prediction_id is None
    assert StrayRun.objects.get().prediction_id == run["id"]


def test_a_run_of_ours_that_somebody_repeats_on_replicates_pages_is_theirs(at_provider, doubtful, fresh):
    ending.cancel_unsent(fresh(doubtful), cause="person")
    config = json.dumps({wire.MARKER_KEY: wire.marker(doubtful.job_id)})
    by_hand = predictions.parse({"id": "h" * 26, "status": "processing", "source": "web", "input": {"config_json": config}})
    others = predictions.parse(
        {"id": "o" * 26, "status": "processing", "input": {"config_json": config}, "webhook": f"https://else.where/?job={doubtful.job_id}"}
    )

    strays.note(at_provider.team, at_provider.credential, [by_hand, others], now=timezone.now())

    assert not StrayRun.objects.exists()


def test_nobodys_account_books_on_another_teams_job(at_provider, account, doubtful, fresh):
    ending.cancel_unsent(fresh(doubtful), cause="person")
    run = run_of(account, doubtful)
    stranger = JobFactory()

    strays.note(stranger.team, stranger.credential, [predictions.parse(run)], now=timezone.now())

    assert not StrayRun.objects.exists()


def test_a_stray_run_that_the_provider_knows_no_more_is_flagged_for_review(at_provider, doubtful, fresh):
    ending.cancel_unsent(fresh(doubtful), cause="person")
    stray = StrayRun.objects.create(job=doubtful, credential=doubtful.credential, prediction_id="q" * 26)

    strays.end(stray)

    assert list(Hold.objects.needing_a_look().values_list("flag", flat=True)) == [strays.UNCLEAR]
    assert StrayRun.objects.get().settled_at is not None


def test_the_sweep_has_accounts_looked_at_now_and_then_while_a_run_may_still_turn_up(at_provider, account, doubtful, fresh, monkeypatch):
    rung = []
    monkeypatch.setattr(tasks.reconcile, "delay", lambda **said: rung.append(said["credential_pk"]))
    now = timezone.now()
    strays.ring_due(now=now)
    ending.cancel_unsent(fresh(doubtful), cause="person")
    before = len(rung)

    strays.ring_due(now=now)
    look(at_provider)
    strays.ring_due(now=now)
    strays.ring_due(now=timezone.now() + strays.LOOKED_EVERY + timedelta(seconds=1))
    LaunchIntent.objects.update(outcome=IntentOutcome.REFUSED)
    strays.ring_due(now=timezone.now() + strays.LOOKED_EVERY + timedelta(seconds=1))

    assert (before, rung) == (0, [at_provider.credential.pk] * 2)
    assert AccountWatch.objects.get().listed_at is not None
    assert Job.objects.get().state == State.CANCELLED
