"""The gateway against a small HTTP server that misbehaves as it is told."""

import hashlib
import json
import os
import socket
import ssl
import struct
import threading
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pytest

from jobs.outbound import Outbound
from jobs.replicate.gateway import (
    CreditExhausted,
    Gateway,
    NotFound,
    OutcomeUnknown,
    Rejected,
    ReplicateError,
    Retries,
    TooLarge,
    Unauthorized,
    Unavailable,
)

TOKEN = "r8_Sandbox0Sandbox0Sandbox0Sandbox0Team1"
QUICK = Retries(first_pause_seconds=0.001)
RUN = {"id": "k3m8v0b5t1rgm0cqy7nsd2w4ez", "status": "starting", "created_at": "2026-08-01T10:00:01.329Z"}


class Provider:
    """Answers in the order of its script (the last answer stays) and keeps what it was asked."""

    def __init__(self) -> None:
        self.script: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.asked: list[dict] = []
        self.is_over = threading.Event()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self):
                try:
                    super().handle_one_request()
                except (ConnectionError, ValueError):
                    self.close_connection = True  # the reset that the test asked for

            def do_any(self):
                left = int(self.headers.get("content-length") or 0)
                digest, head, size = hashlib.sha256(), b"", left
                while left > 0:
                    chunk = self.rfile.read(min(left, 65536))
                    if not chunk:
                        break
                    left -= len(chunk)
                    digest.update(chunk)
                    head = (head + chunk)[:4096]
                asked = {"method": self.command, "path": self.path, "headers": dict(self.headers), "body": head, "size": size}
                provider.asked.append(asked)
                answer = provider.script.pop(0) if len(provider.script) > 1 else provider.script[0]
                answer(self)

            do_GET = do_POST = do_DELETE = do_any

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def answers(self, status, body=b"", *, headers=None, length=None):
        """Add an answer; a `length` beyond the body's own cuts the answer short."""

        def answer(request):
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            request.send_response(status)
            for name, value in (headers or {}).items():
                request.send_header(name, value)
            request.send_header("Content-Length", str(len(data) if length is None else length))
            request.end_headers()
            request.wfile.write(data)
            if length is not None:
                request.close_connection = True

        self.script.append(answer)

    def keeps_silent(self):
        def answer(request):
            self.is_over.wait(30)
            request.close_connection = True

        self.script.append(answer)

    def resets(self):
        def answer(request):
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(request.connection.detach())
            request.close_connection = True

        self.script.append(answer)

    def stop(self):
        self.is_over.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def provider():
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture
def gateway(provider):
    with Gateway(base_url=provider.url, token=TOKEN, retries=QUICK) as gateway:
        yield gateway


@pytest.fixture
def hasty(provider):
    with Gateway(base_url=provider.url, token=TOKEN, outbound=Outbound(timeout_seconds=0.2), retries=QUICK) as gateway:
        yield gateway


@pytest.fixture
def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, so that nobody else gets it, and deaf
        yield taken.getsockname()[1]


def create(gateway, **changes):
    asked = {"version": "6e" * 32, "input": {"config_json": "{}"}, "webhook": None, "events_filter": [], "cancel_after_seconds": 3600}
    return gateway.create(**(asked | changes))


