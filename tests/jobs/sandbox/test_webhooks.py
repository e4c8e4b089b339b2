import base64
import itertools
import time
from datetime import datetime

import pytest
import standardwebhooks

from jobs.sandbox import webhooks

from . import servers

VECTOR = (
    b'{"id":"k3m8v0b5t1rgm0cqy7nsd2w4ez","model":"simpletuner/advanced-trainer-h100","status":"succeeded",'
    b'"output":"https://huggingface.co/acme/my-lora","error":null}'
)
ALL = ["start", "output", "logs", "completed"]
# Steps a simulated second with which a run takes a second of wall time: its start has arrived before its end is told.
SLOW = 20 / 3600


@pytest.fixture
def dataset(account):
    return account.upload(servers.archive("a_cat.jpg"))["urls"]["get"]


def attempts(account, prediction, event="completed"):
    return [each for each in account.sandbox.evidence(prediction)["webhooks"] if each["event"] == event]


def test_37_the_signature_is_the_standard_one():
    secret = "whsec_" + base64.b64encode(b"simpletuner-sandbox-k001").decode()

    signature = webhooks.sign(secret, "msg_01JZ8S4NDBOX0000000000001", 1767225600, VECTOR)

    assert signature == "v1,9eUXbhbMd59PwVE8wp8+ayScCDbaVY61CUskDaWRyfA="


def test_36_start_and_end_are_told_signed_and_with_the_query(account, dataset, receiver):
    account.rule(step_rate=SLOW)

    done = account.finish(servers.inputs(images=dataset), webhook=receiver.url, webhook_events_filter=["start", "completed"])

    start, end = receiver.next(), receiver.next()
    for delivery in (start, end):
        verify(delivery, secret_of(account))
    assert (start.json["status"], end.json) == ("processing", account.get(done))
    assert start.path == end.path == "/hook?job=7&key=k%20k"
    assert start.headers["webhook-id"] != end.headers["webhook-id"]
    assert receiver.all() == []


def verify(delivery, secret: str) -> None:
    """Check a delivery as receivers do. Raises WebhookVerificationError."""
    standardwebhooks.Webhook(secret).verify(delivery.body, {name.lower(): value for name, value in delivery.headers.items()})


def secret_of(account) -> str:
    return account.http.get("/v1/webhooks/default/secret").json()["key"]


def test_23_webhooks_show_no_secrets_either(account, dataset, receiver):
    given = servers.inputs(images=dataset, hf_token="hf_secret", s3_access_key="AK1", s3_secret_key="SK1")

    account.finish(given, webhook=receiver.url, webhook_events_filter=["start", "completed"])

    for told in (receiver.next(), receiver.next()):
        assert told.json["input"] == {**given, **dict.fromkeys(("hf_token", "s3_access_key", "s3_secret_key"), "[REDACTED]")}


def test_36_without_a_filter_outputs_and_the_end_are_told(account, dataset, receiver):
    account.finish(servers.inputs(images=dataset), webhook=receiver.url)

    told = [receiver.next().json for _ in range(2)]

    assert [each["status"] for each in told] == ["succeeded", "succeeded"]
    assert all(each["output"].startswith("Training complete") for each in told)


def test_36_logs_are_told_at_most_twice_a_second(account, dataset, receiver):
    account.rule(step_rate=0.001)
    # Far longer than the test; of a long run a line of progress comes a little more than half a second after the last.
    given = servers.inputs(images=dataset, max_train_steps=1000)
    running = account.create(given, webhook=receiver.url, webhook_events_filter=["logs"])

    told = [receiver.next() for _ in range(4)]

    account.http.post(f"/v1/predictions/{running['id']}/cancel")
    done = account.wait_until(running, "canceled")
    assert all(later.at - earlier.at >= webhooks.GAP for earlier, later in itertools.pairwise(told))
    assert all(done["logs"].startswith(delivery.json["logs"]) for delivery in told)


def test_38_a_refused_end_is_told_again_signed_anew_and_with_the_same_id(account, receiver):
    receiver.answers = [500, 404]
    account.rule(queue_seconds=100_000)
    waiting = account.create(servers.inputs(), webhook=receiver.url, webhook_events_filter=["completed"])

    done = account.http.post(f"/v1/predictions/{waiting['id']}/cancel").json()

    told = [receiver.next() for _ in range(3)]
    ended = time.monotonic() - (time.time() - datetime.fromisoformat(done["completed_at"]).timestamp())
    assert all(-0.01 <= each.at - ended - planned < 3 for each, planned in zip(told, (0, 1, 3), strict=True))
    assert len({each.headers["webhook-id"] for each in told}) == 1
    assert len({each.headers["webhook-timestamp"] for each in told}) == 3
    assert len({each.headers["webhook-signature"] for each in told}) == 3
    assert len({each.body for each in told}) == 1
    account.wait_until(waiting, "canceled")
    assert [(each["attempt"], each["response_status"]) for each in attempts(account, waiting)][:2] == [(1, 500), (2, 404)]


def test_38_intermediate_webhooks_are_never_told_again(account, dataset, receiver):
    receiver.answers = [500]
    account.rule(step_rate=SLOW)

    done = account.finish(servers.inputs(images=dataset), webhook=receiver.url, webhook_events_filter=["start", "completed"])

    assert [receiver.next().json["status"] for _ in range(2)] == ["processing", "succeeded"]
    assert [each["response_status"] for each in attempts(account, done, "start")] == [500]


