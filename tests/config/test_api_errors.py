"""One error body below /api/, whatever went wrong; one id for a request everywhere; and no secret in a log."""

import json
import logging
import re

import pytest
import structlog
from django.conf import settings as django_settings
from django.core.exceptions import SuspiciousOperation
from django.db import DataError, InterfaceError, OperationalError
from django.test import Client

from config import logs
from tests.factories import MembershipFactory, make_token
from tests.jobs.factories import JobFactory

BODY = ["code", "detail", "details", "error", "errors", "field", "hint", "request_id", "status_code", "success"]
JOBS = "/api/cloud/jobs"
SECRET = "r8_FakeFakeFakepLaNtEdpLaNtEdpLaNtEd00"


@pytest.fixture
def member(db):
    return MembershipFactory()


@pytest.fixture
def api(member):
    """A client of the member's token that answers faults as the server does."""
    _, key = make_token(member)
    return Client(raise_request_exception=False, headers={"Authorization": f"Bearer {key}"})


def is_the_error_body(answer, status):
    said = answer.json()
    assert (answer.status_code, answer["Content-Type"], sorted(said)) == (status, "application/json", BODY)
    assert isinstance(said["detail"], str)
    assert (said["error"], said["success"], said["status_code"]) == (said["detail"], False, status)
    assert said["request_id"] == answer["X-Request-ID"] == answer["X-Correlation-ID"]
    return said


