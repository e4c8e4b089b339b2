"""All jobs of an account at once: one list, then only those that changed; and an account that fails rests alone."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import CredentialHealth
from jobs.models import AccountWatch, Job, JobProgress
from jobs.replicate.gateway import Gateway
from jobs.services import accountwatch, dispatch, launching, logs, polling, reconciling, watching
from jobs.states import State
from tests.billing.factories import PriceLineFactory
from tests.factories import CredentialFactory
from tests.jobs.factories import JobFactory, TrainerFactory, hold_for
from tests.jobs.sandbox.servers import inputs


@pytest.fixture
def calls(monkeypatch):
    """Every call to the provider, by its path."""
    made = []
    answer = Gateway._answer

    def counted(self, method, path, **asked):
        made.append(path)
        return answer(self, method, path, **asked)

    monkeypatch.setattr(Gateway, "_answer", counted)
    return made


@pytest.fixture
def settled_logs(settings):
    settings.POLL_SECONDS_LOG = 60.0


def runs(ready, account, count, **fields):
    """Jobs whose runs wait at the provider, as the last poll left them."""
    made = []
    for _ in range(count):
        said = account.create(inputs())
        now = timezone.now()
        fields = {"state": State.QUEUED, "provider_status": "starting", "started_at": None, "created_at_provider": now} | fields
        job = JobFactory(team=ready.team, credential=ready.credential, prediction_id=said["id"], **fields)
        JobProgress.objects.filter(job=job).update(asked_at=now)
        made.append(job)
    return made


def reconcile(ready, jobs, **more):
    rows = Job.objects.select_related("team", "credential", "progress").filter(pk__in=[job.pk for job in jobs]).order_by("pk")
    reconciling.reconcile(ready.team, ready.credential, rows, **more)


@pytest.fixture
def waiting(at_provider, account, settled_logs):
    account.rule(queue_seconds=1_000_000)
    return runs(at_provider, account, 25)


def test_jobs_of_which_nothing_is_new_cost_one_call(at_provider, waiting, calls):
    reconcile(at_provider, waiting)

    assert len(calls) == 1
    assert set(Job.objects.values_list("state", flat=True)) == {"queued"}


def test_what_changed_is_asked_about_and_nothing_else(at_provider, account, waiting, calls):
    changed, watched, gone = waiting[3], waiting[7], waiting[9]
    account.http.post(f"/v1/predictions/{changed.prediction_id}/cancel")
    watching.note(watched, now=timezone.now())
    Job.objects.filter(pk=gone.pk).update(prediction_id="q" * 26)

    reconcile(at_provider, waiting)

    assert [path.rpartition("/")[2] for path in calls[1:]] == [changed.prediction_id, "q" * 26, watched.prediction_id]
    changed.refresh_from_db()
    assert changed.state == State.CANCELLED


def test_the_logs_of_jobs_that_nobody_watches_are_asked_for_in_turn(at_provider, waiting, calls):
    long_ago = timezone.now() - timedelta(minutes=5)
    JobProgress.objects.filter(job__in=waiting[:12]).update(asked_at=long_ago)

    for _ in range(3):
        reconcile(at_provider, waiting)

    assert len(calls) == 3 + 12
    assert not JobProgress.objects.filter(asked_at=long_ago).exists()


def test_few_jobs_are_asked_about_singly_which_brings_their_logs(at_provider, account, calls):
    account.rule(queue_seconds=1_000_000)
    few = runs(at_provider, account, 2)

    reconcile(at_provider, few)

    assert [path.rpartition("/")[2] for path in calls] == [job.prediction_id for job in few]


def test_a_word_that_nobody_knows_raises_its_alarm_with_the_first_list(at_provider, account, waiting, monkeypatch):
    said = Gateway._object

    def renamed(self, status, body, **more):
        return said(self, status, body.replace(b'"status":"starting"', b'"status":"pondering"'), **more)

    monkeypatch.setattr(Gateway, "_object", renamed)

    reconcile(at_provider, waiting[:3])

    for job in waiting[:3]:
        assert [event.detail for event in job.events.all()] == ["The provider uses a word that we do not know: pondering"]


def test_a_word_that_nobody_knows_holds_no_money_beyond_the_ceiling_and_an_hour(at_provider, waiting, fresh, monkeypatch):
    said = Gateway._object
    monkeypatch.setattr(
        Gateway, "_object", lambda self, status, body, **more: said(self, status, body.replace(b'"starting"', b'"pondering"'), **more)
    )
    job = waiting[0]
    hold_for(job, micros=3_568_500)

    reconcile(at_provider, [job])
    early = fresh(job)
    Job.objects.filter(pk=job.pk).update(created_at_provider=timezone.now() - timedelta(hours=2, seconds=1))
    reconcile(at_provider, [job])

    late = fresh(job)
    assert (early.state, early.hold.settled_at) == (State.QUEUED, None)
    assert (late.state, late.hold.flag, late.hold.charge) == (State.FAILED, "unknown_at_provider", 3_510_000)


# --- An account that fails ---------------------------------------------------------------------------------


def test_an_account_that_is_throttled_rests_as_long_as_it_is_asked_to_and_keeps_why(at_provider, account, waiting, calls):
    account.rule(call_status=429)
    now = timezone.now()

    reconcile(at_provider, waiting, now=now)
    reconcile(at_provider, waiting, now=now + timedelta(seconds=1))

    watch = AccountWatch.objects.get()
    assert (len(calls), watch.failures) == (1, 1)
    assert watch.error.startswith("Replicate answered 429")
    assert watch.try_after > now + timedelta(seconds=1)


def test_pauses_double_to_a_bound_and_end_with_an_answer(at_provider, account, waiting, time_machine):
    account.rule(call_status=503)
    now, pauses = timezone.now(), []
    for _ in range(7):
        time_machine.move_to(now)
        reconcile(at_provider, waiting, now=now)
        watch = AccountWatch.objects.get()
        pauses.append((watch.try_after - now).total_seconds())
        now = watch.try_after
    account.rule(call_status=None)
    time_machine.move_to(now)

    reconcile(at_provider, waiting, now=now)

    assert pauses == [5, 10, 20, 40, 80, 120, 120]
    watch = AccountWatch.objects.get()
    assert (watch.failures, watch.error, watch.try_after) == (0, "", None)


def test_jobs_of_an_account_that_rests_have_no_turn_and_others_have(at_provider, waiting, monkeypatch):
    rung = []
    monkeypatch.setattr("jobs.tasks.reconcile.delay", lambda **said: rung.append(said["credential_pk"]))
    other = JobFactory(prediction_id="p" * 26)
    now = timezone.now()
    AccountWatch.objects.create(team=at_provider.team, credential=at_provider.credential, failures=1, try_after=now + timedelta(minutes=1))

    polling.poll_due(now=now)

    assert rung == [other.credential_id]


def test_one_run_that_cannot_be_read_stands_in_nobodys_way(at_provider, account, waiting, monkeypatch, fresh):
    poisoned, other = waiting[0], waiting[1]
    for job in (poisoned, other):
        account.http.post(f"/v1/predictions/{job.prediction_id}/cancel")
    said = Gateway._object

    def cut(self, status, body, **more):
        is_poisoned = body.startswith(b'{"id":"' + poisoned.prediction_id.encode())
        return said(self, status, body[:40] if is_poisoned else body, **more)

    monkeypatch.setattr(Gateway, "_object", cut)

    reconcile(at_provider, waiting)

    assert (fresh(poisoned).state, fresh(other).state) == (State.QUEUED, State.CANCELLED)
    assert not AccountWatch.objects.filter(failures__gt=0).exists()


def test_a_refused_token_lets_no_hold_stand_for_ever(at_provider, account, waiting, fresh):
    overdue, recent = waiting[0], waiting[1]
    hold_for(overdue, micros=3_568_500)
    Job.objects.filter(pk=overdue.pk).update(created_at_provider=timezone.now() - timedelta(hours=2, seconds=1))
    account.rule(account_status=401)

    reconcile(at_provider, [overdue, recent])

    assert (fresh(overdue).state, fresh(overdue).hold.flag) == (State.FAILED, "unknown_at_provider")
    assert fresh(recent).state == State.QUEUED
    at_provider.credential.refresh_from_db()
    assert at_provider.credential.health == CredentialHealth.REFUSED


# --- Size --------------------------------------------------------------------------------------------------


def test_a_cycle_of_five_hundred_jobs_of_twenty_accounts_is_far_from_five_hundred_calls(at_provider, account, calls, monkeypatch, settings):
    """All accounts are tokens of one account at the sandbox, so that each list is as long as it can be."""
    settings.POLL_SECONDS_LOG = 60.0
    account.rule(queue_seconds=1_000_000, rate_limits="off")
    now = timezone.now()
    others = [CredentialFactory(team=at_provider.team, secret=account.token, name=f"token {number}") for number in range(19)]
    credentials = [at_provider.credential, *others]
    line, trainer = PriceLineFactory(), TrainerFactory()
    for number in range(500):
        JobFactory(
            team=at_provider.team, submitted_by=at_provider.member.user, credential=credentials[number % 20], price_line=line,
            trainer=trainer, state=State.QUEUED, provider_status="starting", started_at=None, created_at_provider=now,
            prediction_id=account.create(inputs())["id"],
        )  # fmt: skip
    JobProgress.objects.update(asked_at=now)
    rows = list(Job.objects.select_related("team", "credential", "progress"))

    rung = []
    monkeypatch.setattr("jobs.tasks.reconcile.delay", lambda **said: rung.append(said))
    assert polling.poll_due(now=now) == 500
    for said in rung:
        credential = next(credential for credential in credentials if credential.pk == said["credential_pk"])
        reconciling.reconcile(at_provider.team, credential, [job for job in rows if job.pk in said["job_pks"]])

    # Each list has five pages here, since all accounts are one.
    assert (len(rung), len(calls)) == (20, 100)


# --- While somebody watches --------------------------------------------------------------------------------


def test_the_log_of_a_job_that_is_watched_comes_within_seconds(at_provider, account, settings, monkeypatch, fresh):
    """From the look by API to the log: each turn of the clock rings, and each bell brings what the trainer printed meanwhile."""
    settings.POLL_SECONDS, settings.POLL_SECONDS_SILENT = 1000.0, 3.0
    account.rule(step_rate=0.05)
    job = at_provider.submit()
    dispatch.dispatch()
    launching.launch(fresh(job))
    account.wait_until({"id": fresh(job).prediction_id}, "processing")
    monkeypatch.setattr(
        "jobs.tasks.reconcile.delay",
        lambda *, team_pk, credential_pk, job_pks: reconcile(at_provider, Job.objects.filter(pk__in=job_pks)),
    )
    now = timezone.now()
    JobProgress.objects.update(heard_at=now, polled_at=now)

    unwatched = polling.poll_due(now=now + timedelta(seconds=4))
    at_provider.get(f"/api/cloud/jobs/{job.job_id}/logs")
    watched = [polling.poll_due(now=now + timedelta(seconds=seconds)) for seconds in (4, 5, 8)]

    assert (unwatched, watched) == (0, [1, 0, 1])
    assert logs.read(fresh(job)) != ""
    assert accountwatch.resting_until(team=at_provider.team, credential=at_provider.credential, now=now) is None