def test_36_redirects_are_not_followed(account, receiver):
    receiver.answers = [302]
    account.rule(queue_seconds=100_000)
    waiting = account.create(servers.inputs(), webhook=receiver.url, webhook_events_filter=["completed"])

    account.http.post(f"/v1/predictions/{waiting['id']}/cancel")

    assert [receiver.next().path for _ in range(2)] == ["/hook?job=7&key=k%20k"] * 2


def test_39_webhooks_can_be_dropped(account, open_account, dataset, receiver):
    account.rule(webhooks="drop")
    other = open_account(account.sandbox)

    lost = account.finish(servers.inputs(images=dataset), webhook=receiver.url, webhook_events_filter=ALL)
    other.rule(queue_seconds=100_000)
    heard = other.create(servers.inputs(), webhook=receiver.url, webhook_events_filter=["completed"])
    other.http.post(f"/v1/predictions/{heard['id']}/cancel")

    assert lost["status"] == "succeeded"
    assert receiver.next().json["id"] == heard["id"]
    assert receiver.all() == []
    servers.until(lambda: {each["state"] for each in account.sandbox.evidence(lost)["webhooks"]} == {"dropped"})


def canceled(account, receiver, **rules) -> dict:
    """Cancel a waiting prediction, whose webhook `completed` goes by the rules given."""
    account.rule(queue_seconds=100_000, **rules)
    waiting = account.create(servers.inputs(), webhook=receiver.url, webhook_events_filter=["completed"])
    return account.http.post(f"/v1/predictions/{waiting['id']}/cancel").json()


def test_35_while_a_secret_changes_both_sign(account, receiver):
    old = secret_of(account)
    assert account.sandbox.control("rotate", account=account.name, overlap_seconds=60).status_code == 200
    new = secret_of(account)

    canceled(account, receiver)

    delivery = receiver.next()
    assert old != new
    assert [each[:3] for each in delivery.headers["webhook-signature"].split()] == ["v1,", "v1,"]
    for secret in (old, new):
        verify(delivery, secret)


def test_35_after_the_change_only_the_new_secret_signs(account, receiver):
    old = secret_of(account)
    account.sandbox.control("rotate", account=account.name, overlap_seconds=0)

    canceled(account, receiver)

    delivery = receiver.next()
    verify(delivery, secret_of(account))
    with pytest.raises(standardwebhooks.webhooks.WebhookVerificationError, match="No matching signature"):
        verify(delivery, old)


@pytest.mark.parametrize(
    ("manner", "reason"),
    [("bad_signature", "No matching signature"), ("wrong_secret", "No matching signature"), ("stale", "Message timestamp too old")],
)
def test_39_webhooks_can_be_signed_badly_or_stale(account, receiver, manner, reason):
    canceled(account, receiver, webhooks=manner)

    with pytest.raises(standardwebhooks.webhooks.WebhookVerificationError, match=reason):
        verify(receiver.next(), secret_of(account))


def test_39_webhooks_can_come_twice(account, receiver):
    canceled(account, receiver, webhooks="double")

    first, second = receiver.next(), receiver.next()

    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    verify(second, secret_of(account))


def test_39_webhooks_can_come_in_the_wrong_order(account, dataset, receiver):
    account.rule(webhooks="reorder")

    account.finish(servers.inputs(images=dataset), webhook=receiver.url, webhook_events_filter=["start", "completed"])

    assert [receiver.next().json["status"] for _ in range(2)] == ["succeeded", "processing"]


def test_39_webhooks_can_be_late(account, receiver):
    done = canceled(account, receiver, webhook_delay_seconds=0.5)

    delivery = receiver.next()
    completed_at = datetime.fromisoformat(done["completed_at"]).timestamp()
    assert time.time() - completed_at >= 0.5
    verify(delivery, secret_of(account))


def test_the_start_can_be_told_as_starting(account, dataset, receiver):
    account.rule(start_status="starting")

    account.finish(servers.inputs(images=dataset), webhook=receiver.url, webhook_events_filter=["start"])

    assert receiver.next().json["status"] == "starting"


@pytest.mark.parametrize("is_told", [True, False])
def test_an_aborted_prediction_is_told_unless_the_sandbox_is_told_otherwise(account, receiver, is_told):
    account.rule(queue_seconds=100_000, aborted_completed=is_told)

    account.finish(servers.inputs(), headers={"Cancel-After": "5"}, webhook=receiver.url, webhook_events_filter=["completed"])
    heard = account.create(servers.inputs(), webhook=receiver.url, webhook_events_filter=["completed"])
    account.http.post(f"/v1/predictions/{heard['id']}/cancel")

    told = [receiver.next().json["status"] for _ in range(1 + is_told)]
    assert told == (["aborted", "canceled"] if is_told else ["canceled"])


def test_38_the_last_attempt_is_a_minute_after_the_end():
    assert webhooks.RETRY_AT == (0, 1, 3, 7, 15, 31, 60)
    assert webhooks.RECEIVER_TIMEOUT == 10
