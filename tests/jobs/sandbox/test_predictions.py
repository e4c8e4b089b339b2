import json
import re
import time
from datetime import datetime, timedelta

import pytest

from . import servers


@pytest.fixture
def dataset(account):
    return account.upload(servers.archive("a_cat.jpg"))["urls"]["get"]


def refused(account, body, **headers):
    response = account.http.post("/v1/predictions", json=body, headers=headers)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()


def test_14_a_missing_version_and_a_foreign_key_are_named(account):
    problem = refused(account, {"model": "simpletuner/advanced-trainer", "input": {}})

    assert list(problem) == ["detail", "status", "title", "invalid_fields"]
    assert problem["detail"] == "- version is required\n- Additional property model is not allowed\n"
    assert (problem["status"], problem["title"]) == (422, "Input validation failed")
    assert problem["invalid_fields"] == [
        {"type": "required", "field": "", "description": "version is required"},
        {"type": "additional_property_not_allowed", "field": "", "description": "Additional property model is not allowed"},
    ]


def test_15_a_missing_input_is_named(account):
    given = servers.inputs()
    del given["lycoris_config"]

    problem = refused(account, {"version": account.version()["id"], "input": given})

    assert problem["detail"] == "- input: lycoris_config is required\n"
    assert problem["invalid_fields"] == [{"type": "required", "field": "input", "description": "lycoris_config is required"}]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("config_json", None, "Invalid type. Expected: string, given: null"),
        ("config_json", {}, "Invalid type. Expected: string, given: object"),
        ("max_train_steps", "20", "Invalid type. Expected: integer, given: string"),
        ("max_train_steps", True, "Invalid type. Expected: integer, given: boolean"),
        ("return_logs", 1, "Invalid type. Expected: boolean, given: integer"),
        ("images", "not an address", "Does not match format 'uri'"),
    ],
)
def test_15_an_input_of_the_wrong_kind_is_named(account, name, value, sentence):
    problem = refused(account, {"version": account.version()["id"], "input": servers.inputs(**{name: value})})

    assert problem["detail"] == f"- input.{name}: {sentence}\n"


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999", '"\\ud800"', "[" * 100_000, "[" * 5_000 + "]" * 5_000])
def test_what_cannot_be_told_again_as_json_is_refused_as_it_comes_in(account, value):
    body = json.dumps({"version": account.version()["id"], "input": {**servers.inputs(), "odd": 0}})

    answer = account.http.post("/v1/predictions", content=body.replace('"odd": 0', f'"odd": {value}'))

    assert (answer.status_code, answer.json()["detail"]) == (400, "The request body is not valid JSON")
    assert account.http.get("/v1/predictions").json()["results"] == []


def test_15_an_unknown_input_is_accepted_and_dropped(account):
    done = account.finish(servers.inputs(lerning_rate="0.1"))

    assert "lerning_rate" not in done["input"]
    assert set(done["input"]) == set(servers.inputs())


def test_nullable_inputs_may_be_null(account):
    created = account.create(servers.inputs(s3_bucket=None, hf_token=None))

    assert created["status"] == "starting"


@pytest.mark.parametrize("version", ["0" * 64, "acme/advanced-trainer:", "simpletuner/advanced-trainer", "junk"])
def test_14_an_unknown_version_is_refused(account, version):
    version = version + account.version()["id"] if version.endswith(":") else version

    problem = refused(account, {"version": version, "input": servers.inputs()})

    assert problem["title"] == "Invalid version or not permitted"
    assert problem["detail"] == "The specified version does not exist (or perhaps you don't have permission to use it?)"


def test_plain_http_webhooks_can_be_refused_altogether(account, receiver):
    account.rule(http_webhooks=False)

    problem = refused(account, {"version": account.version()["id"], "input": servers.inputs(), "webhook": receiver.url})

    assert problem["invalid_fields"] == [{"type": "format", "field": "webhook", "description": "webhook must be an HTTPS URL"}]


@pytest.mark.parametrize("url", ["http://example.com/hook", "ftp://127.0.0.1/", "nonsense", "http://[broken"])
def test_a_webhook_must_be_https_unless_it_is_near(account, url):
    problem = refused(account, {"version": account.version()["id"], "input": servers.inputs(), "webhook": url})

    assert problem["invalid_fields"][0]["field"] == "webhook"


def test_an_unknown_event_is_refused(account):
    body = {"version": account.version()["id"], "input": servers.inputs(), "webhook_events_filter": ["finished"]}

    assert refused(account, body)["invalid_fields"][0]["type"] == "enum"


def test_16_models_that_are_not_official_take_no_predictions(account):
    response = account.http.post("/v1/models/simpletuner/advanced-trainer/predictions", json={"input": {}})

    assert response.status_code == 404


def test_a_body_that_is_no_json_is_refused(account):
    assert account.http.post("/v1/predictions", content=b"{").status_code == 400
    assert account.http.post("/v1/predictions", content=b"[]").status_code == 422


def test_13_a_new_prediction_waits(account):
    account.rule(queue_seconds=100_000)  # almost half a minute of wall time

    began = time.monotonic()

    created = account.create(servers.inputs(), webhook="https://example.com/hook", webhook_events_filter=["completed"])

    assert time.monotonic() - began < 15
    assert re.fullmatch("[0-9a-hjkmnp-tv-z]{26}", created["id"])
    assert (created["status"], created["model"], created["version"]) == (
        "starting",
        "simpletuner/advanced-trainer",
        account.version()["id"],
    )
    assert (created["output"], created["error"], created["data_removed"], created["metrics"]) == (None, None, False, {})
    assert created["webhook_events_filter"] == ["completed"]
    assert created["urls"]["get"] == f"{account.sandbox.url}/v1/predictions/{created['id']}"
    assert "deadline" not in created
    assert account.http.get(created["urls"]["get"]).json() == created


def test_17_ids_are_26_characters_of_crockfords_base32(account):
    account.rule(queue_seconds=100_000)

    created = [account.create(servers.inputs())["id"] for _ in range(20)]

    assert len(set(created)) == 20
    assert all(re.fullmatch("[0-9a-hjkmnp-tv-z]{26}", each) for each in created)
    assert re.fullmatch("[0-9a-f]{64}", account.version()["id"])


FULL = {"id", "model", "version", "input", "output", "error", "data_removed", "source", "status", "urls", "logs", "metrics"}
FULL |= {"created_at", "started_at", "completed_at"}


def test_18_every_state_shows_all_keys(account, dataset):
    account.rule(step_rate=0.001)

    waiting = account.create(servers.inputs(images=dataset))
    running = account.wait_until(waiting, "processing")
    account.http.post(f"/v1/predictions/{waiting['id']}/cancel")
    canceled = account.wait_until(waiting, "canceled")

    assert [set(each) for each in (waiting, running, canceled)] == [FULL] * 3


def test_18_sparse_answers_leave_out_what_recordings_leave_out(account, dataset):
    account.rule(step_rate=0.001, keys="sparse")

    waiting = account.create(servers.inputs(images=dataset))
    running = account.wait_until(waiting, "processing")
    account.http.post(f"/v1/predictions/{waiting['id']}/cancel")
    canceled = account.wait_until(waiting, "canceled")

    assert set(waiting) == FULL - {"output", "data_removed", "source", "started_at", "completed_at", "metrics"}
    assert set(waiting["urls"]) == {"get", "cancel"}
    assert set(running) == FULL - {"output", "completed_at", "metrics"}
    assert set(canceled) == FULL


def test_26_a_preferred_wait_holds_the_answer_for_at_most_so_long(account, dataset):
    body = {"version": account.version()["id"], "input": servers.inputs(images=dataset)}
    done = account.http.post("/v1/predictions", json=body, headers={"Prefer": "wait=60"})
    account.rule(queue_seconds=100_000)

    held = account.http.post("/v1/predictions", json=body, headers={"Prefer": "wait=1"})

    assert (done.status_code, done.json()["status"], done.headers["preference-applied"]) == (201, "succeeded", "wait=60")
    assert (held.status_code, held.json()["status"], held.headers["preference-applied"]) == (201, "starting", "wait=1")
    assert timedelta(seconds=1) <= held.elapsed < timedelta(seconds=15)


def test_13_a_version_may_be_named_with_its_model(account):
    created = account.create(servers.inputs(), version=f"simpletuner/advanced-trainer:{account.version()['id']}")

    assert created["version"] == account.version()["id"]


def test_23_secrets_are_redacted_and_configurations_are_not(account):
    account.rule(queue_seconds=100_000)
    given = servers.inputs(hf_token="hf_secret", s3_access_key="AK1", s3_secret_key="SK1", dataloader_json='[{"type": "aws"}]', typo="kept")

    created = account.create(given)

    redacted = {"hf_token": "[REDACTED]", "s3_access_key": "[REDACTED]", "s3_secret_key": "[REDACTED]"}
    assert created["input"] == {**given, **redacted}
    assert account.get(created)["input"] == created["input"]
    assert account.http.get("/v1/predictions").json()["results"][0]["input"] == created["input"]
    assert account.sandbox.evidence(created)["input"] == created["input"]


def test_02_a_foreign_prediction_is_not_found(account, open_account):
    account.rule(queue_seconds=100_000)
    created = account.create(servers.inputs())
    stranger = open_account(account.sandbox)

    assert stranger.http.get(f"/v1/predictions/{created['id']}").status_code == 404
    assert stranger.http.post(f"/v1/predictions/{created['id']}/cancel").status_code == 404
    assert stranger.http.get("/v1/predictions").json()["results"] == []
    assert account.get(created)["status"] == "starting"


@pytest.mark.parametrize(("text", "seconds"), [("7200", 7200), ("9000s", 9000), ("120m", 7200), ("2h3m4s", 7384)])
def test_25_cancel_after_sets_a_deadline_on_the_sped_up_clock(account, text, seconds):
    created = account.create(servers.inputs(), headers={"Cancel-After": text})

    created_at, deadline = (datetime.fromisoformat(created[name]) for name in ("created_at", "deadline"))
    assert abs((deadline - created_at) - timedelta(seconds=seconds / 3600)) < timedelta(microseconds=2)


@pytest.mark.parametrize("text", ["4", "4s", "soon", "", "5d", "1s1h"])
def test_25_a_cancel_after_that_cannot_be_is_refused(account, text):
    body = {"version": account.version()["id"], "input": servers.inputs()}

    assert refused(account, body, **{"Cancel-After": text})["title"] == "Invalid Cancel-After"


def test_27_the_list_pages_by_hundreds_newest_first(account):
    account.rule(queue_seconds=100_000)
    created = [account.create(servers.inputs()) for _ in range(103)]

    first = account.http.get("/v1/predictions").json()
    second = account.http.get(first["next"]).json()

    ids = [each["id"] for each in (*first["results"], *second["results"])]
    assert ids == [each["id"] for each in reversed(created)]
    assert (len(first["results"]), second["next"], first["previous"]) == (100, None, None)
    assert first["next"].startswith(f"{account.sandbox.url}/v1/predictions?")
    assert all("logs" not in each for each in first["results"])


def test_27_the_list_is_cut_by_time_from_inclusive_to_exclusive(account):
    account.rule(queue_seconds=100_000)
    old, middle, new = (account.create(servers.inputs()) for _ in range(3))

    query = {"created_after": middle["created_at"], "created_before": new["created_at"]}
    found = account.http.get("/v1/predictions", params=query).json()["results"]

    assert [each["id"] for each in found] == [middle["id"]]
    assert old["created_at"] < middle["created_at"] < new["created_at"]
    assert account.http.get("/v1/predictions", params={"created_after": "yesterday"}).status_code == 422
