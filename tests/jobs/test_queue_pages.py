"""The page of the queue: what waits, in which order and why, and who may change that; and the same on the page of a job."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditLine
from accounts.roles import Role
from jobs.models import Job, ProviderSettings, QueueSettings
from jobs.services.dispatch import dispatch
from jobs.states import State
from tests.factories import MembershipFactory
from tests.jobs.factories import JobFactory, make_member
from tests.jobs.ready import NAMED, make_ready
from tests.pages import INLINE, words

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(client):
    owner = MembershipFactory(role=Role.OWNER)
    client.force_login(owner.user)
    return owner


@pytest.fixture
def team(owner):
    return owner.team


def address(name, team, *args):
    return reverse(f"jobs:{name}", args=[team.slug, *args])


def waiting(team, **fields):
    fields = {"submitted_at": timezone.now(), "waiting_reason": "turn", **fields}
    return JobFactory(team=team, state=State.PENDING, started_at=None, **fields)


def test_the_queue_shows_the_teams_jobs_in_order_with_place_person_and_reason(client, team):
    waiting(MembershipFactory().team, priority=50, run_name="other team's")
    waiting(team, priority=0, run_name="slow", waiting_reason="person_full")
    waiting(team, priority=20, run_name="quick")

    answer = client.get(address("queue", team))

    page = words(answer)
    assert (answer.status_code, page.index("quick") < page.index("slow")) == (200, True)
    assert ["other team's" in page, "This person already runs as many jobs" in page, "high (20)" in page] == [False, True, True]
    assert not INLINE.search(answer.content.decode())
    assert address("queue", team) in client.get(address("list", team)).content.decode()


def test_an_empty_queue_says_so(client, team):
    assert "Nothing waits" in words(client.get(address("queue", team)))


def test_the_page_asks_as_often_for_many_jobs_as_for_one(client, team):
    def questions():
        with CaptureQueriesContext(connection) as asked:
            client.get(address("queue", team))
        return len(asked)

    waiting(team)
    questions()
    one = questions()
    for _ in range(4):
        waiting(team)

    assert questions() == one


def test_a_lead_pauses_drains_and_resumes_the_team_and_everybody_reads_why(client, team):
    lead, viewer = make_member(team, Role.LEAD), make_member(team, Role.VIEWER)
    job = waiting(team)
    client.force_login(lead.user)

    client.post(address("queue_mode", team), {"mode": "paused", "reason": "budget review"})
    held = dispatch()
    client.force_login(viewer.user)
    pages = [words(client.get(where)) for where in (address("queue", team), address("detail", team, job.job_id))]
    refused = client.post(address("queue_mode", team), {"mode": "running"})
    client.force_login(lead.user)
    client.post(address("queue_mode", team), {"mode": "running"})

    assert (held, ["budget review" in page for page in pages], refused.status_code) == ([], [True, True], 403)
    assert [AuditLine.objects.filter(event_type="queue.mode_changed", team=team).count(), dispatch()] == [2, [job]]


def test_what_staff_stopped_stays_stopped_and_the_page_says_by_whom(client, team):
    QueueSettings.objects.create(team=team, mode="paused", is_staffs=True)
    QueueSettings.objects.create(team=None, provider="replicate", mode="paused", reason="new terms")

    client.post(address("queue_mode", team), {"mode": "running"})

    page = words(client.get(address("queue", team)))
    assert QueueSettings.objects.get(team=team).mode == "paused"
    assert ["only they let it go on" in page, "Replicate : paused" in page, "new terms" in page] == [True, True, True]


def test_a_lead_sets_a_priority_and_a_wrong_one_is_told(client, team):
    job = waiting(team)

    client.post(address("queue_priority", team, job.job_id), {"priority": "45"})
    job.refresh_from_db()
    wrong = client.post(address("queue_priority", team, job.job_id), {"priority": "51"}, follow=True)
    again = client.post(address("queue_priority", team, job.job_id), {"priority": ""}, follow=True)

    assert job.priority_override == 45
    assert ["from 0 to 50" in words(wrong), "critical (45)" in words(wrong), "normal (10)" in words(again)] == [True, True, True]


def test_an_owner_lowers_the_teams_numbers_and_is_told_what_is_too_much(client, team):
    client.post(address("queue_numbers", team), {"team_max_concurrent": "3", "user_max_concurrent": ""})
    wrong = client.post(address("queue_numbers", team), {"team_max_concurrent": "40"})

    assert QueueSettings.objects.get(team=team).own_team_max == 3
    assert "can be 10 at most" in words(wrong)
    client.force_login(make_member(team, Role.LEAD).user)
    assert client.post(address("queue_numbers", team), {"team_max_concurrent": "1"}).status_code == 403


def test_a_start_is_chosen_in_the_teams_time_zone_and_taken_back(client, team):
    team.time_zone = "America/Santiago"
    team.save()
    job = waiting(team)
    local = (timezone.now() + timedelta(days=1)).astimezone(ZoneInfo(team.time_zone)).replace(second=0, microsecond=0)

    client.post(address("start", team, job.job_id), {"not_before": f"{local:%Y-%m-%dT%H:%M}"})
    job.refresh_from_db()
    page = words(client.get(address("detail", team, job.job_id)))
    early = client.post(address("start", team, job.job_id), {"not_before": "2026-01-01T10:00"})
    client.post(address("start", team, job.job_id), {"remove": "1"})

    assert job.not_before == local
    assert ["It starts at the earliest" in page, "must be in the future" in words(early)] == [True, True]
    assert Job.objects.get(pk=job.pk).not_before is None


def test_who_may_not_cancel_a_job_does_not_move_its_start(client, team):
    job = waiting(team)
    client.force_login(make_member(team, Role.RESEARCHER).user)

    assert client.get(address("start", team, job.job_id)).status_code == 403
    assert "Start it later" not in words(client.get(address("detail", team, job.job_id)))


def test_the_job_page_says_its_place_and_what_the_start_rests_on(client, team):
    QueueSettings.objects.create(team=None, max_concurrent=1)
    now = timezone.now()
    JobFactory(state=State.COMPLETED, dispatched_at=now - timedelta(hours=2), ended_at=now - timedelta(hours=1))
    JobFactory(dispatched_at=now)
    job = waiting(team)

    page = words(client.get(address("detail", team, job.job_id)))

    assert "Place 1 in the queue of all teams, priority normal." in page
    assert ["It likely starts" in page, "That rests on how long recent runs took" in page] == [True, True]


def test_the_form_submits_for_later(client, no_provider):
    ready = make_ready(role=Role.OWNER)
    ready.team.time_zone = "Europe/Madrid"
    ready.team.save()
    client.force_login(ready.member.user)
    QueueSettings.objects.create(team=None)

    ProviderSettings.objects.create(team=ready.team, data_consent="allow")
    local = (datetime.now(ZoneInfo("Europe/Madrid")) + timedelta(days=2)).replace(hour=12, minute=30, second=0, microsecond=0)

    answer = client.post(
        address("new", ready.team), {"config_name": NAMED, "agreed": 10**9, "not_before": f"{local:%Y-%m-%dT%H:%M}", "key": "form-1"}
    )

    job = Job.objects.get()
    assert (answer.status_code, job.not_before, job.waiting_reason) == (302, local, "not_before")
