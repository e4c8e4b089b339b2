"""Cancelling: at once what was never sent, at the provider's word what was."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.errors import NotPermitted
from accounts.models import AuditLine
from accounts.roles import Role
from billing.models import LedgerLine
from jobs import tasks
from jobs.models import Job, LaunchIntent, ProviderSettings
from jobs.replicate import predictions
from jobs.services import cancelling, launching, polling, progress
from jobs.services.dispatch import dispatch
from jobs.states import State
from tests.factories import MembershipFactory, make_token
from tests.jobs.factories import JobFactory, hold_for, make_member
from tests.jobs.ready import caller_of

MICROS = 4_000_000


@pytest.fixture
def rung(monkeypatch):
    """The jobs for which the provider was to be told, in order."""
    found = []
    monkeypatch.setattr(tasks.cancel, "delay", lambda *, job_pk: found.append(job_pk))
    return found


def held_job(**fields):
    job = JobFactory(**fields)
    hold_for(job, micros=MICROS)
    return job


def with_intent(job, **fields):
    return LaunchIntent.objects.create(job=job, version="v", first_call_at=timezone.now(), called_at=timezone.now(), **fields)


@pytest.mark.django_db
@pytest.mark.parametrize("state", [State.BLOCKED, State.PENDING, State.UPLOADING])
def test_a_job_that_was_never_sent_is_cancelled_at_once_and_gets_its_money_back(state):
    job = held_job(state=state, started_at=None)

    cancelled = cancelling.cancel(job, caller=caller_of(make_member(job, Role.LEAD)))

    assert (cancelled.state, cancelled.cost, cancelled.hold.charge) == ("cancelled", 0, 0)
    assert list(LedgerLine.objects.order_by("sequence").values_list("kind", "amount")) == [
        ("hold", MICROS), ("charge", 0), ("release", MICROS),
    ]  # fmt: skip


@pytest.mark.django_db
def test_a_job_of_which_a_call_is_open_is_cancelled_when_the_provider_says_so(django_capture_on_commit_callbacks, rung):
    job = held_job(state=State.UPLOADING)
    with_intent(job)

    with django_capture_on_commit_callbacks(execute=True):
        asked = cancelling.cancel(job, caller=caller_of(make_member(job, Role.LEAD)))

    assert (asked.state, asked.cancel_requested_at is not None, asked.hold.settled_at) == ("uploading", True, None)
    assert rung == [job.pk]
    assert AuditLine.objects.get(event_type="job.cancelled").before == {"state": "uploading"}


@pytest.mark.django_db
def test_a_job_whose_last_call_certainly_did_nothing_is_cancelled_at_once():
    job = held_job(state=State.UPLOADING, started_at=None)
    with_intent(job, is_settled=True)

    assert cancelling.cancel(job, caller=caller_of(make_member(job, Role.LEAD))).state == "cancelled"


@pytest.mark.django_db
def test_the_audit_line_tells_from_which_state_and_who():
    job = held_job(state=State.PENDING, started_at=None)
    lead = make_member(job, Role.LEAD)

    cancelling.cancel(job, caller=caller_of(lead))

    line = AuditLine.objects.get(event_type="job.cancelled", actor=lead.user.username)
    assert (line.before, line.target_id) == ({"state": "pending"}, job.job_id)


@pytest.mark.django_db
def test_a_repeat_is_no_error_and_asks_nobody_twice(django_capture_on_commit_callbacks, rung):
    job = held_job(state=State.RUNNING, prediction_id="p" * 26)
    caller = caller_of(make_member(job, Role.LEAD))

    with django_capture_on_commit_callbacks(execute=True):
        first, second = cancelling.cancel(job, caller=caller), cancelling.cancel(job, caller=caller)

    assert (first.cancel_requested_at, second.state, rung) == (second.cancel_requested_at, "running", [job.pk])
    assert job.events.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED])
def test_a_job_that_ended_cannot_be_cancelled(state):
    job = held_job(state=state, ended_at=timezone.now())

    with pytest.raises(cancelling.InvalidJobState) as refusal:
        cancelling.cancel(job, caller=caller_of(make_member(job, Role.LEAD)))

    assert (refusal.value.status, refusal.value.details["current_state"]) == (409, state)


@pytest.mark.django_db
def test_researchers_cancel_their_own_jobs_only():
    job = held_job(state=State.PENDING, started_at=None)
    stranger, submitter = make_member(job), make_member(job)
    Job.objects.update(submitted_by=submitter.user)
    job.refresh_from_db()

    with pytest.raises(NotPermitted):
        cancelling.cancel(job, caller=caller_of(stranger))
    with pytest.raises(NotPermitted):
        cancelling.cancel(job, caller=caller_of(make_member(job, Role.VIEWER)))

    assert cancelling.cancel(job, caller=caller_of(submitter)).state == "cancelled"


def test_a_running_job_is_cancelled_at_the_provider_and_pays_for_its_time(at_provider, account, fresh):
    account.rule(step_rate=0.01)
    job = at_provider.submit()
    dispatch()
    launching.launch(fresh(job))
    account.wait_until({"id": fresh(job).prediction_id}, "processing")
    polling.poll(fresh(job))
    running = fresh(job)

    cancelling.cancel(running, caller=at_provider.caller)
    cancelling.send(fresh(job))
    account.wait_until({"id": running.prediction_id}, "canceled")
    polling.poll(fresh(job))

    ended = fresh(job)
    assert (running.state, ended.state, ended.cancel_sent_at is not None) == ("running", "cancelled", True)
    assert ended.cost == ended.hold.charge > 0
    assert ended.cost == round(float(ended.billed_seconds) * 975)


def test_a_cancel_that_the_provider_does_not_hear_is_sent_again(at_provider, account, fresh, rung, settings):
    account.rule(queue_seconds=1_000_000)
    job = at_provider.submit()
    dispatch()
    launching.launch(fresh(job))
    cancelling.cancel(job, caller=at_provider.caller)
    settings.REPLICATE_BASE_URL = "http://127.0.0.1:9"
    cancelling.send(fresh(job))

    cancelling.send_due()
    at_once = list(rung)
    Job.objects.update(cancel_sent_at=timezone.now() - cancelling.RESEND_AFTER - timedelta(seconds=1))
    cancelling.send_due()
    settings.REPLICATE_BASE_URL = account.sandbox.url
    cancelling.send(fresh(job))

    assert (at_once, rung) == ([], [job.pk])
    assert (fresh(job).state, fresh(job).cost) == ("cancelled", 0)


@pytest.mark.django_db
def test_a_cancel_that_came_while_the_call_was_open_takes_effect_when_it_did_nothing(rung):
    job = held_job(state=State.UPLOADING, started_at=None, cancel_requested_at=timezone.now())
    intent = with_intent(job)

    cancelling.send_due()
    in_doubt = Job.objects.get(pk=job.pk).state
    LaunchIntent.objects.filter(pk=intent.pk).update(is_settled=True)
    cancelling.send_due()

    assert (in_doubt, Job.objects.get(pk=job.pk).state) == ("uploading", "cancelled")


@pytest.mark.django_db
def test_telling_the_provider_is_left_out_where_there_is_nobody_to_tell(no_provider):
    cancelling.send(held_job(state=State.COMPLETED, prediction_id="c" * 26))
    cancelling.send(held_job(state=State.UPLOADING))

    assert not ProviderSettings.objects.exists()
    assert not Job.objects.exclude(cancel_sent_at=None).exists()


# --- Deleting ---------------------------------------------------------------------------------------------


def delete(job, membership):
    headers = {"Authorization": f"Bearer {make_token(membership)[1]}"}
    return Client().delete(f"/api/cloud/jobs/{job.job_id}", headers=headers)


@pytest.mark.django_db
def test_a_job_can_be_deleted_from_its_cancel_on_and_is_settled_all_the_same(rung):
    job = held_job(state=State.RUNNING, prediction_id="p" * 26)
    lead = make_member(job, Role.LEAD)
    cancelling.cancel(job, caller=caller_of(lead))

    answer = delete(job, lead)
    gone = Client().get(f"/api/cloud/jobs/{job.job_id}", headers={"Authorization": f"Bearer {make_token(lead)[1]}"})
    ended = {"id": job.prediction_id, "status": "canceled", "metrics": {"predict_time": 100}}
    progress.record(job, predictions.parse(ended), cause="poll")

    job.refresh_from_db()
    assert (answer.status_code, gone.status_code) == (200, 404)
    assert (job.state, job.hold.charge, job.deleted_at is not None) == ("cancelled", 97_500, True)


@pytest.mark.django_db
def test_a_job_that_is_deleted_already_is_deleted_again_without_a_word():
    job = held_job(state=State.COMPLETED, ended_at=timezone.now())
    lead = make_member(job, Role.LEAD)

    answers = [delete(job, lead) for _ in range(2)]

    assert [(answer.status_code, answer.json()["success"]) for answer in answers] == [(200, True), (200, True)]
    assert AuditLine.objects.filter(event_type="job.deleted").count() == 1


@pytest.mark.django_db
def test_a_job_that_goes_on_is_not_deleted():
    job = held_job(state=State.RUNNING, prediction_id="p" * 26)

    answer = delete(job, make_member(job, Role.LEAD))

    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_job_state")
    assert Job.objects.visible().get() == job


@pytest.mark.django_db
def test_another_teams_deleted_job_is_none():
    job = held_job(state=State.COMPLETED, ended_at=timezone.now(), deleted_at=timezone.now())

    assert delete(job, MembershipFactory(role=Role.OWNER)).status_code == 404


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "is_offered"),
    [
        ({"state": State.COMPLETED}, True),
        ({"state": State.RUNNING}, False),
        ({"state": State.RUNNING, "cancel_requested_at": timezone.now()}, True),
    ],
)
def test_the_page_of_a_job_offers_to_delete_it_from_its_cancel_on(client, fields, is_offered):
    job = held_job(**fields)
    client.force_login(make_member(job, Role.LEAD).user)
    address = reverse("jobs:delete", args=[job.team.slug, job.job_id])

    page = client.get(job.get_absolute_url()).content.decode()
    asked = client.get(address).content.decode()
    client.post(address)

    assert (address in page, "Keep it" in asked) == (is_offered, is_offered)
    assert Job.objects.visible().exists() != is_offered
