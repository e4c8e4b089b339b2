"""The test of the webhook address: over real HTTP to ourselves, and past everything that can stand in the way."""

import json
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

import httpx
import pytest
from django.test import Client
from django.utils import timezone

from accounts import addresses
from accounts.models import AuditLine, Credential
from accounts.roles import Role
from jobs.models import ProviderSettings
from tests.factories import CredentialFactory, MembershipFactory, make_token
from tests.jobs.proxies import certificate, proxying, serving
from tests.jobs.ready import caller_of, post
from tests.jobs.sandbox.servers import free_port
from webhooks import testing
from webhooks.models import Delivery

SECRET = "whsec_c2ltcGxldHVuZXItc2FuZGJveC1rMDAx"
OWN = "/api/cloud/providers/replicate/test-webhook"
ANY = ["/api/webhooks/test", "/api/cloud/webhook/test", "/api/webhooks/test/"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def owner(no_provider):
    return MembershipFactory(role=Role.OWNER)


@pytest.fixture
def house(owner, settings, live_server):
    """This installation at its public address, with a team whose account's signing secret is known."""
    settings.PUBLIC_URL = live_server.url
    CredentialFactory(team=owner.team, signing_keys=SECRET, signing_keys_fetched_at=timezone.now())
    return live_server


def settle(owner, **fields):
    return ProviderSettings.objects.update_or_create(team=owner.team, defaults=fields)[0]


def probe(owner, **options):
    return testing.probe(caller_of(owner), **options)


def handler(status, body=b"<html>", headers=()):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """The suite's output is for failures."""

    return Handler


# --- It arrives -------------------------------------------------------------------------------------------


def test_a_signed_test_goes_all_the_way_and_leaves_nothing_behind(house, owner):
    lines = AuditLine.objects.count()

    outcome = probe(owner)

    assert (outcome.success, outcome.reason, outcome.status_code) == (True, "arrived", 200)
    assert outcome.message == "The address leads here, and the signature is accepted."
    assert outcome.latency_ms > 0
    assert (Delivery.objects.count(), AuditLine.objects.count()) == (0, lines)


def test_without_a_token_the_way_is_tested_and_the_signature_said_to_be_untried(owner, settings, live_server):
    settings.PUBLIC_URL = live_server.url

    outcome = probe(owner)

    assert (outcome.success, outcome.reason) == (True, "no_token")


def test_a_secret_that_replicate_does_not_give_leaves_the_signature_untried(house, owner):
    Credential.objects.update(signing_keys="", signing_keys_fetched_at=None)

    assert probe(owner).reason == "no_signing_secret"


def test_a_team_that_asks_for_no_signatures_needs_no_secret(house, owner):
    settle(owner, webhook_require_signature=False)
    Credential.objects.update(signing_keys="", signing_keys_fetched_at=None)

    outcome = probe(owner)

    assert (outcome.success, outcome.reason) == (True, "signature_not_required")
    assert Credential.objects.get().signing_keys_fetched_at is None


def test_the_call_goes_through_the_teams_proxy(house, owner):
    with proxying() as proxy:
        proxy.needs_login = True
        settle(owner, proxy_url=proxy.url_with_login)
        through = probe(owner)
        settle(owner, proxy_url=proxy.url)
        refused = probe(owner)

    assert (through.reason, refused.reason) == ("arrived", "proxy_login")
    assert [line.partition("?")[0] for line in proxy.asked] == [f"POST {house.url}/api/webhooks/replicate"] * 2


# --- What stands in the way -------------------------------------------------------------------------------


def test_without_an_address_nothing_is_called(owner, settings):
    settings.PUBLIC_URL = ""

    outcome = probe(owner)

    assert (outcome.success, outcome.reason, outcome.latency_ms) == (False, "no_address", None)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://tunehouse.example.com", "Replicate cannot call this address. The address must begin with https."),
        (
            "https://10.0.0.5",
            "Replicate cannot call this address. 10.0.0.5 is a private host, which the provider cannot reach.",
        ),
    ],
)
def test_an_address_that_replicate_cannot_call_is_not_called(owner, settings, url, sentence):
    settings.ALLOW_PRIVATE_HOSTS, settings.PUBLIC_URL = False, url

    assert probe(owner).message == sentence


def test_a_name_that_leads_into_our_own_network_is_not_called(owner, settings, monkeypatch):
    settings.ALLOW_PRIVATE_HOSTS, settings.PUBLIC_URL = False, "https://inside.example.com"
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", ("10.1.2.3", 0))])

    outcome = probe(owner)

    assert (outcome.reason, "inside.example.com is the private address 10.1.2.3" in outcome.message) == ("private_from_here", True)


