"""Reading and steering jobs by API: shapes and types that SimpleTuner's clients rely on, and who sees what."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.roles import Role
from jobs.archives import archive_of
from jobs.models import Job, JobProgress
from jobs.services import logs
from jobs.states import State
from tests.factories import MembershipFactory, make_token
from tests.jobs.factories import SUBMITTED_AT, ArtifactFactory, JobFactory, hold_for
from tests.jobs.ready import post

JOBS = "/api/cloud/jobs"
FIELDS = [
    "job_id", "job_type", "provider", "status", "config_name", "created_at", "queued_at", "started_at", "completed_at", "finished_at",
    "cost_usd", "cost_usd_micros", "estimated_cost", "estimated_cost_micros", "hold", "hold_micros", "hardware_type", "error_message",
    "output_url", "user_id", "metadata", "is_terminal", "is_active", "duration_seconds", "queue_position", "estimated_wait_seconds",
    "requires_approval", "approval_id", "priority", "team_id", "org_id", "waiting_reason", "cancel_requested_at", "ceiling_seconds",
    "stop_at", "is_rehearsal", "trouble", "archive", "ceiling_at", "stop_after_seconds", "seconds_until_stop", "cost_at_stop",
    "cost_at_stop_micros", "estimated_cost_low", "estimated_cost_low_micros", "estimate_source", "not_before",
]  # fmt: skip


@pytest.fixture
def member(db):
    return MembershipFactory(role=Role.RESEARCHER)


@pytest.fixture
def get(member, client):
    """GET with the member's token, or another's."""
    _, own = make_token(member)

    def ask(path, key=own, **query):
        return client.get(path, query, headers={"Authorization": f"Bearer {key}"})

    return ask


@pytest.fixture
def job(member):
    """The member's own job, which has run for ten minutes and ended."""
    ended = SUBMITTED_AT + timedelta(minutes=10)
    job = JobFactory(
        team=member.team,
        submitted_by=member.user,
        state=State.COMPLETED,
        queued_at=SUBMITTED_AT,
        ended_at=ended,
        cost=585_000,
        estimate_high=3_000_000,
        prediction_id="k" * 26,
        run_name="spring",
        output_url="https://hub.example/acme",
        metadata={"snapshot": {"name": "v1", "message": ""}},
    )
    hold_for(job, micros=3_568_500)
    return job


def test_a_job_has_every_field_that_a_client_looks_at(get, job, member):
    answer = get(f"{JOBS}/{job.job_id}")

    said = answer.json()
    found = said["job"]
    assert (answer.status_code, sorted(found)) == (200, sorted(FIELDS))
    assert (said["job_id"], said["status"], said["config_name"], said["cost_usd"]) == (job.job_id, "completed", "flux-lora", 0.585)
    assert found | {"metadata": None} == {
        "job_id": job.job_id, "job_type": "cloud", "provider": "replicate", "status": "completed", "config_name": "flux-lora",
        "created_at": "2026-11-23T12:00:00+00:00", "queued_at": "2026-11-23T12:00:00+00:00", "started_at": "2026-11-23T12:00:00+00:00",
        "completed_at": "2026-11-23T12:10:00+00:00", "finished_at": "2026-11-23T12:10:00+00:00",
        "cost_usd": 0.585, "cost_usd_micros": 585_000, "estimated_cost": 3.0, "estimated_cost_micros": 3_000_000,
        "hold": 3.5685, "hold_micros": 3_568_500, "hardware_type": "Test GPU (1GB)", "error_message": None,
        "output_url": "https://hub.example/acme", "user_id": member.user.pk, "metadata": None, "is_terminal": True, "is_active": False,
        "duration_seconds": 600.0, "queue_position": None, "estimated_wait_seconds": None, "requires_approval": False,
        "approval_id": None, "priority": 10, "team_id": str(job.team.pk), "org_id": 1, "waiting_reason": None, "not_before": None,
        "cancel_requested_at": None, "ceiling_seconds": 3600, "stop_at": None, "is_rehearsal": False, "trouble": None,
        "ceiling_at": None, "stop_after_seconds": 3600, "seconds_until_stop": None, "cost_at_stop": None, "cost_at_stop_micros": None,
        "estimated_cost_low": None, "estimated_cost_low_micros": None, "estimate_source": None,
        "archive": archive_of(job).as_json(),
    }  # fmt: skip
    assert found["metadata"] == {
        "run_name": "spring", "tracker_run_name": "spring", "prediction_id": "k" * 26, "hardware_profile": "test-gpu",
        "model": "simpletuner/advanced-trainer", "version": None, "upload_id": None, "dataset": None, "data_path": "archive",
        "destination": "local", "submitted_by": member.user.username, "config": job.config, "snapshot": {"name": "v1", "message": ""},
    }  # fmt: skip


