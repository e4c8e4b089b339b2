"""Cancelling several jobs from the list: chosen by its filters, said what it costs in all, then done."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditLine
from accounts.roles import Role
from jobs.models import Job
from jobs.states import State
from tests.billing.factories import USD
from tests.factories import MembershipFactory
from tests.jobs.factories import JobFactory, hold_for, make_member

pytestmark = pytest.mark.django_db


@pytest.fixture
def lead(client):
    member = MembershipFactory(role=Role.LEAD)
    client.force_login(member.user)
    return member


@pytest.fixture
def address(lead):
    return reverse("jobs:cancel_several", args=[lead.team.slug])


def waiting(team, **fields):
    job = JobFactory(team=team, **{"state": State.PENDING, "started_at": None} | fields)
    hold_for(job, micros=4 * USD)
    return job


def running(team, **fields):
    job = JobFactory(team=team, prediction_id="p1", started_at=timezone.now() - timedelta(seconds=1004), **fields)
    hold_for(job, micros=4 * USD)
    return job


def test_the_filters_of_the_list_choose(client, lead, address):
    wanted, other, over = waiting(lead.team, run_name="cats"), waiting(lead.team, run_name="dogs"), waiting(lead.team, run_name="cats 2")
    Job.objects.filter(pk=over.pk).update(state=State.COMPLETED)

    listed = client.get(reverse("jobs:list", args=[lead.team.slug]), {"q": "cats"}).content.decode()
    page = client.get(address, {"q": "cats"}).content.decode()

    assert f'href="{address}?q=cats"' in listed
    assert [job.job_id in page for job in (wanted, other, over)] == [True, False, False]


def test_count_and_total_are_said_before(client, lead, address):
    jobs = [waiting(lead.team), running(lead.team)]

    page = " ".join(client.get(address, {"job": [job.job_id for job in jobs]}).content.decode().split())

    assert "Cancel 2 jobs?" in page
    # 1004 seconds at the price of the test's GPU, and a little more.
    assert "about $0.98 in all so far" in page
    assert "more than the $8.00 that are held" in page
    assert not Job.objects.filter(state=State.CANCELLED).exists()


def test_what_was_not_sent_ends_at_once_and_the_rest_is_told_to(client, lead, address):
    unsent, sent, kept = waiting(lead.team), running(lead.team), waiting(lead.team)

    answer = client.post(address, {"job": [unsent.job_id, sent.job_id]}, follow=True)

    states = dict(Job.objects.values_list("pk", "state"))
    assert (states[unsent.pk], states[sent.pk], states[kept.pk]) == ("cancelled", "running", "pending")
    assert Job.objects.get(pk=sent.pk).cancel_requested_at is not None
    assert "2 jobs are cancelled or told to stop." in answer.content.decode()
    assert AuditLine.objects.filter(event_type="job.cancelled", actor=lead.user.username).count() == 2


def test_what_ended_meanwhile_is_left_out(client, lead, address):
    job, over = waiting(lead.team), waiting(lead.team)
    Job.objects.filter(pk=over.pk).update(state=State.FAILED)

    answer = client.post(address, {"job": [job.job_id, over.job_id]}, follow=True)

    assert "1 job is cancelled or told to stop." in answer.content.decode()


def test_researchers_are_offered_their_own_and_may_send_no_others(client, lead, address):
    researcher = make_member(lead.team)
    own, others = waiting(lead.team, submitted_by=researcher.user), waiting(lead.team)
    client.force_login(researcher.user)

    page = client.get(address).content.decode()
    refused = client.post(address, {"job": [own.job_id, others.job_id]})

    assert [job.job_id in page for job in (own, others)] == [True, False]
    assert refused.status_code == 403
    assert set(Job.objects.values_list("state", flat=True)) == {"pending"}


def test_a_foreign_job_is_none(client, lead, address):
    foreign = waiting(MembershipFactory().team)

    assert client.post(address, {"job": foreign.job_id}).status_code == 404
    assert Job.objects.get().state == "pending"


def test_with_nothing_to_cancel_it_says_so(client, lead, address):
    assert "none can be cancelled by you" in client.get(address).content.decode()
    assert client.post(address).status_code == 200