def test_an_account_is_read_with_the_token_in_the_header(gateway, provider):
    provider.answers(200, {"type": "organization", "username": "acme"})

    account = gateway.account()

    assert (account.username, account.type, account.name) == ("acme", "organization", "acme")
    assert provider.asked[0]["headers"]["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("token", ["", " ", "r8_a b", "r8_a\nb", "r8_ñ"])
def test_a_token_that_no_header_can_carry_is_refused_and_none_is_taken_from_the_environment(token, monkeypatch):
    monkeypatch.setenv("REPLICATE_API_TOKEN", TOKEN)

    with pytest.raises(ValueError) as refused:
        Gateway(base_url="http://127.0.0.1:1", token=token)

    assert str(refused.value) == "A Replicate token is one word of printable ASCII characters."


def test_a_base_url_may_end_in_v1(provider):
    provider.answers(200, {"type": "user", "username": "ana"})

    with Gateway(base_url=f"{provider.url}/v1/", token=TOKEN) as gateway:
        gateway.account()

    assert provider.asked[0]["path"] == "/v1/account"


def test_neither_reprs_nor_errors_show_the_token(gateway, provider):
    provider.answers(422, {"detail": f"what is {TOKEN}?"})

    with pytest.raises(Rejected) as refused:
        create(gateway)

    assert refused.value.detail == "what is [token]?"
    assert TOKEN not in repr(gateway) + str(refused.value) + repr(refused.value) + repr(refused.value.__cause__)
    assert "secret" not in repr(Outbound(proxy_url="http://me:secret@proxy:3128"))


def test_a_version_brings_its_input_schema_with_references_resolved(gateway, provider):
    schemas = {
        "precision": {"enum": ["bf16", "fp32"], "type": "string"},
        "Input": {"properties": {"precision": {"allOf": [{"$ref": "#/components/schemas/precision"}]}}, "required": ["precision"]},
    }
    version = {"id": "ab" * 32, "created_at": "2026-08-01T10:00:00Z", "openapi_schema": {"components": {"schemas": schemas}}}
    provider.answers(200, {"owner": "simpletuner", "name": "advanced-trainer", "latest_version": version})

    latest = gateway.latest_version("simpletuner/advanced-trainer")

    assert provider.asked[0]["path"] == "/v1/models/simpletuner/advanced-trainer"
    assert latest.id == "ab" * 32
    assert latest.created_at == datetime(2026, 8, 1, 10, tzinfo=UTC)
    assert latest.input_schema["properties"]["precision"]["allOf"][0]["enum"] == ["bf16", "fp32"]
    assert latest.raw == version


@pytest.mark.parametrize("model", ["advanced-trainer", "../account", "a/b/c", "a/../b", ""])
def test_what_is_no_model_name_is_not_asked_for(gateway, provider, model):
    with pytest.raises(NotFound):
        gateway.latest_version(model)

    assert provider.asked == []


def test_a_model_without_a_version_is_not_found(gateway, provider):
    provider.answers(200, {"latest_version": None})

    with pytest.raises(NotFound):
        gateway.latest_version("acme/empty")


def test_versions_are_listed_over_all_pages(gateway, provider):
    provider.answers(200, {"results": [{"id": "a"}], "next": f"{provider.url}/v1/models/acme/x/versions?cursor=2"})
    provider.answers(200, {"results": [{"id": "b", "openapi_schema": None}], "next": None})

    assert [(version.id, version.input_schema) for version in gateway.versions("acme/x")] == [("a", {}), ("b", {})]
    assert [asked["path"] for asked in provider.asked] == ["/v1/models/acme/x/versions", "/v1/models/acme/x/versions?cursor=2"]


def test_a_prediction_is_created_with_ceiling_webhook_and_filter(gateway, provider):
    provider.answers(201, {**RUN, "input": {"hf_token": "hf_in_clear"}})

    prediction = create(
        gateway,
        input={"hf_token": "hf_in_clear"},
        webhook="https://tunehouse.example/api/webhooks/replicate?job=j-abcdefghij",
        events_filter=["start", "completed"],
        cancel_after_seconds=7200,
    )

    asked = provider.asked[0]
    assert json.loads(asked["body"]) == {
        "version": "6e" * 32,
        "input": {"hf_token": "hf_in_clear"},
        "webhook": "https://tunehouse.example/api/webhooks/replicate?job=j-abcdefghij",
        "webhook_events_filter": ["start", "completed"],
    }
    assert asked["headers"]["Cancel-After"] == "7200s"
    assert (prediction.id, prediction.state) == (RUN["id"], "queued")
    assert (prediction.input, prediction.raw["input"]) == ({}, {})


def test_a_prediction_without_a_webhook_sends_no_null(gateway, provider):
    provider.answers(202, RUN)

    create(gateway)

    assert set(json.loads(provider.asked[0]["body"])) == {"version", "input"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Rejected), (401, Unauthorized), (402, CreditExhausted), (403, Rejected), (404, NotFound), (413, TooLarge), (422, Rejected)],
)
def test_a_refusal_of_a_create_is_certain(gateway, provider, status, kind):
    provider.answers(status, {"title": "No", "detail": "Because.", "status": status})

    with pytest.raises(Rejected) as refused:
        create(gateway)

    assert type(refused.value) is kind
    assert (refused.value.status, refused.value.detail) == (status, "Because.")
    assert str(refused.value) == f"Replicate answered {status}: Because."
    assert len(provider.asked) == 1


