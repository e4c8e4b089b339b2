"""The queue in the administration: pausing with a reason, priorities, and the whole platform's queue."""

import pytest
from django.urls import reverse

from accounts.models import AuditLine
from jobs.models import QueueSettings
from jobs.services.dispatch import dispatch
from jobs.states import State
from tests.factories import TeamFactory, UserFactory
from tests.jobs.factories import JobFactory

pytestmark = pytest.mark.django_db
LIST = "admin:jobs_queuesettings_changelist"


@pytest.fixture
def superuser(client):
    superuser = UserFactory(is_staff=True, is_superuser=True)
    client.force_login(superuser)
    return superuser


def act(client, name, page, *rows, **more):
    return client.post(reverse(page), {"action": name, "_selected_action": [row.pk for row in rows], **more}, follow=True)


def waiting(**fields):
    return JobFactory(state=State.PENDING, started_at=None, **fields)


def test_the_platform_and_its_providers_are_there_to_be_paused_with_a_reason(client, superuser):
    dispatch()
    page = client.get(reverse(LIST)).content.decode()
    sandbox = QueueSettings.objects.get(provider="sandbox")
    rehearsal, real = waiting(provider="sandbox"), waiting()

    act(client, "pause", LIST, sandbox, reason="new version")
    gone = dispatch()
    act(client, "resume", LIST, sandbox)

    assert ["whole platform" in page, "Replicate" in page, "Sandbox" in page] == [True, True, True]
    assert (gone, dispatch()) == ([real], [rehearsal])
    lines = AuditLine.objects.filter(event_type="queue.mode_changed", team=None).order_by("pk")
    assert [(line.after["mode"], line.reason, line.actor) for line in lines] == [
        ("paused", "new version", superuser.username), ("running", "", superuser.username),
    ]  # fmt: skip


def test_a_team_that_staff_drain_is_theirs_to_resume(client, superuser):
    row = QueueSettings.objects.create(team=TeamFactory())

    act(client, "drain", LIST, row, reason="invoice open")

    row.refresh_from_db()
    assert (row.mode, row.reason, row.is_staffs) == ("draining", "invoice open", True)


def test_who_only_looks_pauses_nothing(client):
    client.force_login(UserFactory(is_staff=True))
    row = QueueSettings.objects.create(team=TeamFactory())

    act(client, "pause", LIST, row)

    row.refresh_from_db()
    assert row.mode == "running"


def test_numbers_out_of_range_are_not_saved(client, superuser):
    row = QueueSettings.objects.create(team=None)

    answer = client.post(reverse("admin:jobs_queuesettings_change", args=[row.pk]), {"mode": "running", "max_concurrent": "101"})

    row.refresh_from_db()
    assert (answer.status_code, row.max_concurrent) == (200, None)


def test_the_whole_queue_is_listed_and_staff_give_priorities(client, superuser):
    job, running = waiting(), JobFactory()

    listed = client.get(reverse("admin:jobs_queuesettings_whole_queue"), follow=True).content.decode()
    act(client, "prioritise", "admin:jobs_job_changelist", job, running, priority="50")

    job.refresh_from_db()
    assert (job.job_id in listed, running.job_id in listed, job.priority_override) == (True, False, 50)
    assert AuditLine.objects.get(event_type="job.priority_changed").actor == superuser.username
