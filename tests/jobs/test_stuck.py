"""Jobs that do not get on: each is found by the clock, named with its cause, and told to its submitter once."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Credential, Letter
from accounts.roles import Role
from jobs import tasks
from jobs.models import Job, JobProgress, UploadProgress
from jobs.replicate import predictions
from jobs.services import progress, stuck
from jobs.states import State
from tests.factories import MembershipFactory, UserFactory, make_token
from tests.jobs.factories import JobFactory

pytestmark = pytest.mark.django_db


def ago(**span):
    return timezone.now() - timedelta(**span)


def sent(**fields):
    """A run that was heard of a moment ago."""
    now = timezone.now()
    return JobFactory(
        **{"prediction_id": "p1", "created_at_provider": now, "queued_at": now, "started_at": now, "progress__told_at": now} | fields
    )


SITUATIONS = {
    "stuck_in_queued": lambda: sent(state=State.QUEUED, started_at=None, queued_at=ago(minutes=11)),
    "silent": lambda: sent(started_at=ago(minutes=40), progress__grew_at=ago(minutes=21)),
    "not_stopped": lambda: sent(created_at_provider=ago(minutes=63)),
    "provider_down": lambda: sent(progress__told_at=ago(minutes=6)),
    "upload_slow": lambda: JobFactory(state=State.UPLOADING, started_at=None, dispatched_at=ago(minutes=11)),
    "uncertain": lambda: JobFactory(state=State.UPLOADING, started_at=None, dispatched_at=ago(minutes=11), waiting_reason="uncertain"),
    "server_disk_full": lambda: JobFactory(
        state=State.UPLOADING, started_at=None, dispatched_at=ago(minutes=11), waiting_reason="disk_full"
    ),
    "invalid_token": lambda: JobFactory(state=State.PENDING, started_at=None, submitted_at=ago(minutes=11), waiting_reason="credential"),
    "no_credit": lambda: JobFactory(state=State.PENDING, started_at=None, submitted_at=ago(minutes=11), waiting_reason="no_credit"),
}


@pytest.mark.parametrize("code", SITUATIONS)
def test_a_job_that_does_not_get_on_is_named_on_its_page_in_the_list_and_by_api(client, code):
    job = SITUATIONS[code]()
    if code == "invalid_token":
        MembershipFactory(team=job.team)
        job.credential.user = None
        job.credential.save()
    owner = MembershipFactory(team=job.team, role=Role.OWNER)
    client.force_login(owner.user)

    page = client.get(job.get_absolute_url()).content.decode()
    listed = client.get(reverse("jobs:list", args=[job.team.slug])).content.decode()
    said = (
        Client().get(f"/api/cloud/jobs/{job.job_id}", headers={"Authorization": f"Bearer {make_token(owner)[1]}"}).json()["job"]["trouble"]
    )

    assert [code for _, code in stuck.find(now=timezone.now())] == [code]
    assert said["code"] == code
    assert f'id="trouble-{code}"' in page
    assert "row-trouble" in listed
    assert "%(" not in page


HEALTHY = [
    lambda: sent(),
    lambda: sent(state=State.QUEUED, started_at=None),
    lambda: sent(started_at=ago(minutes=40), progress__grew_at=ago(minutes=2)),
    lambda: sent(started_at=ago(minutes=19)),
    lambda: sent(cancel_requested_at=ago(seconds=60)),
    lambda: sent(created_at_provider=ago(minutes=61)),
    lambda: sent(state=State.COMPLETED, progress__told_at=ago(days=2)),
    lambda: JobFactory(state=State.UPLOADING, started_at=None, dispatched_at=ago(minutes=5)),
    lambda: JobFactory(state=State.PENDING, started_at=None, submitted_at=ago(minutes=5), waiting_reason="no_credit"),
    lambda: JobFactory(state=State.PENDING, started_at=None, submitted_at=ago(hours=5), waiting_reason="turn"),
    lambda: sent(progress__told_at=ago(minutes=6), metadata={"imported": True}),
]


@pytest.mark.parametrize("make", HEALTHY)
def test_a_job_that_takes_its_time_is_not_stuck(make):
    make()

    assert list(stuck.find(now=timezone.now())) == []


def test_an_upload_that_moves_is_not_stuck_however_long_it_takes():
    job = JobFactory(state=State.UPLOADING, started_at=None, dispatched_at=ago(hours=2))
    UploadProgress.objects.create(job=job, updated_at=ago(seconds=20))

    assert list(stuck.find(now=timezone.now())) == []


def test_while_other_jobs_are_heard_of_the_one_that_is_not_is_alone():
    lost = sent(progress__told_at=ago(minutes=6))
    sent(prediction_id="p2")

    assert [(job.pk, code) for job, code in stuck.find(now=timezone.now())] == [(lost.pk, "provider_silent")]


def test_a_run_whose_token_is_refused_is_unheard_for_that_reason():
    job = sent(progress__told_at=ago(minutes=6))
    Credential.objects.update(health="refused")

    assert [(found.pk, code) for found, code in stuck.find(now=timezone.now())] == [(job.pk, "invalid_token")]


def test_a_cancel_that_nobody_confirms_is_named():
    sent(cancel_requested_at=ago(minutes=3))

    assert [code for _, code in stuck.find(now=timezone.now())] == ["not_stopped"]


def test_what_the_provider_says_is_noted_as_a_sign_of_life():
    job = sent(progress__told_at=ago(hours=1))

    progress.record(job, predictions.parse({"id": "p1", "status": "processing", "logs": "one\n"}), cause="poll")
    after_news = JobProgress.objects.get()
    JobProgress.objects.update(told_at=ago(hours=1), grew_at=ago(hours=1))
    progress.record(job, predictions.parse({"id": "p1", "status": "processing", "logs": "one\n"}), cause="poll")
    after_none = JobProgress.objects.get()

    assert min(after_news.told_at, after_news.grew_at, after_none.told_at) > ago(minutes=1)
    assert after_none.grew_at < ago(minutes=50)


def test_the_submitter_is_told_once_for_each_cause():
    job = sent(started_at=ago(minutes=40), progress__grew_at=ago(minutes=21))
    MembershipFactory(team=job.team, user=job.submitted_by)

    told = [stuck.tell(now=timezone.now()) for _ in range(2)]
    Job.objects.update(cancel_requested_at=ago(minutes=3))
    told.append(stuck.tell(now=timezone.now()))

    assert told == [1, 0, 1]
    assert [event.detail for event in job.events.filter(cause="watchdog")] == [stuck.SENTENCES["silent"], stuck.SENTENCES["not_stopped"]]
    assert [(letter.person, letter.event, letter.facts["code"]) for letter in Letter.objects.order_by("pk")] == [
        (job.submitted_by, "stuck", "silent"),
        (job.submitted_by, "stuck", "not_stopped"),
    ]


def test_who_has_left_the_team_is_not_written_to():
    sent(started_at=ago(minutes=40))

    tasks.find_stuck()

    assert (Job.objects.get().events.count(), Letter.objects.count()) == (1, 0)


def test_the_administration_lists_what_is_stuck(client):
    found = sent(started_at=ago(minutes=40))
    sent(prediction_id="p2", run_name="healthy")
    client.force_login(UserFactory(is_staff=True, is_superuser=True))

    page = client.get(reverse("admin:jobs_job_changelist"), {"stuck": "yes"}).content.decode()

    assert found.job_id in page
    assert Job.objects.get(prediction_id="p2").job_id not in page