def test_a_name_that_leads_into_our_own_network_after_it_was_checked_is_not_called(owner, settings, monkeypatch):
    with serving(handler(200)) as port:
        settings.ALLOW_PRIVATE_HOSTS, settings.PUBLIC_URL = False, f"https://inside.example.com:{port}"
        found = iter(["93.184.215.14"])  # public once, and at home from then on
        monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", (next(found, "127.0.0.1"), port))])

        outcome = probe(owner)

    assert (outcome.reason, "inside.example.com is the private address 127.0.0.1" in outcome.message) == ("private_from_here", True)


def test_a_name_that_is_not_found_and_a_closed_port_are_told(owner, settings):
    settings.PUBLIC_URL = "https://tunehouse.invalid"
    unknown = probe(owner)
    settings.PUBLIC_URL = f"http://127.0.0.1:{free_port()}"

    assert (unknown.reason, probe(owner).reason) == ("name_not_found", "refused")


def test_a_certificate_that_is_not_trusted_is_told_and_the_teams_bundle_mends_it(house, owner, settings, tmp_path):
    own = certificate(tmp_path)
    with serving(handler(404), own.context) as port:
        settings.PUBLIC_URL = f"https://127.0.0.1:{port}"
        untrusted = probe(owner)
        settle(owner, ssl_ca_bundle=str(own.bundle))
        trusted = probe(owner)

    assert (untrusted.reason, trusted.reason) == ("certificate", "not_found")


@pytest.mark.parametrize(
    ("status", "body", "headers", "reason"),
    [
        (302, b"", [("Location", "https://www.example.com/hook?secret=1")], "redirect"),
        (403, b"<html>", [], "turned_away"),
        (401, b"<html>", [], "turned_away"),
        (404, b"<html>", [], "not_found"),
        (404, b'{"code": "job_not_found"}', [], "other_installation"),
        (502, b"<html>", [], "not_passed_on"),
        (200, b'{"status": "ignored", "reason": "test", "team": "another"}', [], "something_else"),
        (200, b"[" * 70_000, [], "something_else"),
        (407, b"", [], "proxy_login"),
    ],
)
def test_what_answers_in_our_place_is_told_by_its_answer(owner, settings, status, body, headers, reason):
    with serving(handler(status, body, headers)) as port:
        settings.PUBLIC_URL = f"http://127.0.0.1:{port}"
        outcome = probe(owner)

    assert (outcome.success, outcome.reason) == (False, reason)
    assert "html" not in outcome.message


def test_a_redirect_says_where_to_without_the_query(owner, settings):
    with serving(handler(301, b"", [("Location", "https://www.example.com/hook?test=x")])) as port:
        settings.PUBLIC_URL = f"http://127.0.0.1:{port}"
        outcome = probe(owner)

    assert "redirects to https://www.example.com/hook, and" in outcome.message


def test_our_own_list_of_addresses_is_told_from_a_proxys_refusal(house, owner):
    settle(owner, webhook_allowed_ips=["34.82.0.0/16"])
    lines = AuditLine.objects.count()

    outcome = probe(owner)

    assert (outcome.reason, "it came from 127.0.0.1." in outcome.message, outcome.status_code) == ("ip_not_allowed", True, 403)
    assert AuditLine.objects.count() == lines


def test_a_name_that_this_server_does_not_answer_to_is_told(house, owner, settings):
    settings.ALLOWED_HOSTS = ["tunehouse.example.com"]

    assert probe(owner).reason == "unknown_host"


@pytest.mark.parametrize(("changes_body", "reason"), [(False, "arrived"), (True, "invalid_signature")])
def test_a_proxy_that_changes_the_body_breaks_the_signature(house, owner, settings, changes_body, reason):
    class Between(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])) + (b" " if changes_body else b"")
            headers = {name: value for name, value in self.headers.items() if name.lower().startswith("webhook-")}
            answer = httpx.post(house.url + self.path, content=body, headers=headers, trust_env=False)
            self.send_response(answer.status_code)
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_):
            """The suite's output is for failures."""

    with serving(Between) as port:
        settings.PUBLIC_URL = f"http://127.0.0.1:{port}"
        outcome = probe(owner)

    assert outcome.reason == reason


