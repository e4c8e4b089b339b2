"""How calls find their way out, and what is said when they do not: a real proxy, real certificates."""

import json
import socket
from http.server import BaseHTTPRequestHandler

import httpx
import pytest

from accounts.roles import Role
from jobs.models import ProviderSettings
from jobs.outbound import SENTENCES, Outbound, Reason, Steps, public_client, trouble
from jobs.replicate.gateway import Gateway, Retries, Unavailable
from jobs.services import provider
from tests.factories import CredentialFactory, MembershipFactory, make_token
from tests.jobs.proxies import PASSWORD, certificate, proxying, serving
from tests.jobs.sandbox.servers import free_port

TOKEN = "r8_" + "0" * 37
QUICK = Retries(attempts=2, first_pause_seconds=0.001)


class Replicate(BaseHTTPRequestHandler):
    """Knows every token."""

    def do_GET(self):
        body = json.dumps({"type": "user", "username": "ana"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """The suite's output is for failures."""


@pytest.fixture
def proxy():
    with proxying() as proxy:
        yield proxy


@pytest.fixture
def trusted(tmp_path):
    return certificate(tmp_path)


@pytest.fixture
def secure(trusted):
    """A provider over TLS, by a certificate that only its own bundle vouches for."""
    with serving(Replicate, trusted.context) as port:
        yield f"https://127.0.0.1:{port}"


def ask(url, **outbound):
    with Gateway(base_url=url, token=TOKEN, outbound=Outbound(**outbound), retries=QUICK) as gateway:
        return gateway.account().username


def fails(url, **outbound):
    """Why a call fails: its reason, and its sentence."""
    with pytest.raises(Unavailable) as fault:
        ask(url, **outbound)
    assert PASSWORD not in str(fault.value)
    return fault.value.trouble.reason, str(fault.value.trouble)


def test_every_reason_has_a_sentence():
    assert set(SENTENCES) == set(Reason)


def test_a_call_goes_through_a_tunnel_with_the_password_of_the_proxy_and_the_bundle(proxy, secure, trusted):
    proxy.needs_login = True

    said = ask(secure, proxy_url=proxy.url_with_login, ca_bundle=str(trusted.bundle))

    assert (said, proxy.asked) == ("ana", [f"CONNECT {secure.removeprefix('https://')}"])


def test_a_wrong_password_is_told_once_and_not_tried_again(proxy, secure):
    proxy.needs_login = True

    reason, sentence = fails(secure, proxy_url=proxy.url)

    where = f"127.0.0.1:{proxy.port}"
    assert (reason, sentence) == (Reason.PROXY_LOGIN, f"The proxy {where} does not accept the user name or the password (407).")
    assert len(proxy.asked) == 1


def test_without_tls_the_refusals_of_a_proxy_are_told_from_the_providers_own(proxy):
    proxy.needs_login = True
    login, _ = fails("http://replicate.invalid", proxy_url=proxy.url)
    proxy.needs_login, proxy.answers = False, 403

    refused, _ = fails("http://replicate.invalid", proxy_url=proxy.url)

    assert (login, refused) == (Reason.PROXY_LOGIN, Reason.PROXY_REFUSED)


@pytest.mark.parametrize(
    ("status", "reason", "sentence"),
    [
        (403, Reason.PROXY_REFUSED, "The proxy 127.0.0.1:{} does not allow calls to api.replicate.invalid (403)."),
        (503, Reason.PROXY_FAILED, "The proxy 127.0.0.1:{} could not pass the call on to api.replicate.invalid (503)."),
    ],
)
def test_what_a_proxy_answers_to_a_tunnel_is_told(proxy, status, reason, sentence):
    proxy.answers = status

    assert fails("https://api.replicate.invalid", proxy_url=proxy.url_with_login) == (reason, sentence.format(proxy.port))


def test_a_proxy_that_is_away_is_told_from_a_provider_that_is_away(secure):
    port = free_port()

    away, sentence = fails(secure, proxy_url=f"http://me:{PASSWORD}@127.0.0.1:{port}")
    nobody, _ = fails(f"http://127.0.0.1:{port}")

    assert (away, sentence) == (Reason.PROXY_AWAY, f"The proxy 127.0.0.1:{port} cannot be reached: nothing answers there.")
    assert nobody == Reason.REFUSED


def test_a_name_that_is_not_found_is_told_for_the_host_and_for_the_proxy():
    host = fails("https://api.replicate.invalid")
    proxy = fails("https://api.replicate.invalid", proxy_url="http://proxy.invalid:3128")

    assert host == (Reason.NAME, "The name api.replicate.invalid was not found.")
    assert proxy == (Reason.PROXY_NAME, "The name of the proxy proxy.invalid:3128 was not found.")


def test_a_certificate_that_is_not_trusted_says_why(secure, tmp_path):
    with serving(Replicate, certificate(tmp_path, days=-1).context) as port:
        expired, _ = fails(f"https://127.0.0.1:{port}", ca_bundle=str(tmp_path / "127.0.0.1--1.pem"))
    with serving(Replicate, certificate(tmp_path, host="other.example").context) as port:
        other, _ = fails(f"https://127.0.0.1:{port}", ca_bundle=str(tmp_path / "other.example-1.pem"))

    assert fails(secure) == (Reason.CERTIFICATE, "The certificate of 127.0.0.1 is not trusted (self-signed certificate).")
    assert (expired, other) == (Reason.CERTIFICATE_EXPIRED, Reason.CERTIFICATE_NAME)


def test_a_host_without_tls_is_told(proxy):
    assert fails(f"https://127.0.0.1:{proxy.port}")[0] == Reason.TLS


def test_a_host_that_says_nothing_is_told(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()

        assert fails(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.2)[0] == Reason.TIMEOUT


def test_the_environments_proxy_counts_but_for_hosts_that_are_excepted_and_the_teams_own_comes_first(proxy, secure, trusted, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    by_environment, _ = fails(secure, ca_bundle=str(trusted.bundle))
    by_team = ask(secure, ca_bundle=str(trusted.bundle), proxy_url=proxy.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    straight = ask(secure, ca_bundle=str(trusted.bundle))

    assert (by_environment, by_team, straight, len(proxy.asked)) == (Reason.PROXY_AWAY, "ana", "ana", 1)


# --- An address that a team names -------------------------------------------------------------------------


@pytest.fixture
def named(tmp_path, settings, monkeypatch):
    """A server by a name that only its certificate and this look-up know, as if it were out in the world; and its way."""
    settings.ALLOW_PRIVATE_HOSTS = False
    trusted = certificate(tmp_path, host="far.example.com")
    look_up = socket.getaddrinfo
    known = {"far.example.com": ["127.0.0.9", "127.0.0.1"], "other.example.com": ["127.0.0.1"]}

    def found(host, *rest, **more):
        return [(2, 1, 6, "", (address, 0)) for address in known[host]] if host in known else look_up(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr("jobs.outbound.private_among", lambda addresses: "")
    with serving(Replicate, trusted.context) as port:
        yield port, Outbound(ca_bundle=str(trusted.bundle), timeout_seconds=5)


def test_what_was_looked_up_is_called_one_after_another_and_the_certificate_is_that_of_the_name(named):
    port, way = named
    url = f"https://far.example.com:{port}/"
    with public_client(way, url) as http:
        response = http.get(url)

    assert (response.json()["username"], str(response.url), response.request.headers["host"]) == ("ana", url, f"far.example.com:{port}")


def test_a_certificate_of_another_name_is_not_taken_for_an_address_that_was_looked_up(named):
    port, way = named
    url = f"https://other.example.com:{port}/"
    steps = Steps(url)
    with public_client(way, url) as http, pytest.raises(httpx.ConnectError) as fault:
        http.get(url, extensions={"trace": steps})

    assert trouble(fault.value, steps).reason == Reason.CERTIFICATE_NAME


def test_nothing_that_answers_at_a_looked_up_address_is_no_fault_of_a_proxy(named):
    url = f"https://other.example.com:{free_port()}/"
    steps = Steps(url)
    with public_client(named[1], url) as http, pytest.raises(httpx.ConnectError) as fault:
        http.get(url, extensions={"trace": steps})

    assert trouble(fault.value, steps).reason == Reason.REFUSED


def test_an_address_that_a_team_names_goes_by_the_proxy_but_for_excepted_hosts(named, proxy, monkeypatch):
    port, way = named
    url = f"https://far.example.com:{port}/"
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with public_client(way, url) as http:
        http.get(url)
    monkeypatch.setenv("NO_PROXY", "far.example.com")
    with public_client(way, url) as http:
        http.get(url)

    assert proxy.asked == [f"CONNECT far.example.com:{port}"]


# --- As a team meets it -----------------------------------------------------------------------------------


@pytest.fixture
def team(db, settings, secure):
    settings.REPLICATE_BASE_URL = secure
    member = MembershipFactory(role=Role.OWNER)
    CredentialFactory(team=member.team, secret=TOKEN)
    return member.team


def test_validate_names_the_fault_of_the_network_in_the_api(client, team, proxy, trusted):
    own = ProviderSettings.objects.create(team=team, proxy_url=proxy.url_with_login, ssl_ca_bundle=str(trusted.bundle))
    _, key = make_token(MembershipFactory(team=team))

    def validate():
        return client.get("/api/cloud/providers/replicate/validate", headers={"X-API-Key": key}).json()

    good = validate()
    proxy.answers = 403
    refused = validate()
    own.proxy_url, own.ssl_ca_bundle = "", ""
    own.save()
    untrusted = validate()

    where = f"127.0.0.1:{proxy.port}"
    assert (good["valid"], good["username"]) == (True, "ana")
    assert refused["error"] == f"Replicate could not be asked: The proxy {where} does not allow calls to 127.0.0.1 (403)."
    assert untrusted["error"].startswith("Replicate could not be asked: The certificate of 127.0.0.1 is not trusted (self-signed")


def test_a_fault_of_the_network_leaves_the_health_of_the_token_alone(team):
    found = provider.check(team=team, credential=team.credentials.get())

    assert (found.valid, found.trouble.reason, team.credentials.get().health) == (False, Reason.CERTIFICATE, "unchecked")