def fails_with(monkeypatch, error):
    """Make every look at a job fail."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr("jobs.api.jobs.find", fail)
    monkeypatch.setattr("webhooks.views._job_of", fail)


# --- The body ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/", "/api/nowhere", "/api/cloud/nowhere/", "/api/cloud/jobs/a/b/c", "/api/cloud/jobs/%00"])
def test_an_unknown_path_is_not_found(api, path):
    assert is_the_error_body(api.get(path), 404)["code"] == "not_found"


@pytest.mark.parametrize("path", [JOBS, "/api/webhooks/replicate"])
def test_a_wrong_method_is_named_with_those_that_are_right(api, path):
    answer = api.delete(path)

    said = is_the_error_body(answer, 405)
    assert (said["code"], said["detail"]) == ("method_not_allowed", 'Method "DELETE" not allowed.')
    assert answer["Allow"]


def test_nobody_is_told_how_to_sign_in(db):
    answer = Client().get(JOBS)

    said = is_the_error_body(answer, 401)
    assert (said["code"], answer["WWW-Authenticate"]) == ("authentication_required", "Bearer")
    # SimpleTuner's command line looks for these words.
    assert "authentication required" in said["detail"].lower()


def test_a_wrong_token_is_told_from_none(db):
    answer = Client(headers={"Authorization": "Bearer th_wrong"}).get(JOBS)

    assert is_the_error_body(answer, 401)["code"] == "invalid_token"


def test_a_wrong_field_is_named_beside_one_sentence(api):
    said = is_the_error_body(api.post(f"{JOBS}/submit", {"config": 5, "dataloader_config": [5]}, content_type="application/json"), 400)

    assert (said["detail"], said["field"]) == ('config: Expected a dictionary of items but got type "int".', "config")
    assert [problem["field"] for problem in said["errors"]] == ["config", "dataloader_config.0"]


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_fault_of_ours_shows_nothing_of_itself(api, monkeypatch, member, method, capsys):
    fails_with(monkeypatch, RuntimeError(f"secret {SECRET}"))
    job = JobFactory(team=member.team)

    paths = {"get": f"{JOBS}/{job.job_id}", "post": "/api/webhooks/replicate"}
    answer = getattr(api, method)(paths[method], b'{"id": "x"}' if method == "post" else None, content_type="application/json")

    said = is_the_error_body(answer, 500)
    assert said["code"] == "internal_error"
    assert [word for word in ("RuntimeError", "Traceback", "secret", "pLaNtEd") if word in answer.content.decode()] == []


@pytest.mark.parametrize("error", [OperationalError("server closed the connection"), InterfaceError("connection already closed")])
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_database_that_is_away_is_a_passing_fault(api, monkeypatch, error, method):
    fails_with(monkeypatch, error)

    paths = {"get": f"{JOBS}/j-aaaaaaaaaa", "post": "/api/webhooks/replicate"}
    answer = getattr(api, method)(paths[method], b'{"id": "x"}' if method == "post" else None, content_type="application/json")

    said = is_the_error_body(answer, 503)
    assert (said["code"], answer["Retry-After"]) == ("not_ready", "5")
    assert "connection" not in answer.content.decode()


def test_without_a_database_the_process_lives_and_is_not_ready(monkeypatch):
    def away(*_, **__):
        raise OperationalError("no database")

    monkeypatch.setattr("django.db.connection.cursor", away)

    assert Client().get("/api/cloud/health/live").json() == {"status": "ok"}
    assert is_the_error_body(Client().get("/api/cloud/health/ready"), 503)["code"] == "not_ready"


def test_what_no_column_keeps_is_the_callers_fault(api, monkeypatch):
    fails_with(monkeypatch, DataError("cannot contain NUL"))

    assert is_the_error_body(api.get(f"{JOBS}/j-aaaaaaaaaa"), 400)["code"] == "invalid_input"


def test_a_suspicious_request_and_a_foreign_form_have_the_body_too(member, monkeypatch):
    fails_with(monkeypatch, SuspiciousOperation("odd"))
    browser = Client(enforce_csrf_checks=True, raise_request_exception=False)
    browser.force_login(member.user)

    suspicious = browser.get(f"{JOBS}/j-aaaaaaaaaa")
    foreign = browser.post(f"{JOBS}/submit", {}, content_type="application/json")

    is_the_error_body(suspicious, 400)
    assert is_the_error_body(foreign, 403)["code"] == "permission_denied"


def test_a_page_keeps_its_pages(client, db):
    answer = client.get("/nowhere")

    assert answer.status_code in {302, 404}
    assert "json" not in answer["Content-Type"]


# --- Correlation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["X-Correlation-ID", "X-Request-ID"])
def test_an_id_that_came_in_goes_out_and_into_the_error(db, header):
    answer = Client(headers={header: "ci-42.7:a"}).get(JOBS)

    assert (answer["X-Correlation-ID"], answer["X-Request-ID"], answer.json()["request_id"]) == ("ci-42.7:a",) * 3


@pytest.mark.parametrize("odd", ["", "a b", "a\tb", "<script>", "x" * 65, "é"])
def test_an_id_that_is_none_is_replaced(db, odd):
    answer = Client(headers={"X-Correlation-ID": odd}).get(JOBS)

    assert re.fullmatch(r"[0-9a-f]{32}", answer["X-Correlation-ID"])


def test_every_request_has_an_id_of_its_own(db):
    assert Client().get(JOBS)["X-Request-ID"] != Client().get(JOBS)["X-Request-ID"]


# --- Logs -------------------------------------------------------------------------------------------------

PLANTED = [
    SECRET,
    "hf_pLaNtEdpLaNtEdpLaNtEd",
    "th_pLaNtEdpLaNtEdpLaNtEdpLaNtEdpLaNtEd",
    "whsec_pLaNtEd+pLaNtEd/pLaNtEd==",
    "Bearer pLaNtEdpLaNtEd.pLaNtEd",
    "https://h/x?X-Amz-Signature=" + "0123456789abcdef" * 4,
    "https://h/api/webhooks/replicate?job=j-1&callback=pLaNtEdpLaNtEd_pLaNtEd",
    "https://h/invites/pLaNtEdpLaNtEd_pLaNtEd/",
    "postgres://tunehouse:pLaNtEd@db/x",
]
LEAK = re.compile(r"pLaNtEd|0123456789abcdef0123")


@pytest.fixture
def written():
    """What a record looks like when it is written, as JSON."""
    formatter = logs.configure(level="INFO", as_json=True)["formatters"]["events"]
    made = structlog.stdlib.ProcessorFormatter(**{name: value for name, value in formatter.items() if name != "()"})

    def write(record):
        return made.format(record)

    yield write
    # `configure` set structlog up anew; put the suite's own way back.
    logs.configure(level=django_settings.LOG_LEVEL, as_json=False)


def record(message, *args, **more):
    made = logging.LogRecord("somebody.elses", logging.ERROR, __file__, 1, message, args, more.pop("exc_info", None))
    made.__dict__.update(more)
    return made


@pytest.mark.parametrize("secret", PLANTED)
def test_a_secret_is_scrubbed_out_of_every_kind_of_line(written, secret):
    assert LEAK.search(secret)
    try:
        raise RuntimeError(f"could not use {secret}")
    except RuntimeError as error:
        failed = (type(error), error, error.__traceback__)

    lines = [
        written(record(f"used {secret}")),
        written(record("used %s", secret)),
        written(record("failed", exc_info=failed)),
        written(record({"event": "thing.happened", "reason": secret, "nested": {"deep": [secret]}})),
    ]

    for line in lines:
        assert not LEAK.search(line), line
        assert logs.SCRUBBED in line
        json.loads(line)


NAMES = ["password", "token", "api_token", "secret", "aws_secret_access_key", "s3_secret_key", "Authorization", "cookie", "api_key"]


@pytest.mark.parametrize("name", [*NAMES, "access_key", "callback_key", "signing_keys"])
def test_what_stands_under_a_secrets_name_is_scrubbed_whatever_it_looks_like(name):
    event = logs.scrub_event(None, "info", {"event": "thing.happened", name: "pLaNtEd", "nested": {name: "pLaNtEd"}})

    assert event == {"event": "thing.happened", name: logs.SCRUBBED, "nested": {name: logs.SCRUBBED}}


def test_what_is_no_secret_is_left_alone():
    event = {
        "event": "job.ended",
        "job": "j-abcdefghij",
        "team": "atelier",
        "charge": 585_000,
        "key": "lora.safetensors",
        "token_prefix": "th_ab",
    }

    assert logs.scrub_event(None, "info", dict(event)) == event