def test_silence_ends_at_the_time_that_was_asked_for(owner, settings):
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        settings.PUBLIC_URL = f"http://127.0.0.1:{silent.getsockname()[1]}"

        assert probe(owner, timeout_seconds=0.2).reason == "timeout"


# --- The receiver's side ----------------------------------------------------------------------------------


def receive(nonce):
    return Client().post(f"/api/webhooks/replicate?test={nonce}", "{}", content_type="application/json")


def nonce_of(owner, credential=None):
    return testing.marked("", team=owner.team, credential=credential).partition("test=")[2]


def test_a_nonce_of_another_installation_is_not_found(owner, settings):
    settings.SECRET_KEY, own = "another installation's", settings.SECRET_KEY
    foreign = nonce_of(owner)
    settings.SECRET_KEY = own

    answer = receive(foreign)

    assert (answer.status_code, answer.json()["code"]) == (404, "test_unknown")
    assert receive(nonce_of(owner)).status_code == 200


def test_a_nonce_gets_old(owner, monkeypatch):
    nonce = nonce_of(owner)
    monkeypatch.setattr(testing, "NONCE_SECONDS", -1)

    assert receive(nonce).status_code == 404


def test_a_test_that_must_be_signed_and_is_not_is_refused(house, owner):
    answer = receive(nonce_of(owner, Credential.objects.get()))

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_signature")


# --- By API -----------------------------------------------------------------------------------------------


@pytest.fixture
def call(owner):
    _, key = make_token(owner)
    return lambda path=OWN, body=None, key=key: post(path, body or {}, key=key)


def test_the_api_answers_with_success_message_and_latency(house, call):
    said = call().json()

    assert (said["success"], said["error"], said["latency_ms"] > 0) == (True, None, True)
    assert said["message"] == "The address leads here, and the signature is accepted."


def test_the_api_says_in_error_what_is_wrong(call, settings):
    settings.PUBLIC_URL = ""

    answer = call()

    assert (answer.status_code, answer.json()["success"]) == (200, False)
    assert answer.json()["error"].startswith("No public address is set")


@pytest.mark.parametrize("path", ANY)
def test_an_address_can_be_tested_before_it_is_saved(house, call, settings, path):
    settings.PUBLIC_URL = ""

    said = call(path, {"webhook_url": house.url, "method": None, "timeout": 5}).json()

    assert (said["success"], said["status_code"], said["method"]) == (True, 200, "direct")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "webhook_url"),
        ({"webhook_url": 5}, "webhook_url"),
        ({"webhook_url": "ftp://tunehouse.example.com"}, "webhook_url"),
        ({"webhook_url": "https://localhost"}, "webhook_url"),
        ({"webhook_url": "http://tunehouse.example.com"}, "webhook_url"),
        ({"webhook_url": "https://me:word@tunehouse.example.com"}, "webhook_url"),
        ({"webhook_url": "https://[::1"}, "webhook_url"),
        ({"webhook_url": "https://tunehouse.example.com", "timeout": 31}, "timeout"),
        ({"webhook_url": "https://tunehouse.example.com", "timeout": "5"}, "timeout"),
        ({"webhook_url": "https://tunehouse.example.com", "method": "carrier pigeon"}, "method"),
    ],
)
def test_what_must_not_be_called_is_refused(call, settings, body, field):
    settings.ALLOW_PRIVATE_HOSTS = False

    answer = call(ANY[0], body)

    assert (answer.status_code, answer.json()["field"]) == (400, field)


def test_another_provider_is_not_found(call):
    assert call("/api/cloud/providers/other/test-webhook").status_code == 404
    assert call(ANY[0], {"webhook_url": "https://tunehouse.example.com", "provider": "other"}).status_code == 404


@pytest.mark.parametrize("path", [OWN, f"{OWN}-external", *ANY])
def test_only_those_who_manage_the_team_test(call, owner, path):
    _, lead = make_token(MembershipFactory(team=owner.team, role=Role.LEAD))

    refused = call(path, {"webhook_url": "https://tunehouse.example.com"}, key=lead)

    assert (refused.status_code, refused.json()["details"]) == (403, {"required_permission": "admin.config"})
    assert call(path, key="th_nobody").status_code == 401


def test_the_nonce_stands_in_no_message(house, owner, settings):
    settings.PUBLIC_URL = f"http://127.0.0.1:{free_port()}"

    outcome = probe(owner)

    assert "test=" not in json.dumps([outcome.message, outcome.names])
    assert urlsplit(settings.PUBLIC_URL).hostname in outcome.message