def test_what_must_never_be_of_another_type_is_not(get, member):
    JobFactory(team=member.team, state=State.PENDING, started_at=None, run_name="")

    found = get(JOBS).json()["jobs"][0]

    assert [type(found[name]) for name in ("job_id", "status", "created_at", "metadata", "priority")] == [str, str, str, dict, int]
    assert [type(found[name]) for name in ("cost_usd", "duration_seconds", "estimated_wait_seconds")] == [float, type(None), float]
    assert isinstance(found["metadata"]["run_name"], str)


def test_a_running_job_shows_its_cost_so_far_and_never_more_than_its_hold(get, member):
    job = JobFactory(team=member.team, submitted_by=member.user)
    hold_for(job, micros=1_000)

    found = get(f"{JOBS}/{job.job_id}").json()["job"]

    assert (found["is_active"], found["cost_usd_micros"]) == (True, 1_000)


def test_an_id_may_be_cut_as_long_as_it_names_one_job(get, job, member):
    Job.objects.filter(pk=job.pk).update(job_id="j-abcdefghij")
    twin = JobFactory(team=member.team, job_id="j-abcdefgxyz")

    assert get(f"{JOBS}/j-abcdefgh").json()["job_id"] == "j-abcdefghij"
    assert get(f"{JOBS}/j-abcdefg").status_code == 404
    assert get(f"{JOBS}/{twin.job_id}/").status_code == 200
    assert get(f"{JOBS}/j-abcde").status_code == 404


@pytest.mark.parametrize("what", ["", "/logs", "/inline-progress", "/artifacts"])
def test_another_teams_job_does_not_exist(get, what):
    foreign = JobFactory()

    answer = get(f"{JOBS}/{foreign.job_id}{what}")

    said = answer.json()
    assert (answer.status_code, said["code"], said["detail"]) == (404, "job_not_found", f"Job not found: {foreign.job_id}")
    assert said["details"] == {"job_id": foreign.job_id}


# --- Lists ------------------------------------------------------------------------------------------------


def test_the_list_is_the_teams_newest_first_and_counts_all(get, member):
    old = JobFactory(team=member.team, submitted_at=SUBMITTED_AT - timedelta(days=1))
    new = JobFactory(team=member.team)
    JobFactory()
    JobFactory(team=member.team, deleted_at=SUBMITTED_AT)

    whole, second = get(JOBS).json(), get(JOBS, limit=1, offset=1).json()

    assert ([job["job_id"] for job in whole["jobs"]], whole["total"]) == ([new.job_id, old.job_id], 2)
    assert ([job["job_id"] for job in second["jobs"]], second["total"]) == ([old.job_id], 2)


def test_the_list_is_filtered(get, member):
    blocked = JobFactory(team=member.team, state=State.BLOCKED, submitted_by=member.user)
    running = JobFactory(team=member.team, run_name="spring", submitted_at=SUBMITTED_AT + timedelta(days=1))
    failed = JobFactory(team=member.team, state=State.FAILED, config_name="sdxl")

    def found(**query):
        return {job["job_id"] for job in get(JOBS, **query).json()["jobs"]}

    assert found(status="blocked") == found(status="pending_approval") == {blocked.job_id}
    assert found(status="active") == {blocked.job_id, running.job_id}
    assert found(status="terminal") == {failed.job_id}
    assert found(provider="replicate", job_type="cloud") == {blocked.job_id, running.job_id, failed.job_id}
    assert found(job_type="local") == set()
    assert found(q="SPRI") == {running.job_id}
    assert found(q="sdx") == found(q=failed.job_id[:6]) == {failed.job_id}
    assert found(user_id=member.user.pk) == {blocked.job_id}
    assert found(user_id="x") == found(user_id="9" * 30) == set()
    assert found(since="2026-11-24") == found(since="2026-11-24T00:00:00+00:00") == {running.job_id}
    assert found(until="2026-11-24T01:00:00+02:00") == {blocked.job_id, failed.job_id}


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0}, {"limit": 501}, {"limit": "x"}, {"limit": "1.5"}, {"limit": "9" * 5000}, {"offset": -1}, {"status": "wrong"},
        {"since": "yesterday"}, {"until": "2026-13-01"}, {"since": "2026-02-30T10:00:00"}, {"q": "a\0b"}, {"provider": "other"},
        {"job_type": "other"}, {"sync_active": "perhaps"},
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused(get, query):
    answer = get(JOBS, **query)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


