"""The queue by API: every row of the contract's section 11 that is about the queue, and what is ours beside it."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import AuditLine
from jobs.models import Job, QueueSettings
from jobs.services.dispatch import dispatch
from jobs.states import State
from tests.factories import MembershipFactory
from tests.jobs.factories import JobFactory, completed
from tests.jobs.ready import NAMED, make_ready

pytestmark = pytest.mark.django_db

QUEUE = "/api/queue"
E = {
    "id": int, "job_id": str, "user_id": int, "provider": str, "config_name": str, "priority": int, "priority_name": str,
    "priority_override": type(None), "effective_priority": int, "status": str, "position": int, "queued_at": str, "started_at": type(None),
    "completed_at": type(None), "estimated_cost": float, "estimated_cost_micros": int, "requires_approval": bool, "attempt": int,
    "error_message": type(None), "waiting_reason": str, "not_before": type(None), "estimated_wait_seconds": float,
}  # fmt: skip


def waiting(member, **fields):
    fields = {"submitted_at": timezone.now(), "waiting_reason": "turn", "estimate_high": 1_000_000, **fields}
    return JobFactory(team=member.team, submitted_by=member.user, state=State.PENDING, started_at=None, **fields)


def ids(answer):
    return [entry["job_id"] for entry in answer.json()["entries"]]


# --- Reading ----------------------------------------------------------------------------------------------


def test_the_list_has_what_waits_in_order_and_then_the_others(call, researcher):
    ahead = waiting(MembershipFactory(), priority=40)
    low, high = waiting(researcher, priority=0), waiting(researcher, priority=20)
    running = JobFactory(team=researcher.team, submitted_by=researcher.user)
    blocked = JobFactory(team=researcher.team, state=State.BLOCKED, started_at=None)
    over = completed(researcher.team, seconds=60)

    answer = call(researcher, "get", QUEUE)

    said = answer.json()
    assert answer.status_code == 200
    assert ids(answer) == [high.job_id, low.job_id, blocked.job_id, running.job_id]
    assert (said["total_pending"], said["total_running"]) == (2, 1)
    # One's own team has a job running, so the other team's turn comes first.
    assert [entry["position"] for entry in said["entries"]] == [2, 3, 0, 0]
    assert {name: type(value) for name, value in said["entries"][0].items()} == E
    assert [entry["status"] for entry in said["entries"]] == ["pending", "pending", "blocked", "running"]
    assert ahead.job_id not in answer.content.decode()
    assert over.job_id in ids(call(researcher, "get", QUEUE, include_completed="true"))


@pytest.mark.parametrize(
    ("query", "count"),
    [({"status": "pending"}, 3), ({"status": "ready"}, 0), ({"status": "running"}, 2), ({"limit": "2"}, 2), ({"offset": "4"}, 1)],
)
def test_the_list_is_filtered_and_paged(call, researcher, query, count):
    for _ in range(3):
        waiting(researcher)
    JobFactory(team=researcher.team, state=State.UPLOADING), JobFactory(team=researcher.team)

    assert len(ids(call(researcher, "get", QUEUE, **query))) == count


def test_pages_of_the_list_have_each_job_once(call, researcher):
    for _ in range(3):
        waiting(researcher), JobFactory(team=researcher.team)

    pages = [job for offset in ("0", "2", "4") for job in ids(call(researcher, "get", QUEUE, limit="2", offset=offset))]

    assert (len(pages), len(set(pages))) == (6, 6)


@pytest.mark.parametrize("query", [{"status": "sleeping"}, {"limit": "0"}, {"limit": "201"}, {"offset": "-1"}])
def test_what_is_no_filter_is_refused(call, researcher, query):
    assert call(researcher, "get", QUEUE, **query).status_code == 400


def test_lists_ask_as_often_for_many_as_for_one(call, researcher):
    def questions(path):
        with CaptureQueriesContext(connection) as asked:
            assert call(researcher, "get", path).status_code == 200
        return len(asked)

    waiting(researcher), JobFactory(team=researcher.team)
    for path in (QUEUE, "/api/cloud/jobs"):
        questions(path)
    before = [questions(path) for path in (QUEUE, "/api/cloud/jobs")]
    for _ in range(4):
        waiting(MembershipFactory(team=researcher.team))

    assert [questions(path) for path in (QUEUE, "/api/cloud/jobs")] == before


def test_figures_are_of_the_team_beside_how_full_the_platform_is(call, researcher):
    waiting(researcher), waiting(researcher), waiting(MembershipFactory())
    JobFactory(team=researcher.team, submitted_by=researcher.user, dispatched_at=timezone.now())
    completed(researcher.team, seconds=60)

    said = call(researcher, "get", f"{QUEUE}/stats").json()

    counts = {"pending": 2, "ready": 0, "running": 1, "completed": 1, "failed": 0, "cancelled": 0, "blocked": 0}
    assert said["by_status"] == counts
    assert (said["by_user"], said["queue_depth"], said["running"]) == ({str(researcher.user.pk): 3}, 2, 1)
    assert (said["platform_queue_depth"], said["platform_running"]) == (3, 1)
    assert isinstance(said["avg_wait_seconds"], float)
    numbers = [said[name] for name in ("max_concurrent", "team_max_concurrent", "user_max_concurrent", "enable_fair_share")]
    assert (numbers, said["local"], said["workers"]) == ([50, 10, 5, True], None, None)


def test_nobody_has_waited_where_nothing_ran(call, researcher):
    assert call(researcher, "get", f"{QUEUE}/stats").json()["avg_wait_seconds"] is None


def test_people_see_their_own_jobs_and_those_of_another(call, researcher, lead):
    first = waiting(researcher)
    waiting(lead), JobFactory(team=lead.team, submitted_by=researcher.user)

    own = call(researcher, "get", f"{QUEUE}/me").json()
    seen = call(lead, "get", f"{QUEUE}/user/{researcher.user.pk}").json()

    assert own == seen
    assert (own["pending_count"], own["running_count"], own["blocked_count"], own["best_position"]) == (1, 1, 0, 1)
    assert ([job["job_id"] for job in own["pending_jobs"]], len(own["running_jobs"])) == ([first.job_id], 1)
    assert call(lead, "get", f"{QUEUE}/me").json()["best_position"] == 2
    assert call(lead, "get", f"{QUEUE}/user/{MembershipFactory().user.pk}").status_code == 404


def test_a_position_says_why_and_how_long(call, researcher):
    QueueSettings.objects.create(team=researcher.team, mode="paused", reason="budget review")
    job, gone = waiting(researcher, priority=20), JobFactory(team=researcher.team)
    dispatch()

    said = call(researcher, "get", f"{QUEUE}/position/{job.job_id}").json()

    assert (said["job_id"], said["position"], said["status"], said["priority"]) == (job.job_id, 1, "pending", "high")
    assert (said["waiting_reason"], said["estimated_wait_seconds"]) == ("paused", None)
    assert said["paused"] == [{"mode": "paused", "reason": "budget review"}]
    assert call(researcher, "get", f"{QUEUE}/position/{gone.job_id}").json()["position"] == 0
    assert call(MembershipFactory(), "get", f"{QUEUE}/position/{job.job_id}").status_code == 404


def test_the_job_object_has_its_place_and_its_wait(call, researcher):
    first, second = waiting(researcher, priority=20), waiting(researcher)

    jobs = {job["job_id"]: job for job in call(researcher, "get", "/api/cloud/jobs").json()["jobs"]}

    found = [(jobs[job.job_id]["queue_position"], jobs[job.job_id]["estimated_wait_seconds"]) for job in (first, second)]
    assert found == [(1, 0.0), (2, 0.0)]


# --- Steering one job -------------------------------------------------------------------------------------


def test_a_waiting_job_is_cancelled_and_one_that_has_gone_is_not(call, researcher):
    job, gone = waiting(researcher), JobFactory(team=researcher.team, submitted_by=researcher.user)

    answers = [call(researcher, "post", f"{QUEUE}/{each.job_id}/cancel") for each in (job, job, gone)]

    assert [answer.status_code for answer in answers] == [200, 200, 409]
    assert (answers[0].json(), answers[2].json()["code"]) == ({"success": True, "job_id": job.job_id}, "invalid_job_state")
    assert Job.objects.get(pk=job.pk).state == "cancelled"


def test_a_lead_gives_a_priority_and_takes_it_back(call, lead, researcher):
    job = waiting(researcher)

    raised = call(lead, "post", f"{QUEUE}/{job.job_id}/priority", {"priority": 45})
    back = call(lead, "post", f"{QUEUE}/{job.job_id}/priority", {"priority": None})

    assert raised.json() == {
        "success": True, "job_id": job.job_id, "previous_effective_priority": 10, "new_effective_priority": 45, "priority_override": 45,
    }  # fmt: skip
    assert (back.json()["new_effective_priority"], back.json()["priority_override"]) == (10, None)
    line = AuditLine.objects.filter(event_type="job.priority_changed").order_by("pk").first()
    assert (line.after, line.actor_id) == ({"priority_override": 45}, lead.user.pk)


@pytest.mark.parametrize("body", [{}, {"priority": 51}, {"priority": -1}, {"priority": "high"}, {"priority": True}])
def test_what_is_no_priority_is_refused(call, lead, researcher, body):
    assert call(lead, "post", f"{QUEUE}/{waiting(researcher).job_id}/priority", body).status_code == 400


def test_only_who_may_gives_priorities_and_only_to_what_waits(call, lead, researcher):
    own, gone = waiting(researcher), JobFactory(team=lead.team)

    refused = call(researcher, "post", f"{QUEUE}/{own.job_id}/priority", {"priority": 50})
    late = call(lead, "post", f"{QUEUE}/{gone.job_id}/priority", {"priority": 50})

    assert (refused.status_code, refused.json()["details"]["required_permission"]) == (403, "job.priority.high")
    assert late.status_code == 409


def test_a_job_is_told_to_start_later_and_told_to_go(call, researcher):
    job = waiting(researcher)
    start = (timezone.now() + timedelta(hours=3)).replace(microsecond=0)

    moved = call(researcher, "post", f"{QUEUE}/{job.job_id}/not-before", {"not_before": start.isoformat()})
    freed = call(researcher, "post", f"{QUEUE}/{job.job_id}/not-before", {"not_before": None})

    assert (moved.json()["not_before"], freed.json()["not_before"]) == (start.isoformat(), None)
    wrong = ({}, {"not_before": "soon"}, {"not_before": "2026-01-01T00:00:00Z"})
    assert [call(researcher, "post", f"{QUEUE}/{job.job_id}/not-before", body).status_code for body in wrong] == [400, 400, 422]


# --- Numbers and modes ------------------------------------------------------------------------------------


def test_an_owner_lowers_the_teams_numbers_and_never_raises_them(call, owner, lead):
    lowered = call(owner, "post", f"{QUEUE}/concurrency", {"team_max_concurrent": 3, "user_max_concurrent": 2})
    raised = call(owner, "post", f"{QUEUE}/concurrency", {"team_max_concurrent": 11})
    platforms = call(owner, "post", f"{QUEUE}/concurrency", {"max_concurrent": 3})
    by_lead = call(lead, "post", f"{QUEUE}/concurrency", {"team_max_concurrent": 1})

    assert lowered.json() == {
        "success": True, "max_concurrent": 50, "user_max_concurrent": 2, "team_max_concurrent": 3, "enable_fair_share": True,
        "local_gpu_max_concurrent": None, "local_job_max_concurrent": 1,
    }  # fmt: skip
    assert [answer.status_code for answer in (raised, platforms, by_lead)] == [422, 403, 403]
    assert call(lead, "get", f"{QUEUE}/concurrency").json()["team_max_concurrent"] == 3
    assert call(MembershipFactory(), "get", f"{QUEUE}/concurrency").json()["team_max_concurrent"] == 10
    assert AuditLine.objects.get(event_type="config.changed", team=owner.team).after == {"own_team_max": 3, "own_user_max": 2}


def test_staff_set_the_platforms_numbers_and_they_stay(call, staff):
    asked = {
        "max_concurrent": 7, "user_max_concurrent": 2, "team_max_concurrent": 4, "enable_fair_share": False, "local_gpu_max_concurrent": 2,
        "local_job_max_concurrent": 3,
    }  # fmt: skip

    answer = call.by_cookie(staff, "post", f"{QUEUE}/concurrency", asked)

    assert (answer.status_code, answer.json()) == (200, {"success": True, **asked})
    assert call.by_cookie(staff, "get", f"{QUEUE}/concurrency").json() == asked


@pytest.mark.parametrize(
    "body", [{"max_concurrent": 101}, {"user_max_concurrent": 0}, {"team_max_concurrent": "5"}, {"enable_fair_share": 1}]
)
def test_numbers_out_of_range_are_refused(call, staff, body):
    assert call.by_cookie(staff, "post", f"{QUEUE}/concurrency", body).status_code == 400


def test_a_lead_pauses_the_team_with_a_reason_and_resumes_it(call, lead, researcher):
    job = waiting(researcher)

    paused = call(lead, "post", f"{QUEUE}/mode", {"mode": "paused", "reason": "budget review"})
    held = dispatch()
    seen = call(researcher, "get", f"{QUEUE}/mode").json()
    resumed = call(lead, "post", f"{QUEUE}/mode", {"mode": "running"})

    assert (paused.json(), held) == ({"success": True, "mode": "paused", "reason": "budget review"}, [])
    assert (seen["mode"], seen["reason"], seen["platform"]["mode"], seen["providers"]["replicate"]["mode"]) == (
        "paused", "budget review", "running", "running",
    )  # fmt: skip
    assert (resumed.json()["mode"], dispatch()) == ("running", [job])
    assert AuditLine.objects.filter(event_type="queue.mode_changed", team=lead.team).count() == 2


def test_only_who_may_pauses_and_what_staff_stopped_only_they_let_go(call, owner, researcher, staff):
    by_researcher = call(researcher, "post", f"{QUEUE}/mode", {"mode": "paused"})
    unknown = call(owner, "post", f"{QUEUE}/mode", {"mode": "asleep"})
    provider = call(owner, "post", f"{QUEUE}/mode", {"mode": "paused", "provider": "replicate"})
    QueueSettings.objects.create(team=owner.team, mode="paused", is_staffs=True, reason="abuse")
    stopped = call(owner, "post", f"{QUEUE}/mode", {"mode": "running"})

    assert [answer.status_code for answer in (by_researcher, unknown, provider, stopped)] == [403, 400, 403, 403]
    assert (stopped.json()["code"], stopped.json()["details"]["reason"]) == ("held_by_staff", "abuse")


def test_staff_pause_the_platform_and_a_provider(call, staff, researcher):
    call.by_cookie(staff, "post", f"{QUEUE}/mode", {"mode": "draining", "reason": "moving"})
    call.by_cookie(staff, "post", f"{QUEUE}/mode", {"mode": "paused", "provider": "replicate"})

    seen = call(researcher, "get", f"{QUEUE}/mode").json()

    assert seen["platform"] == {"mode": "draining", "reason": "moving"}
    assert seen["providers"] == {"replicate": {"mode": "paused", "reason": None}, "sandbox": {"mode": "running", "reason": None}}


# --- The whole queue --------------------------------------------------------------------------------------


def test_a_look_at_the_queue_tells_of_the_teams_jobs_only(call, owner):
    own = waiting(owner)
    other = waiting(MembershipFactory())

    said = call(owner, "post", f"{QUEUE}/process").json()

    assert said == {"success": True, "dispatched": 1, "job_ids": [own.job_id]}
    assert Job.objects.get(pk=other.pk).state == "uploading"


def test_tidying_takes_old_jobs_out_of_the_list_and_out_of_nothing_else(call, owner):
    now = timezone.now()
    old = completed(owner.team, seconds=60, ended_at=now - timedelta(days=40))
    new = completed(owner.team, seconds=60, ended_at=now - timedelta(days=2))

    answers = [call(owner, "post", f"{QUEUE}/cleanup").json() for _ in range(2)]

    assert answers == [{"success": True, "deleted": 1, "days": 30}, {"success": True, "deleted": 0, "days": 30}]
    assert ids(call(owner, "get", QUEUE, include_completed="true")) == [new.job_id]
    assert {job["job_id"] for job in call(owner, "get", "/api/cloud/jobs").json()["jobs"]} == {old.job_id, new.job_id}
    assert call(owner, "post", f"{QUEUE}/cleanup", {"days": 366}).status_code == 400


def test_polling_is_always_on(call, owner):
    on = call(owner, "put", f"{QUEUE}/polling/setting", enabled="true")
    off = call(owner, "put", f"{QUEUE}/polling/setting", enabled="false")

    assert (on.json(), off.status_code) == ({"success": True, "polling_enabled": True}, 422)
    assert call(owner, "get", f"{QUEUE}/polling/status").json() == {"polling_enabled": True}


# --- Submitting -------------------------------------------------------------------------------------------


def test_jobs_submit_submits_a_named_config(no_provider):
    ready = make_ready()

    answer = ready.post({"config_name": NAMED, "target": "auto"}, path=f"{QUEUE}/submit")

    job = Job.objects.get()
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "success": True, "job_id": job.job_id, "status": "queued", "allocated_gpus": None, "allocated_worker_id": None,
            "queue_position": 1, "requires_approval": False, "error": None, "reason": "It waits for its turn.",
        },
    )  # fmt: skip


def test_jobs_submit_knows_no_other_target_and_waits_if_it_may(no_provider):
    ready = make_ready()
    QueueSettings.objects.create(team=None, max_concurrent=1)
    JobFactory()

    elsewhere = ready.post({"config_name": NAMED, "target": "local"}, path=f"{QUEUE}/submit")
    unknown = ready.post({"config_name": "nothing"}, path=f"{QUEUE}/submit")
    at_once = ready.post({"config_name": NAMED, "no_wait": True}, path=f"{QUEUE}/submit").json()

    assert (elsewhere.status_code, elsewhere.json()["detail"]) == (422, "This server runs jobs on Replicate only.")
    assert (unknown.status_code, at_once["success"], at_once["status"]) == (404, False, "rejected")
    assert not ready.team.jobs.exists()


def test_a_submission_names_its_start(no_provider):
    ready = make_ready()
    start = (timezone.now() + timedelta(days=1)).replace(microsecond=0)

    answer = ready.post({"config_name_to_load": NAMED, "not_before": start.isoformat(), "idempotency_key": "tonight"})
    again = ready.post({"config_name_to_load": NAMED, "not_before": start.isoformat(), "idempotency_key": "tonight"})
    wrong = [ready.post({"config_name_to_load": NAMED, "not_before": word}).status_code for word in ("tonight", "2026-01-01T00:00:00Z")]

    assert (answer.status_code, Job.objects.get().not_before, again.json()["idempotent_hit"]) == (200, start, True)
    assert wrong == [400, 422]


def test_a_drained_provider_takes_nothing_new_and_says_why(no_provider):
    ready = make_ready()
    QueueSettings.objects.create(team=None, provider="replicate", mode="draining", reason="moving to another account")

    answer = ready.post({"config_name_to_load": NAMED})

    assert (answer.status_code, answer.json()["code"]) == (503, "queue_draining")
    assert "moving to another account" in answer.json()["detail"]
