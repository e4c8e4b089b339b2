"""Who gets where, and as whom: the samples' rules for addresses, and what the product believes of a client behind them."""

import http.client

import pytest

from accounts.models import AuditLine
from jobs.models import ProviderSettings
from tests.factories import MembershipFactory, make_token
from tests.jobs.sandbox.servers import picture
from tests.proxies import MEMBER, OTHER_PROVIDER, PROVIDER, STRANGER
from tests.webhooks.deliveries import address_of, body_of, make_job, signed
from tests.webhooks.forged import samples
from webhooks.models import Delivery

RECEIVER = ["/api/webhooks/replicate", "/api/cloud/webhook/replicate", "/api/cloud/webhooks/replicate"]
# What leads to the receiver by some server's way of reading a path, or once did.
OTHER_SPELLINGS = [
    "/api/webhooks/replicat%65",
    "/api/webhooks//replicate",
    "//api/webhooks/replicate",
    "/api/cloud/../webhooks/replicate",
    "/api/cloud/storage/../../webhooks/replicate",
    "/api/cloud/storage/%2e%2e/%2e%2e/webhooks/replicate",
    "/api/webhooks/replicate%0A",
    "/api/webhooks/replicate/%0A",
    "/api/webhooks%2Freplicate",
    "/api%2fcloud%2fwebhook%2freplicate%2f",
    "/API/webhooks/replicate",
    "/api/webhooks/replicate;x",
    "/api/webhooks/replicate%3Fx",
]
# Every answer of the product has it, so an answer without it came from the proxy.
OURS = "X-Correlation-ID"
FORGED = {
    "X-Forwarded-For": OTHER_PROVIDER,
    "X-Real-IP": OTHER_PROVIDER,
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "evil.example.com",
    "Forwarded": f"for={OTHER_PROVIDER};proto=http;host=evil.example.com",
}
# WSGI knows no difference between the two, and clients may name headers to be dropped on the way.
UNDERSCORED = {name.replace("-", "_"): value for name, value in FORGED.items() if "-" in name}
DROPPED = {"Connection": "close, X-Forwarded-For, X-Real-IP, X-Forwarded-Proto, X-Forwarded-Host"}
FORGERIES = [FORGED, UNDERSCORED, DROPPED, FORGED | UNDERSCORED | DROPPED]
NAMES = ["forged", "with underscores", "to be dropped", "all of these"]


@pytest.mark.parametrize("source", [PROVIDER, OTHER_PROVIDER])
def test_the_provider_reaches_the_receiver_by_each_of_its_names(proxy, source):
    with proxy.client(source) as client:
        answers = [client.post(path + slash, json={}) for path in RECEIVER for slash in ("", "/")]

    assert {(answer.status_code, answer.json()["code"], OURS in answer.headers) for answer in answers} == {(401, "invalid_signature", True)}


@pytest.mark.parametrize("source", [MEMBER, STRANGER])
def test_nobody_else_reaches_the_receiver(proxy, source):
    with proxy.client(source, **FORGED) as client:
        answers = [client.post(path + slash, json={}) for path in RECEIVER for slash in ("", "/")]

    assert {(answer.status_code, OURS in answer.headers) for answer in answers} == {(403, False)}


@pytest.mark.parametrize("source", [MEMBER, STRANGER])
def test_no_other_spelling_leads_to_the_receiver(proxy, source):
    for path in OTHER_SPELLINGS:
        # Not by a client that would tidy the path.
        connection = http.client.HTTPSConnection(*proxy.address, context=proxy.trusted, source_address=(source, 0), timeout=60)
        connection.request("POST", path, body=b"{}")
        answer = connection.getresponse()
        said = answer.read()
        connection.close()

        assert answer.status >= 400, path
        assert b"Webhook signature required" not in said, path