def test_a_422_names_the_faulty_inputs(gateway, provider):
    fields = [{"type": "required", "field": "input", "description": "images is required"}]
    provider.answers(422, {"detail": "- input: images is required\n", "title": "Input validation failed", "invalid_fields": fields})

    with pytest.raises(Rejected) as refused:
        create(gateway)

    assert refused.value.invalid_fields == fields


def test_a_refusal_stays_certain_when_its_words_are_html_or_lost(gateway, provider):
    provider.answers(413, b"<html><body><h1>413 Request Entity Too Large</h1></body></html>")
    provider.answers(402, b'{"detail": "You have insu', length=500)

    with pytest.raises(TooLarge) as html:
        create(gateway)
    with pytest.raises(CreditExhausted):
        create(gateway)

    assert html.value.detail == "Request Entity Too Large"


@pytest.mark.parametrize("status", [301, 408, 500, 502, 503, 504])
def test_after_a_fault_of_the_platform_nobody_knows_whether_a_prediction_exists(gateway, provider, status):
    provider.answers(status, b"<html>oops</html>")

    with pytest.raises(OutcomeUnknown):
        create(gateway)

    assert len(provider.asked) == 1


def test_after_silence_nobody_knows_whether_a_prediction_exists(hasty, provider):
    provider.keeps_silent()

    with pytest.raises(OutcomeUnknown, match="did not answer in time"):
        create(hasty)

    assert len(provider.asked) == 1


def test_after_a_broken_connection_nobody_knows_whether_a_prediction_exists(gateway, provider):
    provider.resets()

    with pytest.raises(OutcomeUnknown, match="broke off"):
        create(gateway)

    assert len(provider.asked) == 1


@pytest.mark.parametrize(
    ("body", "length"), [(b'{"id": "k3m8', 400), (b'{"id": "k3m8', None), (b"[]", None), (b'{"status": "starting"}', None)]
)
def test_after_half_an_answer_nobody_knows_whether_a_prediction_exists(gateway, provider, body, length):
    provider.answers(201, body, length=length)

    with pytest.raises(OutcomeUnknown):
        create(gateway)

    assert len(provider.asked) == 1


def test_a_refused_connection_means_that_nothing_happened(closed_port):
    with Gateway(base_url=f"http://127.0.0.1:{closed_port}", token=TOKEN) as gateway, pytest.raises(Unavailable) as fault:
        create(gateway)

    assert str(fault.value) == "Replicate cannot be reached: 127.0.0.1 refused the connection: nothing answers there."
    assert fault.value.__cause__ is None


def test_an_unknown_host_means_that_nothing_happened():
    with Gateway(base_url="http://replicate.invalid", token=TOKEN) as gateway, pytest.raises(Unavailable):
        create(gateway)


@pytest.mark.parametrize("base_url", ["", "ftp://127.0.0.1", "http://[half"])
def test_a_base_url_that_is_none_means_that_nothing_happened(base_url):
    with Gateway(base_url=base_url, token=TOKEN, retries=QUICK) as gateway, pytest.raises(Unavailable):
        create(gateway)


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"Retry-After": "7"}, {"detail": "Request was throttled.", "retry_after": 5}, 7.0),
        ({}, {"detail": "Request was throttled.", "retry_after": 5}, 5.0),
        ({"Retry-After": "Thu, 01 Jan 2026 00:00:00 GMT"}, {}, 0.0),
        ({"Retry-After": "soon"}, {}, None),
        ({}, b"<html>slow down</html>", None),
    ],
)
def test_a_throttled_create_did_nothing_and_says_when_to_come_back(gateway, provider, headers, body, seconds):
    provider.answers(429, body, headers=headers)

    with pytest.raises(Unavailable) as fault:
        create(gateway)

    assert (fault.value.retry_after, fault.value.status) == (seconds, 429)
    assert len(provider.asked) == 1


def test_the_three_kinds_of_errors_do_not_overlap():
    assert not issubclass(Unavailable, OutcomeUnknown | Rejected)
    assert not issubclass(Rejected, OutcomeUnknown | Unavailable)
    assert issubclass(OutcomeUnknown, ReplicateError)


