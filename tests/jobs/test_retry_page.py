"""Running a failed job again from its page: asked once with the amount, held anew, linked to the first."""

import re

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.roles import Role
from jobs.models import Job, ProviderSettings
from jobs.services import ending
from jobs.states import State
from tests.billing.factories import USD, SpendLimitFactory
from tests.factories import TeamFactory
from tests.jobs.factories import JobFactory, make_member

# 20 steps likely take less than the shortest ceiling: half an hour, and the minute that cancelling takes.
WORST = round(1860 * 0.000975 * USD)


@pytest.fixture
def job(ready, client):
    """A job of the person at the keyboard that failed after it was submitted in earnest."""
    client.force_login(ready.member.user)
    ProviderSettings.objects.create(team=ready.team, data_consent="allow")
    job = ready.submit()
    ending.fail(job, error="The archive could not be uploaded.", cause="launch")
    return job


def address(job):
    return reverse("jobs:retry", args=[job.team.slug, job.job_id])


def send(client, job, **fields):
    return client.post(address(job), {"agreed": WORST, "key": "form-1"} | fields)


@pytest.mark.parametrize(
    ("state", "links"),
    [(State.FAILED, [True, True]), (State.CANCELLED, [True, True]), (State.COMPLETED, [False, True]), (State.RUNNING, [False, True])],
)
def test_a_job_that_failed_or_was_cancelled_can_run_again_as_it_is(client, job, state, links):
    Job.objects.filter(pk=job.pk).update(state=state)

    page = client.get(job.get_absolute_url()).content.decode()

    assert ['id="job-retry"' in page, 'id="job-again"' in page] == links


def test_the_amount_is_said_before_it_is_held(client, job):
    page = client.get(address(job)).content.decode()

    assert "Run again for at most $1.81" in page
    assert re.search(r'name="agreed" value="(\d+)"', page)[1] == str(WORST)
    assert Job.objects.count() == 1


def test_the_new_job_holds_money_and_names_the_first(client, job):
    response = send(client, job)

    again = Job.objects.exclude(pk=job.pk).get()
    assert response["Location"] == again.get_absolute_url()
    assert (again.parent, again.link, again.hold.amount, again.config) == (job, "retry", WORST, job.config)
    job.refresh_from_db()
    assert job.state == State.FAILED


def test_a_double_click_makes_one_job(client, job):
    places = {send(client, job)["Location"] for _ in range(2)}

    assert (len(places), Job.objects.count()) == (1, 2)


@pytest.mark.parametrize("agreed", ["", "1", str(WORST - 1)])
def test_an_amount_that_was_not_agreed_to_is_not_held(client, job, agreed):
    response = send(client, job, agreed=agreed)

    assert "It can now cost up to $1.81." in response.content.decode()
    assert Job.objects.count() == 1


def test_a_limit_that_leaves_too_little_is_said_and_no_button_is_there(client, job):
    SpendLimitFactory(team=job.team, amount=USD)

    page = client.get(address(job)).content.decode()
    sent = send(client, job)

    assert "It is refused by the team&#x27;s monthly limit: $1.00 are left until it resets," in page
    assert "Run again for at most" not in page
    assert sent.status_code == 200
    assert Job.objects.count() == 1


def test_a_team_that_has_not_agreed_yet_is_asked_on_the_submit_page(client, job):
    ProviderSettings.objects.update(data_consent="ask")

    page = client.get(address(job)).content.decode()
    send(client, job)

    assert "Choose Clone: that page asks." in page
    assert "Run again for at most" not in page
    assert Job.objects.count() == 1


def test_without_a_token_it_says_what_is_missing(client, job, ready):
    ready.credential.removed_at = timezone.now()
    ready.credential.save()

    page = client.get(address(job)).content.decode()

    assert "REPLICATE_API_TOKEN not set" in page
    assert "Run again for at most" not in page


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.RESEARCHER, 403), (Role.LEAD, 200), (Role.OWNER, 200)])
def test_who_may_run_anothers_job_again(client, job, role, status):
    client.force_login(make_member(job, role).user)

    answers = client.get(address(job)).status_code, client.post(address(job), {"agreed": "1"}).status_code

    assert answers == (status, status)
    assert ('id="job-retry"' in client.get(job.get_absolute_url()).content.decode()) is (status == 200)


def test_what_runs_cannot_run_again_and_a_foreign_job_does_not_exist(client, job):
    Job.objects.filter(pk=job.pk).update(state=State.RUNNING)
    foreign = JobFactory(team=TeamFactory(), state=State.FAILED)

    assert client.get(address(job)).status_code == 409
    assert client.get(address(foreign)).status_code == 404