def test_a_list_of_three_costs_as_many_queries_as_one_of_one(get, member, django_assert_num_queries):
    def add():
        hold_for(JobFactory(team=member.team), micros=1_000)

    add()
    get(JOBS)  # the token's first use is noted
    with CaptureQueriesContext(connection) as one:
        get(JOBS)
    add()
    add()

    with django_assert_num_queries(len(one)):
        assert get(JOBS).json()["total"] == 3


# --- Logs and progress ------------------------------------------------------------------------------------


def test_logs_are_text_from_an_offset_on(get, job):
    said = get(f"{JOBS}/{job.job_id}/logs").json()
    assert said.pop("archive")["state"] == "pending"
    assert said == {"job_id": job.job_id, "logs": "", "offset": 0, "length": 0}
    logs.append(job, "Step 1\nStep 2\n")

    whole, rest = get(f"{JOBS}/{job.job_id}/logs").json(), get(f"{JOBS}/{job.job_id}/logs", offset=7).json()

    assert (whole["logs"], whole["length"]) == ("Step 1\nStep 2\n", 14)
    assert (rest["logs"], rest["offset"], rest["length"]) == ("Step 2\n", 7, 14)
    assert get(f"{JOBS}/{job.job_id}/logs", offset=-1).status_code == 400


def test_logs_are_read_by_line(get, job):
    logs.append(job, "one\r\ntwo 10%\rtwo 20%\nthree\nfo")
    path = f"{JOBS}/{job.job_id}/logs"

    tail, behind, few = get(path, tail=2).json(), get(path, after_line=2).json(), get(path, after_line=1, limit=2).json()
    logs.append(job, "one\r\ntwo 10%\rtwo 20%\nthree\nfour\nfive")
    on = get(path, after_line=behind["last_line"]).json()

    assert tail == {"job_id": job.job_id, "logs": "three\nfo\n", "first_line": 4, "last_line": 4}
    assert behind == {"job_id": job.job_id, "logs": "two 20%\nthree\nfo\n", "first_line": 3, "last_line": 4}
    assert (few["logs"], few["last_line"]) == ("two 10%\ntwo 20%\n", 3)
    assert (on["logs"], on["first_line"], on["last_line"]) == ("four\nfive\n", 5, 5)
    assert get(path, after_line=99).json() == {"job_id": job.job_id, "logs": "", "first_line": None, "last_line": 99}
    assert [get(path, **odd).status_code for odd in ({"tail": "-1"}, {"tail": 2, "offset": 1}, {"after_line": "x"})] == [400] * 3


def test_a_log_is_searched(get, job):
    logs.append(job, "Step 1\nerror: one\nStep 2\n[ERROR] two\nan Error three")
    path = f"{JOBS}/{job.job_id}/logs"

    first = get(path, q="error", limit=2).json()
    rest = get(path, q="error", after_line=first["matches"][-1]["line"]).json()

    assert first == {
        "job_id": job.job_id, "logs": "error: one\n[ERROR] two\n", "q": "error", "more": True,
        "matches": [{"line": 2, "text": "error: one"}, {"line": 4, "text": "[ERROR] two"}],
    }  # fmt: skip
    assert (rest["matches"], rest["more"]) == ([{"line": 5, "text": "an Error three"}], False)
    assert get(path, q="nothing").json()["matches"] == []
    assert get(path, q="x" * 201).status_code == 400


def test_a_log_is_a_file_with_every_state_of_its_bars(client, member, job):
    logs.append(job, "one 10%\rone 20%\r\ntwo")

    _, key = make_token(member)
    answer = client.get(f"{JOBS}/{job.job_id}/logs/download", headers={"Authorization": f"Bearer {key}", "Accept": "*/*"})

    assert b"".join(answer.streaming_content) == b"one 10%\rone 20%\r\ntwo"
    assert (answer["Content-Type"], answer["Content-Disposition"]) == (
        "text/plain; charset=utf-8", f'attachment; filename="{job.job_id}.log"',
    )  # fmt: skip