def test_a_get_is_tried_again_until_it_works(gateway, provider):
    provider.resets()
    provider.answers(429, {"retry_after": 0})
    provider.answers(200, RUN)

    assert gateway.prediction(RUN["id"]).id == RUN["id"]
    assert len(provider.asked) == 3


def test_the_pauses_between_tries_double_and_are_up_to_a_quarter_longer(gateway, provider, monkeypatch):
    provider.answers(503)
    pauses = []
    monkeypatch.setattr("jobs.replicate.gateway.time.sleep", pauses.append)

    for _ in range(20):
        with pytest.raises(Unavailable):
            gateway.prediction(RUN["id"])

    first, second = pauses[::2], pauses[1::2]
    assert all(1 <= pause / QUICK.first_pause_seconds <= 1.25 for pause in first)
    assert all(2 <= pause / QUICK.first_pause_seconds <= 2.5 for pause in second)
    assert len({*first}) > 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_get_gives_up_after_a_few_tries(gateway, provider, status):
    provider.answers(status)

    with pytest.raises(Unavailable) as fault:
        gateway.prediction(RUN["id"])

    assert fault.value.status == status
    assert len(provider.asked) == 3


@pytest.mark.parametrize("status", [301, 408])
def test_a_get_that_will_not_get_better_is_not_repeated(gateway, provider, status):
    provider.answers(status, b"<html>")

    with pytest.raises(Unavailable):
        gateway.prediction(RUN["id"])

    assert len(provider.asked) == 1


def test_a_get_does_not_wait_longer_than_its_budget(gateway, provider):
    provider.answers(429, {"retry_after": 3600})

    with pytest.raises(Unavailable) as fault:
        gateway.prediction(RUN["id"])

    assert fault.value.retry_after == 3600.0
    assert len(provider.asked) == 1


def test_a_silent_get_ends_at_its_time_out(hasty, provider):
    provider.keeps_silent()

    with pytest.raises(Unavailable, match="did not answer in time"):
        hasty.prediction(RUN["id"])


def test_an_answer_without_end_is_not_read_to_its_end(gateway, provider, monkeypatch):
    monkeypatch.setattr("jobs.replicate.gateway.ANSWER_LIMIT_BYTES", 1000)
    provider.answers(200, {**RUN, "logs": "x" * 2000})

    with pytest.raises(Unavailable):
        gateway.prediction(RUN["id"])


@pytest.mark.parametrize("id", ["", " ", ".", ".."])
def test_an_empty_id_is_not_asked_for(gateway, provider, id):
    with pytest.raises(NotFound):
        gateway.prediction(id)

    assert provider.asked == []


def test_an_id_cannot_leave_its_place_in_the_path(gateway, provider):
    provider.answers(404)

    with pytest.raises(NotFound):
        gateway.prediction("../account?x=1")

    assert provider.asked[0]["path"] == "/v1/predictions/..%2Faccount%3Fx%3D1"


def test_billed_seconds_come_exactly(gateway, provider):
    provider.answers(200, b'{"id": "a", "status": "succeeded", "metrics": {"predict_time": 1830.512345678901234567}}')

    assert gateway.prediction("a").seconds == Decimal("1830.512345678901234567")


def test_cancelling_returns_the_prediction_as_it_is_then(gateway, provider):
    provider.answers(200, {**RUN, "status": "processing"})

    assert gateway.cancel(RUN["id"]).state == "running"
    assert (provider.asked[0]["method"], provider.asked[0]["path"]) == ("POST", f"/v1/predictions/{RUN['id']}/cancel")


@pytest.mark.parametrize("status", [404, 409, 422])
def test_a_refusal_to_cancel_is_settled_by_reading_again(gateway, provider, status):
    provider.answers(status, {"detail": "It has ended."})
    provider.answers(200, {**RUN, "status": "succeeded"})

    assert gateway.cancel(RUN["id"]).state == "completed"


def test_an_unauthorized_cancel_is_an_error(gateway, provider):
    provider.answers(401)

    with pytest.raises(Unauthorized):
        gateway.cancel(RUN["id"])