def test_pages_are_for_the_networks_where_people_work_and_storage_is_for_everyone(proxy):
    statuses = {}
    for source in (MEMBER, STRANGER, PROVIDER):
        with proxy.client(source) as client:
            answers = [client.get("/accounts/login/"), client.get("/api/cloud/jobs"), client.get("/api/cloud/storage/outputs/x")]
        statuses[source] = [(answer.status_code, OURS in answer.headers) for answer in answers]

    assert statuses == {
        MEMBER: [(200, True), (401, True), (401, True)],
        STRANGER: [(403, False), (403, False), (401, True)],
        PROVIDER: [(403, False), (403, False), (401, True)],
    }


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("forged", FORGERIES, ids=NAMES)
def test_the_product_sees_the_client_that_the_proxy_saw_whatever_the_client_says(proxy, no_provider, forged):
    job, body = make_job(), body_of()
    ProviderSettings.objects.create(team=job.team, webhook_allowed_ips=[OTHER_PROVIDER])
    _, token = make_token(MembershipFactory(team=job.team))

    with proxy.client(PROVIDER, **forged) as client:
        refused = client.post(address_of(job), content=body, headers=signed(body))
    with proxy.client(OTHER_PROVIDER) as client:
        taken = client.post(address_of(job), content=body, headers=signed(body))
    with proxy.client(MEMBER, Authorization=f"Bearer {token}", **forged) as client:
        made = client.post("/api/cloud/datasets", data={"name": "pets"}, files={"files": ("a.jpg", picture())})

    assert (refused.status_code, refused.json()["code"], refused.json()["details"]) == (403, "ip_not_allowed", {"address": PROVIDER})
    assert AuditLine.objects.get(event_type="webhook.rejected").after == {"address": PROVIDER}
    # Held at first, and let in by the repeat from an address on the list.
    assert (taken.status_code, taken.json()["status"], Delivery.objects.get().state) == (200, "received", "received")
    assert (made.status_code, AuditLine.objects.get(event_type="dataset.created").address) == (201, MEMBER)


@pytest.mark.django_db(transaction=True)
def test_no_forged_header_changes_from_where_a_delivery_comes(proxy, no_provider):
    job = make_job()
    ProviderSettings.objects.create(team=job.team, webhook_allowed_ips=[OTHER_PROVIDER])
    connection = http.client.HTTPSConnection(*proxy.address, context=proxy.trusted, source_address=(PROVIDER, 0), timeout=60)

    statuses = []
    for number, forged in enumerate(samples(OTHER_PROVIDER)):
        body = body_of("processing", logs="x" * number)
        connection.putrequest("POST", address_of(job))
        for name, value in [*signed(body, webhook_id=f"msg_{number}").items(), ("Content-Length", str(len(body))), *forged]:
            connection.putheader(name, value.encode())
        connection.endheaders(body)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
        if answer.will_close:
            connection.close()
    connection.close()

    # 403 is ours, since it is held; what is no header at all or too long for the proxy never gets here.
    assert set(statuses) <= {400, 403, 431}
    assert statuses.count(403) >= 100
    assert set(Delivery.objects.values_list("state", "address")) == {("held", PROVIDER)}


def test_a_form_is_taken_over_https_from_this_host_and_port(proxy):
    with proxy.client(MEMBER, **FORGERIES[-1], Referer=f"{proxy.url}/accounts/login/") as client:
        client.get("/accounts/login/")
        form = {"csrfmiddlewaretoken": client.cookies["csrftoken"], "login": "nobody@example.com", "password": "wrong"}
        own = client.post("/accounts/login/", data=form, headers={"Origin": proxy.url})
        foreign = client.post("/accounts/login/", data=form, headers={"Origin": "https://evil.example.com"})

    # The product compares the origin with what it takes for its own scheme, host and port.
    assert (own.status_code, foreign.status_code) == (200, 403)


def test_http_leads_to_https(proxy):
    connection = http.client.HTTPConnection(proxy.plain.rpartition("/")[2], timeout=60)
    connection.request("POST", "/api/webhooks/replicate?x=1")
    answer = connection.getresponse()
    answer.read()
    connection.close()

    assert answer.status in {301, 308}
    assert answer.headers["Location"].startswith("https://127.0.0.1")
    assert answer.headers["Location"].endswith("/api/webhooks/replicate?x=1")