def test_progress_is_shown_while_a_job_runs_only(get, member, job):
    running = JobFactory(team=member.team)
    assert get(f"{JOBS}/{running.job_id}/inline-progress").json()["stage"] == "Training"
    logs.append(running, "Step 300/1000 - loss: 0.0234\n")

    during = get(f"{JOBS}/{running.job_id}/inline-progress").json()
    ended = get(f"{JOBS}/{job.job_id}/inline-progress").json()

    assert during == {
        "job_id": running.job_id, "stage": "Training", "last_log": "Step 300/1000 - loss: 0.0234", "progress": 30.0,
        "step": 300, "total_steps": 1000, "loss": 0.0234, "seconds_left": None, "learning_rate": None, "checkpoints": [], "validations": [],
    }  # fmt: skip
    assert ended == {"job_id": job.job_id, "stage": None, "last_log": None, "progress": None}


def test_who_reads_a_running_log_makes_the_poller_look_more_often(get, member):
    running = JobFactory(team=member.team)

    get(f"{JOBS}/{running.job_id}/logs")

    assert JobProgress.objects.get(job=running).watched_at is not None


def test_artifacts_are_listed_with_their_hashes(get, job):
    artifact = ArtifactFactory(job=job, key="lora.safetensors")

    said = get(f"{JOBS}/{job.job_id}/artifacts").json()

    assert said == {
        "job_id": job.job_id,
        "artifacts": [
            {
                "source": "local", "name": "lora.safetensors", "kind": "weights", "size_bytes": 4, "sha256": artifact.sha256,
                "content_type": "application/octet-stream", "stored_at": artifact.stored_at.isoformat(),
                "url": f"/api/cloud/storage/outputs/{job.job_id}/lora.safetensors",
            }
        ],
        "deliveries": [],
        "archive": archive_of(job).as_json(),
    }  # fmt: skip


# --- Who sees what ----------------------------------------------------------------------------------------


def test_details_are_hidden_from_others_where_the_team_wants_it_so(get, job, member):
    member.team.shows_details = False
    member.team.save()
    keys = {role: make_token(MembershipFactory(team=member.team, role=role))[1] for role in (Role.VIEWER, Role.RESEARCHER, Role.LEAD)}

    for role, key in keys.items():
        shown = role == Role.LEAD
        job_said = get(f"{JOBS}/{job.job_id}", key).json()["job"]
        assert ("config" in job_said["metadata"], "snapshot" in job_said["metadata"], job_said["cost_usd"]) == (shown, shown, 0.585)
        for what in ("logs", "inline-progress", "artifacts"):
            assert get(f"{JOBS}/{job.job_id}/{what}", key).status_code == (200 if shown else 403)
    assert "config" in get(f"{JOBS}/{job.job_id}").json()["job"]["metadata"]
    assert get(f"{JOBS}/{job.job_id}/logs").status_code == 200


def test_nobody_reads_nothing(client, job):
    for path in (JOBS, f"{JOBS}/{job.job_id}", f"{JOBS}/{job.job_id}/logs"):
        assert client.get(path).status_code == 401


# --- Cancel -----------------------------------------------------------------------------------------------


def test_a_cancel_needs_no_body_and_can_be_repeated(member):
    _, key = make_token(member)
    job = JobFactory(team=member.team, submitted_by=member.user, state=State.PENDING, started_at=None)
    path = f"{JOBS}/{job.job_id}/cancel"

    answers = [post(path, b"", key=key), post(f"{path}/", b"", key=key)]

    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (200, {"success": True, "job_id": job.job_id, "status": "cancelled"})
    ] * 2


def test_a_sent_job_keeps_its_state_until_the_provider_says_so(member, get):
    _, key = make_token(member)
    job = JobFactory(team=member.team, submitted_by=member.user, prediction_id="c" * 26)

    said = post(f"{JOBS}/{job.job_id}/cancel", b"", key=key).json()

    assert said["status"] == "running"
    assert get(f"{JOBS}/{job.job_id}").json()["job"]["cancel_requested_at"] is not None


def test_a_cancel_that_cannot_be_says_why(member, job):
    _, key = make_token(member)
    foreign, others = JobFactory(), JobFactory(team=member.team)

    ended, unknown, forbidden = (post(f"{JOBS}/{each.job_id}/cancel", b"", key=key) for each in (job, foreign, others))

    assert (ended.status_code, ended.json()["code"], ended.json()["details"]["current_state"]) == (409, "invalid_job_state", "completed")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "job_not_found")
    assert (forbidden.status_code, forbidden.json()["details"]) == (403, {"required_permission": "job.cancel.all"})
