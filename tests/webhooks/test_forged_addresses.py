"""Whatever a client says of its address, the peer's decides: held in block mode, marked in observe mode, never let in as another."""

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.callers import address_of
from jobs.models import ProviderSettings
from tests.webhooks.deliveries import address_of as url_of
from tests.webhooks.deliveries import body_of, make_job, signed
from tests.webhooks.forged import ALLOWED, NAMES, samples
from webhooks.models import Delivery, OutsideAddress

PEER, PROXY = "203.0.113.7", "10.0.0.1"


@pytest.fixture
def job(db, no_provider):
    job = make_job()
    ProviderSettings.objects.create(team=job.team, webhook_allowed_ips=["34.82.0.0/16"])
    return job


def deliver(job, number, forged, *, peer=PEER):
    body = body_of("processing", logs="x" * number)
    # As a server hands headers on: those that come twice are joined, and WSGI knows no hyphens.
    environ = {"REMOTE_ADDR": peer}
    for name, value in forged:
        key = f"HTTP_{name.upper().replace('-', '_')}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    headers = signed(body, webhook_id=f"msg_{number}")
    return Client().post(url_of(job), body, content_type="application/json", headers=headers, **environ)


def test_there_are_a_hundred_of_them():
    assert len(set(samples())) >= 100


@pytest.mark.parametrize(("mode", "status", "state"), [("block", 403, "held"), ("observe", 200, "received")])
def test_no_forgery_of_an_untrusted_peer_changes_what_is_decided(job, mode, status, state):
    ProviderSettings.objects.update(webhook_address_mode=mode)

    answers = [deliver(job, number, forged).status_code for number, forged in enumerate(samples())]

    assert set(answers) == {status}
    assert set(Delivery.objects.values_list("state", "address", "is_outside")) == {(state, PEER, True)}
    row = OutsideAddress.objects.get()
    assert (row.address, row.held + row.passed) == (PEER, len(samples()))


@pytest.mark.parametrize("mode", ["block", "observe"])
def test_none_opens_the_door_to_an_unsigned_request(job, mode):
    ProviderSettings.objects.update(webhook_address_mode=mode)

    for forged in samples():
        environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in forged}
        assert Client().post(url_of(job), body_of(), content_type="application/json", REMOTE_ADDR=PEER, **environ).status_code == 403
    assert not Delivery.objects.exists()


def test_behind_our_own_proxy_what_the_client_said_before_it_counts_for_nothing(job, settings):
    settings.TRUSTED_PROXIES = [PROXY]
    forged = [value for sample in samples() for name, value in sample if name == "X-Forwarded-For"]

    # A proxy of ours appends the address that it saw.
    answers = [deliver(job, number, [("X-Forwarded-For", f"{value}, {PEER}")], peer=PROXY) for number, value in enumerate(forged)]

    assert {answer.status_code for answer in answers} == {403}
    assert set(Delivery.objects.values_list("state", "address")) == {("held", PEER)}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.text() | st.just(ALLOWED) | st.ip_addresses().map(str)), max_size=5))
def test_nothing_that_can_be_written_into_a_header_speaks_for_an_untrusted_peer(rf, settings, said):
    settings.TRUSTED_PROXIES = [PROXY]
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in said}

    assert address_of(rf.post("/", REMOTE_ADDR=PEER, **environ)) == PEER
    assert address_of(rf.post("/", REMOTE_ADDR=PROXY, **environ | {"HTTP_X_FORWARDED_FOR": f"{ALLOWED}, {PEER}"})) == PEER
