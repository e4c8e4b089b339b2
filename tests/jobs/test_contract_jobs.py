"""Retrying, deleting, following and syncing jobs, configs and consent, in the shapes of SimpleTuner's API."""

from dataclasses import replace

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.test import AsyncRequestFactory
from django.utils import timezone

from accounts import tokens
from accounts.models import AuditLine
from accounts.roles import Role, Scope
from billing.models import Hold
from jobs import following, tails
from jobs.models import Job, JobProgress, ProviderSettings, TrainingConfig
from jobs.services import datasets, launching, logs
from jobs.services.dispatch import dispatch
from jobs.states import State
from tests.factories import MembershipFactory, make_token
from tests.jobs.factories import JobFactory, hold_for
from tests.jobs.ready import CONFIG, DATASET, NAMED, caller_of, files
from tests.jobs.sandbox.servers import picture

JOBS = "/api/cloud/jobs"
CONSENT = "/api/cloud/data-consent/setting"
PREVIEW = "/api/cloud/data-consent/preview"


@pytest.fixture
def call(client):
    """A request with a member's token, or one of theirs with other scopes."""

    def send(member, path, body=None, *, method="get", scopes=None, **headers):
        _, key = make_token(member, scopes=scopes)
        headers = {"Authorization": f"Bearer {key}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if method == "get":
            return client.get(path, body or {}, headers=headers)
        return getattr(client, method)(path, body, content_type="application/json", headers=headers)

    return send


def end(job, state=State.FAILED):
    Job.objects.filter(pk=job.pk).update(state=state, ended_at=timezone.now())
    job.refresh_from_db()
    return job


# --- Retrying -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_a_job_that_did_not_succeed_is_retried_as_a_new_linked_one(ready, ending, state):
    first = end(ready.submit(run_name="spring", max_seconds=3600, snapshot_name="v1"), state)
    TrainingConfig.objects.update(config={**CONFIG, "max_train_steps": 99})

    answer = ready.post(path=f"{JOBS}/{first.job_id}/retry{ending}")

    second = Job.objects.exclude(pk=first.pk).get()
    assert (answer.status_code, answer.json()) == (200, {
        "success": True, "job_id": second.job_id, "status": "pending", "retried_from": first.job_id,
        "cost_limit_warning": None, "quota_warnings": [], "idempotent_hit": False,
    })  # fmt: skip
    assert (second.parent, second.link, second.config, second.dataset_version) == (first, "retry", first.config, first.dataset_version)
    same = ("config_name", "run_name", "trainer", "destination", "ceiling_seconds", "metadata")
    assert [getattr(second, name) for name in same] == [getattr(first, name) for name in same]
    assert Hold.objects.get(reference=second.reference).amount == first.hold.amount
    assert AuditLine.objects.get(event_type="job.retried").target_id == second.job_id


def test_a_dataset_that_grew_meanwhile_is_retried_as_it_was(ready):
    first = end(ready.submit())
    datasets.add_version(ready.caller, ready.version.dataset, files=files({"b.jpg": picture(), "b.txt": b"blue"}))

    ready.post(path=f"{JOBS}/{first.job_id}/retry")

    assert Job.objects.exclude(pk=first.pk).get().dataset_version.number == 1


def test_a_job_that_is_not_over_or_succeeded_is_not_retried(ready):
    job = ready.submit()

    pending = ready.post(path=f"{JOBS}/{job.job_id}/retry")
    completed = ready.post(path=f"{JOBS}/{end(job, State.COMPLETED).job_id}/retry")

    assert (pending.status_code, pending.json()["code"], completed.status_code) == (409, "invalid_job_state", 409)
    assert pending.json()["details"] == {"current_state": "pending", "allowed_states": ["failed", "cancelled"]}
    assert Job.objects.count() == 1


def test_a_retry_has_to_pass_the_limits_again(ready):
    job = end(ready.submit())
    ready.team.spend_limits.create(scope="team", amount=1)

    answer = ready.post(path=f"{JOBS}/{job.job_id}/retry")

    assert (answer.status_code, answer.json()["code"], Job.objects.count()) == (402, "cost_limit_exceeded", 1)


def test_a_retry_whose_answer_was_lost_is_not_paid_twice(ready):
    job = end(ready.submit())

    answers = [ready.post(path=f"{JOBS}/{job.job_id}/retry", Idempotency_Key="again").json() for _ in range(2)]
    too_long = ready.post(path=f"{JOBS}/{job.job_id}/retry", Idempotency_Key="k" * 257)

    assert answers[0]["job_id"] == answers[1]["job_id"]
    assert ([answer["idempotent_hit"] for answer in answers], Job.objects.count()) == ([False, True], 2)
    assert (too_long.status_code, too_long.json()["field"]) == (400, "idempotency_key")


def test_who_may_retry(ready, call):
    job = end(ready.submit())
    path = f"{JOBS}/{job.job_id}/retry"
    colleague, lead = (MembershipFactory(team=ready.team, role=role) for role in (Role.RESEARCHER, Role.LEAD))

    viewer = call(MembershipFactory(team=ready.team, role=Role.VIEWER), path, method="post")
    reader = call(ready.member, path, method="post", scopes=[Scope.READ])
    stranger = call(MembershipFactory(), path, method="post")

    assert [viewer.json()["details"], reader.json()["details"]] == [{"required_permission": "job.submit"}] * 2
    assert (stranger.status_code, stranger.json()["code"]) == (404, "job_not_found")
    assert call(colleague, path, method="post").json()["detail"] == "You may retry your own jobs only."
    assert call(lead, path, method="post").status_code == 200


# --- Deleting -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_deleted_job_is_gone_from_the_history_and_its_money_stays(ready, call, ending):
    job = end(ready.submit())

    answer = call(ready.member, f"{JOBS}/{job.job_id}{ending}", method="delete")

    assert (answer.status_code, answer.json()) == (200, {"success": True, "job_id": job.job_id})
    assert (ready.get(JOBS).json()["total"], ready.get(f"{JOBS}/{job.job_id}").status_code) == (0, 404)
    # `jobs purge` stops at the first error, so that what is so already is none.
    assert call(ready.member, f"{JOBS}/{job.job_id}", method="delete").status_code == 200
    assert (Job.objects.count(), Hold.objects.count()) == (1, 1)
    line = AuditLine.objects.get(event_type="job.deleted")
    assert (line.target_id, line.before) == (job.job_id, {"state": "failed"})


@pytest.mark.parametrize("state", [State.BLOCKED, State.PENDING, State.UPLOADING, State.QUEUED, State.RUNNING])
def test_an_active_job_is_not_deleted(db, call, state):
    owner = MembershipFactory()
    job = JobFactory(team=owner.team, state=state)

    answer = call(owner, f"{JOBS}/{job.job_id}", method="delete")

    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_job_state")
    assert answer.json()["details"] == {"current_state": state, "allowed_states": ["completed", "failed", "cancelled"]}
    assert answer.json()["detail"] == f"Job {job.job_id} is {state}; cancel it before you delete it."


def test_who_may_delete(db, call):
    member = MembershipFactory(role=Role.RESEARCHER)
    job = JobFactory(team=member.team, submitted_by=member.user, state=State.FAILED)
    path = f"{JOBS}/{job.job_id}"
    colleague, viewer = (MembershipFactory(team=member.team, role=role) for role in (Role.RESEARCHER, Role.VIEWER))

    assert call(MembershipFactory(), path, method="delete").status_code == 404
    assert call(viewer, path, method="delete").json()["details"] == {"required_permission": "job.delete.own"}
    assert call(member, path, method="delete", scopes=[Scope.READ]).status_code == 403
    assert call(colleague, path, method="delete").status_code == 403
    assert call(member, path, method="delete").status_code == 200


# --- Following ----------------------------------------------------------------------------------------------


@pytest.fixture
def job(owner, monkeypatch):
    monkeypatch.setattr(following, "POLL_SECONDS", 0.01)
    return JobFactory(team=owner.team, submitted_by=owner.user)


def append(job, text):
    with transaction.atomic():
        logs.append(job, text)


def stream_of(response):
    return b"".join(response.streaming_content).decode()


@pytest.mark.parametrize("ending", ["", "/"])
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", "*/*"])
def test_a_stream_is_the_log_line_by_line_and_the_state_at_the_end(call, owner, job, ending, accept):
    logs.append(job, "one\ntwo 10%\rtwo 20%\r\nan event: done in a line\nlast")
    end(job, State.COMPLETED)

    answer = call(owner, f"{JOBS}/{job.job_id}/logs/stream{ending}", Accept=accept)

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream")
    assert (answer.headers["Cache-Control"], answer.headers["X-Accel-Buffering"]) == ("no-cache", "no")
    assert stream_of(answer) == (
        "id: 1\ndata: one\n\nid: 2\ndata: two 10%\n\nid: 3\ndata: two 20%\n\nid: 4\ndata: an event:  done in a line\n\n"
        "id: 5\ndata: last\n\nevent: done\ndata: completed\n\n"
    )


def test_a_stream_goes_on_behind_the_last_line_that_was_seen(call, owner, job):
    logs.append(job, "one\ntwo\nthree\n")
    end(job)

    answer = call(owner, f"{JOBS}/{job.job_id}/logs/stream", Last_Event_ID="2")
    odd = call(owner, f"{JOBS}/{job.job_id}/logs/stream", Last_Event_ID="two")

    assert stream_of(answer) == "id: 3\ndata: three\n\nevent: done\ndata: failed\n\n"
    assert stream_of(odd).startswith("id: 1\n")


def test_a_running_job_is_followed_as_it_speaks(call, owner, job):
    logs.append(job, "one\ntw")
    frames = iter(call(owner, f"{JOBS}/{job.job_id}/logs/stream").streaming_content)

    first = next(frames)
    logs.append(job, "one\ntwo\n")
    second = next(frames)
    end(job)

    assert (first, second) == (b"id: 1\ndata: one\n\n", b"id: 2\ndata: two\n\n")
    assert list(frames) == [b"event: done\ndata: failed\n\n"]
    assert JobProgress.objects.get(job=job).watched_at is not None


def test_a_long_log_comes_in_pieces(call, owner, job, monkeypatch):
    # The first piece ends between the two characters of a line end.
    monkeypatch.setattr(following, "PIECE_CHARACTERS", 11)
    logs.append(job, "first line\r\nsecond line\n")
    end(job)

    said = stream_of(call(owner, f"{JOBS}/{job.job_id}/logs/stream"))

    assert said == ": ping\n\nid: 1\ndata: first line\n\nid: 2\ndata: second line\n\nevent: done\ndata: failed\n\n"


def test_a_silent_job_is_heard_of_at_once_and_now_and_then(call, owner, job, monkeypatch):
    frames = iter(call(owner, f"{JOBS}/{job.job_id}/logs/stream").streaming_content)

    at_once = next(frames)
    monkeypatch.setattr(following, "PING_AFTER", following.timedelta(seconds=0.05))

    assert (at_once, next(frames)) == (b": ping\n\n", b": ping\n\n")


def test_who_is_let_in_no_more_hears_no_more(owner, job):
    token, _ = make_token(owner)
    follower = following.Follower(job, caller_with(owner, token))

    tokens.revoke(token, by=owner.user)

    assert (follower.step(), follower.is_over) == (b"event: done\ndata: stream_end\n\n", True)


def test_a_member_who_left_and_a_job_that_is_gone_end_the_stream(owner, job):
    member = MembershipFactory(team=owner.team)
    left = following.Follower(job, caller_of(member))
    gone = following.Follower(job, caller_of(owner))
    assert left.step() == b": ping\n\n"

    member.delete()
    Job.objects.update(deleted_at=timezone.now())

    assert [follower.step() for follower in (left, gone)] == [b"event: done\ndata: stream_end\n\n"] * 2


@pytest.mark.django_db(transaction=True)
def test_under_asgi_a_stream_comes_piece_by_piece_too(monkeypatch):
    monkeypatch.setattr(tails, "LOOK_SECONDS", 0.01)
    owner = MembershipFactory()
    job = JobFactory(team=owner.team)
    append(job, "one\n")
    follower = following.Follower(job, caller_of(owner))
    response = following.response(AsyncRequestFactory().get("/"), follower)

    async def read():
        frames = response.__aiter__()
        first = await frames.__anext__()
        await sync_to_async(end)(job)
        return [first, *[frame async for frame in frames]]

    assert async_to_sync(read)() == [b"id: 1\ndata: one\n\n", b"event: done\ndata: failed\n\n"]


@pytest.mark.django_db(transaction=True)
def test_between_two_looks_a_stream_holds_no_connection():
    owner = MembershipFactory()
    job = JobFactory(team=owner.team)
    assert connection.connection is not None

    following.Follower(job, caller_of(owner)).step()

    assert connection.connection is None


def test_a_stream_opens_for_those_who_may_see_the_log_only(call, owner, job):
    path = f"{JOBS}/{job.job_id}/logs/stream"
    owner.team.shows_details = False
    owner.team.save()

    foreign, viewer = call(MembershipFactory(), path), call(MembershipFactory(team=owner.team, role=Role.VIEWER), path)

    assert (foreign.status_code, foreign.json()["code"], viewer.status_code) == (404, "job_not_found", 403)


def caller_with(member, token):
    return replace(caller_of(member), token=token)


# --- Syncing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["", "{}", {"provider": "replicate"}])
@pytest.mark.parametrize("ending", ["", "/"])
def test_without_active_jobs_a_sync_says_so(ready, body, ending):
    answer = ready.post(body, path=f"{JOBS}/sync{ending}")

    said = "Replicate could not be asked for new jobs. No active job is at Replicate."
    assert (answer.status_code, answer.json()) == (200, {"synced": 0, "updated": 0, "message": said})


def test_a_sync_asks_the_provider_and_takes_over_what_it_says(at_provider, account, fresh):
    account.rule(queue_seconds=1_000_000)
    job = at_provider.submit()
    dispatch()
    launching.launch(fresh(job))
    job = fresh(job)
    account.http.post(f"/v1/predictions/{job.prediction_id}/cancel")

    first, second = at_provider.post(path=f"{JOBS}/sync").json(), at_provider.post(path=f"{JOBS}/sync").json()

    job.refresh_from_db()
    said = "No new job was found at Replicate. Refreshed 1 job from Replicate, 1 changed."
    assert first == {"synced": 0, "updated": 1, "message": said}
    assert (job.is_terminal, second["message"]) == (True, "No new job was found at Replicate. No active job is at Replicate.")


def test_a_provider_that_is_away_changes_nothing(ready):
    job = JobFactory(team=ready.team, credential=ready.credential, prediction_id="p" * 26)
    hold_for(job, micros=1)

    answer = ready.post(path=f"{JOBS}/sync")

    assert (answer.status_code, answer.json()["updated"]) == (200, 0)


def test_who_may_sync(ready, call):
    viewer = call(MembershipFactory(team=ready.team, role=Role.VIEWER), f"{JOBS}/sync", method="post")

    assert (viewer.status_code, viewer.json()["details"]) == (403, {"required_permission": "job.submit"})
    assert ready.post({"provider": "other"}, path=f"{JOBS}/sync").status_code == 404


@pytest.mark.parametrize(
    ("filters", "sentence"),
    [
        ({"sync_active": "perhaps"}, "sync_active must be true or false."),
        ({"provider": "moon"}, "Unknown provider 'moon'. Valid ones: replicate, sandbox, simpletuner_io."),
        ({"job_type": "moon"}, "Unknown job_type 'moon'. Valid ones: cloud, local."),
    ],
)
def test_a_filter_that_cannot_be_is_refused_in_words(ready, filters, sentence):
    refused = ready.get(JOBS, **filters)

    assert (refused.status_code, refused.json()["detail"], refused.json()["field"]) == (400, sentence, next(iter(filters)))


def test_a_list_that_wants_fresh_news_has_the_provider_asked_soon(ready):
    job = JobFactory(team=ready.team)
    foreign = JobFactory()

    ready.get(JOBS, sync_active="true")

    assert JobProgress.objects.get(job=job).watched_at is not None
    assert JobProgress.objects.get(job=foreign).watched_at is None


# --- Configs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_the_configs_are_listed_by_name(ready, ending):
    names, full = ready.get(f"/api/cloud/available-configs{ending}").json(), ready.get(f"/api/configs{ending}").json()

    assert names == {"configs": [{"name": NAMED, "is_active": False}], "active_config": None}
    assert {name: full[name] for name in ("active", "count", "config_type")} == {"active": None, "count": 1, "config_type": "model"}
    assert sorted(full["configs"][0]) == [
        "created_at", "description", "is_active", "lora_type", "model_family", "model_flavour", "model_type", "modified_at", "name", "tags",
    ]  # fmt: skip
    assert (full["configs"][0]["model_family"], full["configs"][0]["model_type"]) == ("flux", "lora")


def test_a_config_is_shown_with_what_a_dry_run_reads(ready):
    hosted = [{"id": "data", "type": "huggingface", "dataset_name": "acme/houses"}]
    TrainingConfig.objects.create(team=ready.team, name="hosted run", config=CONFIG, dataloader=hosted)

    plain, other = ready.get(f"/api/configs/{NAMED}/").json(), ready.get("/api/configs/hosted%20run").json()

    assert sorted(plain) == ["config", "config_type", "metadata", "name"]
    assert (plain["config"], plain["config_type"], plain["metadata"]["dataset"]) == (CONFIG, "model", DATASET)
    assert (other["name"], other["config"]["dataloader_config"]) == ("hosted run", hosted)
    assert ready.get("/api/configs/hosted%20run", config_type="dataloader").json()["config"] == hosted
    assert ready.get("/api/configs", config_type="dataloader").json()["count"] == 1


def test_what_is_no_config_of_the_team_is_not_found(ready, call):
    foreign = call(MembershipFactory(), f"/api/configs/{NAMED}")

    assert (foreign.status_code, foreign.json()["code"], foreign.json()["detail"]) == (
        404, "config_not_found", f"Config not found: {NAMED}",
    )  # fmt: skip
    assert ready.get(f"/api/configs/{NAMED}", config_type="dataloader").status_code == 404
    assert ready.get(f"/api/configs/{NAMED}", config_type="webhook").status_code == 404
    assert ready.get("/api/configs", config_type="webhook").json()["configs"] == []
    assert ready.get("/api/configs", config_type="other").json()["field"] == "config_type"


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_stored_config_is_judged_as_a_submission_would(ready, ending):
    good = ready.post(path=f"/api/configs/{NAMED}/validate{ending}")
    TrainingConfig.objects.update(config={"model_family": "flux", "lerning_rate": 1, "output_dir": "/tmp/x"})
    bad = ready.post("{}", path=f"/api/configs/{NAMED}/validate{ending}").json()

    assert (good.status_code, good.json()) == (200, {
        "name": NAMED, "valid": True, "is_valid": True, "errors": [], "warnings": [], "suggestions": [],
    })  # fmt: skip
    assert (bad["valid"], bad["is_valid"]) == (False, False)
    assert bad["errors"][0] == "Unknown config key 'lerning_rate'. Did you mean 'learning_rate'?"
    assert bad["warnings"] == ["'output_dir' is left out: it says nothing about a run at the provider."]


def test_a_config_that_is_sent_along_is_judged_too(ready):
    def judged(config):
        return ready.post({"config": config}, path="/api/configs/validate").json()

    epochs = judged({**CONFIG, "max_train_steps": 0, "num_train_epochs": 3})
    twice = judged({"--seed": 1, "seed": 2})
    short = judged({"model_family": "flux", "max_train_steps": 20})
    none = ready.post({}, path="/api/configs/validate/")

    assert (epochs["valid"], twice["valid"], twice["errors"][0][:23]) == (False, False, "The config gives 'seed'")
    assert (none.status_code, none.json()["field"]) == (400, "config")
    assert "name" not in short


# --- Consent ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_the_consent_is_read_by_all_and_set_by_owners(call, owner, ending):
    viewer = MembershipFactory(team=owner.team, role=Role.VIEWER)

    changed = call(owner, CONSENT + ending, {"consent": "deny"}, method="put")
    refused = call(viewer, CONSENT + ending, {"consent": "allow"}, method="put")

    assert (changed.status_code, changed.json()) == (200, {"success": True, "consent": "deny"})
    assert (refused.status_code, refused.json()["details"]) == (403, {"required_permission": "admin.config"})
    assert call(viewer, CONSENT + ending).json() == {"consent": "deny"}
    line = AuditLine.objects.get(event_type="config.changed")
    assert (line.before, line.after) == ({"data_consent": "ask"}, {"data_consent": "deny"})


def test_a_consent_that_is_denied_holds_at_submit(ready, call):
    owner = MembershipFactory(team=ready.team)
    call(owner, CONSENT, {"consent": "deny"}, method="put")

    answer = ready.post({"config_name_to_load": NAMED})

    assert (answer.status_code, answer.json()["code"]) == (409, "consent_denied")


@pytest.mark.parametrize("body", ["", {"consent": "maybe"}, {"consent": None}, {"consent": ["ask"]}])
def test_another_word_is_refused(call, owner, body):
    answer = call(owner, CONSENT, body, method="put")

    assert (answer.status_code, answer.json()["detail"]) == (400, "consent must be one of: ask, allow, deny.")
    assert not ProviderSettings.objects.exists()


@pytest.mark.parametrize("body", [{"dataset": DATASET}, [{"id": DATASET, "type": "local"}], [{"id": "x", "dataset": f"{DATASET}@1"}]])
@pytest.mark.parametrize("ending", ["", "/"])
def test_a_preview_counts_the_teams_dataset(ready, body, ending):
    said = ready.post(body, path=PREVIEW + ending).json()

    assert sorted(said) == ["consent_mode", "datasets", "message", "requires_upload", "total_files", "total_size_mb"]
    assert (said["requires_upload"], said["consent_mode"], said["total_files"], said["message"]) == (True, "ask", 1, None)
    assert sorted(said["datasets"][0]) == ["file_count", "id", "instance_data_dir", "total_size_mb", "type"]


def test_a_preview_looks_into_no_folder(ready, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x" * 2_000_000)
    embeds = {"id": "text", "type": "local", "dataset_type": "text_embeds"}

    said = ready.post([{"id": "mine", "type": "local", "instance_data_dir": str(tmp_path)}, embeds], path=PREVIEW).json()

    assert said["datasets"] == [
        {"id": "mine", "type": "local", "instance_data_dir": str(tmp_path), "file_count": 0, "total_size_mb": 0.0},
    ]  # fmt: skip
    assert said["message"].startswith("Folders of your own machine are not read by this server.")


def test_hosted_data_needs_no_upload(ready):
    said = ready.post([{"id": "data", "type": "huggingface"}], path=PREVIEW).json()

    assert (said["requires_upload"], said["message"], said["total_size_mb"]) == (False, None, 0)


def test_a_foreign_dataset_is_not_looked_at(ready, call):
    answer = call(MembershipFactory(), PREVIEW, {"dataset": DATASET}, method="post")

    assert (answer.status_code, answer.json()["detail"]) == (404, f"Dataset not found: {DATASET}")


@pytest.mark.parametrize("body", ["5", "[5]", {"dataloader_config": "x"}])
def test_a_preview_of_no_dataloader_is_refused(ready, body):
    assert ready.post(body, path=PREVIEW).status_code == 400


def test_a_preview_is_for_those_who_submit(ready, call):
    viewer = call(MembershipFactory(team=ready.team, role=Role.VIEWER), PREVIEW, [], method="post")

    assert viewer.json()["details"] == {"required_permission": "job.submit"}
