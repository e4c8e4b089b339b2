"""Asking the provider: whose turn it is, and what an answer, a silence or a 'not found' does."""

from datetime import timedelta

import pytest
from django.utils import timezone

from jobs import tasks
from jobs.models import AccountWatch, Job, JobProgress
from jobs.services import launching, logs, polling, watching
from jobs.services.dispatch import dispatch
from jobs.states import State
from tests.billing.factories import race
from tests.jobs.factories import JobFactory, hold_for

NOW = timezone.now()


@pytest.fixture
def rung(monkeypatch):
    """The jobs for whose accounts was rung, in order."""
    found = []
    monkeypatch.setattr(tasks.reconcile, "delay", lambda *, team_pk, credential_pk, job_pks: found.extend(job_pks))
    return found


@pytest.fixture
def polled(settings):
    """A job that was polled so many seconds ago."""
    settings.POLL_SECONDS, settings.POLL_SECONDS_SILENT = 30.0, 5.0

    def make(seconds_ago, *, job=None, **fields):
        job = JobFactory(**({"prediction_id": f"p{Job.objects.count():025d}"} | (job or {})))
        JobProgress.objects.filter(job=job).update(polled_at=NOW - timedelta(seconds=seconds_ago), **fields)
        return job

    return make


@pytest.mark.django_db
def test_a_silent_job_is_polled_often_and_one_that_is_heard_rarely(polled, rung):
    silent = polled(6)
    polled(4)
    polled(29, heard_at=NOW)
    heard_long_ago = polled(31, heard_at=NOW)

    polling.poll_due(now=NOW)

    assert rung == [heard_long_ago.pk, silent.pk]


@pytest.mark.django_db
def test_a_job_that_somebody_watches_is_polled_often(polled, rung):
    watched = polled(6, heard_at=NOW, watched_at=NOW - timedelta(seconds=14))
    polled(6, heard_at=NOW, watched_at=NOW - timedelta(seconds=16))

    polling.poll_due(now=NOW)

    assert rung == [watched.pk]


@pytest.mark.django_db
def test_a_job_whose_webhooks_have_stopped_is_silent_again(polled, rung):
    stopped = polled(6, heard_at=NOW - timedelta(minutes=6))
    polled(6, heard_at=NOW - timedelta(minutes=4))

    polling.poll_due(now=NOW)

    assert rung == [stopped.pk]


@pytest.mark.django_db
def test_an_ended_job_is_left_to_the_rescue(polled, rung):
    polled(60, job={"state": State.FAILED})
    polled(60, job={"state": State.COMPLETED, "archived_at": NOW})

    assert (polling.poll_due(now=NOW), rung) == (0, [])


@pytest.mark.django_db
def test_one_bell_is_rung_for_an_account_however_many_jobs_it_has(polled, monkeypatch):
    rung = []
    monkeypatch.setattr(tasks.reconcile, "delay", lambda **said: rung.append(said))
    first = polled(60)
    second = polled(60, job={"team": first.team, "credential": first.credential})
    other = polled(60)

    assert polling.poll_due(now=NOW) == 3

    assert sorted(rung, key=lambda said: said["team_pk"]) == [
        {"team_pk": first.team_id, "credential_pk": first.credential_id, "job_pks": [first.pk, second.pk]},
        {"team_pk": other.team_id, "credential_pk": other.credential_id, "job_pks": [other.pk]},
    ]


@pytest.mark.django_db
def test_a_job_without_a_prediction_is_not_polled(polled, rung):
    polled(60, job={"state": State.UPLOADING, "prediction_id": None})
    polled(60, job={"state": State.PENDING, "prediction_id": None})

    assert (polling.poll_due(now=NOW), rung) == (0, [])


@pytest.mark.django_db(transaction=True)
def test_several_clocks_ring_once(polled, rung):
    polled(60)

    race(lambda number: polling.poll_due(now=NOW), times=6)

    assert len(rung) == 1


@pytest.mark.django_db
def test_a_look_is_noted_at_most_every_few_seconds_and_never_for_an_ended_job():
    job = JobFactory()
    ended = JobFactory(state=State.COMPLETED)

    for seconds in (0, 4, 6):
        watching.note(job, now=NOW + timedelta(seconds=seconds))
        watching.note(ended, now=NOW)
        if seconds == 4:
            assert JobProgress.objects.get(job=job).watched_at == NOW

    assert JobProgress.objects.get(job=job).watched_at == NOW + timedelta(seconds=6)
    assert JobProgress.objects.get(job=ended).watched_at is None


def test_polling_alone_brings_a_job_home(at_provider, account, fresh):
    account.rule(step_rate=1000)
    job = at_provider.submit()
    dispatch()
    launching.launch(fresh(job))
    account.wait_until({"id": fresh(job).prediction_id}, "failed", "succeeded")

    polling.poll(fresh(job))

    ended = fresh(job)
    theirs = account.get({"id": ended.prediction_id})
    # The trainer cannot upload to this test's storage address, which nobody serves.
    assert (ended.state, theirs["status"]) == ("failed", "failed")
    assert (logs.read(ended), ended.error) == (theirs["logs"], theirs["error"])
    assert (float(ended.billed_seconds), ended.archived_at is not None) == (theirs["metrics"]["predict_time"], True)
    assert ended.cost == ended.hold.charge


@pytest.fixture
def forgotten(at_provider):
    """A running job of whom the provider knows nothing."""
    job = JobFactory(team=at_provider.team, credential=at_provider.credential, prediction_id="q" * 26, created_at_provider=timezone.now())
    hold_for(job, micros=3_568_500)
    return job


def test_a_run_that_is_not_found_may_be_a_passing_fault(forgotten, fresh):
    polling.poll(fresh(forgotten))

    assert (fresh(forgotten).state, fresh(forgotten).hold.settled_at) == ("running", None)


def test_a_run_that_is_not_found_after_its_ceiling_and_an_hour_is_lost(forgotten, fresh):
    Job.objects.update(created_at_provider=timezone.now() - timedelta(hours=2, seconds=1))

    polling.poll(fresh(forgotten))

    job = fresh(forgotten)
    assert (job.state, job.hold.flag, job.cost) == ("failed", "unknown_at_provider", 3_510_000)


def test_an_ended_run_that_is_not_found_is_forgotten_once_and_for_all(forgotten, fresh):
    Job.objects.update(state=State.COMPLETED)

    polling.poll(fresh(forgotten))
    first = fresh(forgotten).provider_forgot_at
    polling.poll(fresh(forgotten))

    assert first == fresh(forgotten).provider_forgot_at is not None


def test_a_provider_that_is_away_changes_nothing(forgotten, fresh, settings):
    settings.REPLICATE_BASE_URL = "http://127.0.0.1:9"
    before = Job.objects.values().get()

    polling.poll(fresh(forgotten))

    assert Job.objects.values().get() == before
    assert AccountWatch.objects.get().failures == 1