def test_the_list_follows_every_page_and_asks_in_utc(gateway, provider):
    provider.answers(200, {"results": [{**RUN, "id": "c"}, {**RUN, "id": "b"}], "next": f"{provider.url}/v1/predictions?cursor=bz0x"})
    provider.answers(200, {"results": [{**RUN, "id": "a", "status": "aborted"}], "next": None})
    since = datetime(2026, 8, 1, 12, 0, tzinfo=timezone(timedelta(hours=2)))

    found = list(gateway.predictions(created_after=since))

    assert [(run.id, run.state) for run in found] == [("c", "queued"), ("b", "queued"), ("a", "cancelled")]
    assert provider.asked[0]["path"] == "/v1/predictions?created_after=2026-08-01T10%3A00%3A00.000000Z"
    assert provider.asked[1]["path"] == "/v1/predictions?cursor=bz0x"


@pytest.mark.parametrize(
    "following", ["http://evil.example/v1/predictions?cursor=x", "//evil.example/v1/predictions", "/elsewhere", "http://[half"]
)
def test_the_list_does_not_carry_the_token_to_another_place(gateway, provider, following):
    provider.answers(200, {"results": [RUN], "next": following})
    walk = gateway.predictions(created_after=datetime(2026, 8, 1, tzinfo=UTC))

    assert next(walk).id == RUN["id"]
    with pytest.raises(ReplicateError) as fault:
        next(walk)

    assert type(fault.value) is OutcomeUnknown
    assert len(provider.asked) == 1


def test_the_list_goes_on_by_the_scheme_of_the_base_url(provider):
    with Gateway(base_url="https://api.replicate.com", token=TOKEN) as gateway:
        path = gateway._on_our_host("http://api.replicate.com/v1/predictions?cursor=a%2Bb")

    assert path == "/v1/predictions?cursor=a%2Bb"


def test_a_list_that_runs_in_circles_is_not_complete(gateway, provider):
    provider.answers(200, {"results": [], "next": f"{provider.url}/v1/predictions?cursor=1"})

    with pytest.raises(OutcomeUnknown):
        list(gateway.predictions(created_after=datetime(2026, 8, 1, tzinfo=UTC)))


@pytest.mark.parametrize("page", [{}, {"results": None}, {"results": [{"status": "failed"}]}, {"results": [], "next": 7}])
def test_a_list_of_another_shape_is_not_an_empty_list(gateway, provider, page):
    provider.answers(200, page)

    with pytest.raises(ReplicateError):
        list(gateway.predictions(created_after=datetime(2026, 8, 1, tzinfo=UTC)))


def test_the_signing_secret_is_fetched(gateway, provider):
    provider.answers(200, {"key": "whsec_c2ltcGxl"})

    assert gateway.signing_secret() == "whsec_c2ltcGxl"


def kept_file(size):
    return {
        "id": "MGI5",
        "size": size,
        "checksums": {"sha256": "87" * 32},
        "expires_at": "2026-08-02T10:00:00.079Z",
        "urls": {"get": "https://api.replicate.com/v1/files/MGI5"},
    }


def test_a_file_is_uploaded_as_the_part_called_content(gateway, provider):
    provider.answers(201, kept_file(9))

    uploaded = gateway.upload(BytesIO(b"zip bytes"), filename="dataset.zip", content_type="application/zip", metadata={"job": "j-1"})

    body = provider.asked[0]["body"]
    assert body.count(b'name="content"; filename="dataset.zip"\r\nContent-Type: application/zip\r\n\r\nzip bytes\r\n') == 1
    assert body.count(b'name="metadata"\r\n\r\n{"job": "j-1"}\r\n') == 1
    assert (uploaded.id, uploaded.url, uploaded.size) == ("MGI5", "https://api.replicate.com/v1/files/MGI5", 9)
    assert uploaded.sha256 == "87" * 32
    assert uploaded.expires_at == datetime(2026, 8, 2, 10, 0, 0, 79000, tzinfo=UTC)


def test_a_large_file_is_uploaded_in_constant_memory(gateway, provider, tmp_path):
    size = 20 * 1024 * 1024
    provider.answers(201, kept_file(size))
    archive = tmp_path / "dataset.zip"
    with archive.open("wb") as file:
        file.truncate(size)

    tracemalloc.start()
    try:
        gateway.upload(archive, filename="dataset.zip", content_type="application/zip")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert provider.asked[0]["size"] > size
    assert peak < 4 * 1024 * 1024


def test_the_list_of_files_is_read_to_its_end_with_what_their_uploaders_said(gateway, provider):
    first = {"id": "one", "urls": {"get": "https://api.replicate.com/v1/files/one"}, "metadata": {"job": "j-1"}}
    second = {"id": "two", "urls": {"get": "https://api.replicate.com/v1/files/two"}, "metadata": None}
    provider.answers(200, {"results": [first], "next": f"{provider.url}/v1/files?cursor=c", "previous": None})
    provider.answers(200, {"results": [second], "next": None, "previous": None})

    assert [(file.id, file.metadata) for file in gateway.files()] == [("one", {"job": "j-1"}), ("two", {})]


def test_an_upload_of_which_a_part_was_lost_is_not_taken_for_whole(gateway, provider):
    provider.answers(201, kept_file(5))

    with pytest.raises(OutcomeUnknown, match="kept 5 of the file's 9 bytes"):
        gateway.upload(BytesIO(b"zip bytes"), filename="dataset.zip", content_type="application/zip")


def test_an_upload_that_is_too_large_says_so(gateway, provider):
    provider.answers(413, {"detail": "Files must be less than 100MB in size"})

    with pytest.raises(TooLarge, match="Files must be less than 100MB in size"):
        gateway.upload(BytesIO(b"zip bytes"), filename="dataset.zip", content_type="application/zip")


@pytest.mark.parametrize(("status", "is_gone"), [(204, True), (404, True), (202, False)])
def test_a_deleted_file_is_gone_also_when_it_was_before(gateway, provider, status, is_gone):
    provider.answers(status)

    assert gateway.delete_file("MGI5") is is_gone


def test_an_explicit_proxy_is_used(provider):
    provider.answers(200, {"type": "user", "username": "ana"})

    with Gateway(base_url="http://api.replicate.invalid", token=TOKEN, outbound=Outbound(proxy_url=provider.url)) as gateway:
        gateway.account()

    assert provider.asked[0]["path"] == "http://api.replicate.invalid/v1/account"


def test_the_proxy_of_the_environment_is_used_but_for_hosts_without_proxy(provider, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", provider.url)
    monkeypatch.setenv("NO_PROXY", "direct.invalid")
    provider.answers(200, {"type": "user", "username": "ana"})

    with Gateway(base_url="http://api.replicate.invalid", token=TOKEN) as gateway:
        gateway.account()
    with Gateway(base_url="http://direct.invalid", token=TOKEN, retries=QUICK) as gateway, pytest.raises(Unavailable):
        gateway.account()

    assert [asked["path"] for asked in provider.asked] == ["http://api.replicate.invalid/v1/account"]


def test_a_proxy_that_wants_a_password_did_nothing(gateway, provider):
    provider.answers(407, b"<html>")

    with pytest.raises(Unavailable):
        create(gateway)


@pytest.mark.parametrize("outbound", [Outbound(ca_bundle="/no/such/bundle.pem"), Outbound(proxy_url="gopher://me:secret@proxy")])
def test_outbound_settings_that_cannot_work_say_so_without_a_password(outbound):
    with pytest.raises(Unavailable) as fault:
        Gateway(base_url="https://api.replicate.com", token=TOKEN, outbound=outbound)

    assert str(fault.value) == "The proxy's address or the CA bundle cannot be used; see the outbound network settings."


def test_certificates_are_checked_unless_told_otherwise():
    with Gateway(base_url="https://api.replicate.com", token=TOKEN) as strict:
        assert context_of(strict).verify_mode == ssl.CERT_REQUIRED
    with Gateway(base_url="https://api.replicate.com", token=TOKEN, outbound=Outbound(verify=False)) as lax:
        assert context_of(lax).verify_mode == ssl.CERT_NONE


def context_of(gateway):
    return gateway._http._transport._pool._ssl_context


def test_every_phase_of_a_call_has_a_time_out():
    with Gateway(base_url="https://api.replicate.com", token=TOKEN, outbound=Outbound(timeout_seconds=120)) as gateway:
        assert gateway._http.timeout.as_dict() == {"connect": 10.0, "read": 120, "write": 120, "pool": 10.0}
