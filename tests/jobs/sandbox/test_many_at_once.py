"""Two hundred predictions at once, at six hundred times the speed, each with its webhooks."""

import collections
import itertools
import json
import time

import pytest
import standardwebhooks

from . import servers

MANY = 200
GAP = 0.5  # wall seconds between two `logs` or `output` webhooks of a prediction


@pytest.fixture
def sandbox(tmp_path):
    sandbox = servers.Sandbox(tmp_path, speed=600)
    yield sandbox
    sandbox.stop()


def test_36_two_hundred_at_once_end_and_tell_so_in_time_and_signed(sandbox, open_account, receiver):
    account = open_account(sandbox)
    images = account.upload(servers.archive("a_cat.jpg", "a_dog.jpg"))["urls"]["get"]
    # 600 simulated seconds of training take one of the wall's: long enough to tell of its log more than once.
    account.rule(step_rate=0.1)
    given = servers.inputs(images=images, max_train_steps=60, config_json=json.dumps({"--lora_rank": 1}))
    version = account.version()["id"]
    began = time.monotonic()

    body = {"version": version, "input": given, "webhook": receiver.url, "webhook_events_filter": ["start", "output", "logs", "completed"]}
    ids = [account.http.post("/v1/predictions", json=body).json()["id"] for _ in range(MANY)]
    told = collections.defaultdict(list)
    still = 2 * MANY  # an `output` and a `completed` each
    while still:
        delivery = receiver.next()
        told[delivery.json["id"]].append(delivery)
        still -= delivery.json["status"] == "succeeded"
    took = time.monotonic() - began

    assert set(told) == set(ids)
    signed = standardwebhooks.Webhook(account.http.get("/v1/webhooks/default/secret").json()["key"])
    for delivery in itertools.chain(*told.values()):
        signed.verify(delivery.body, {name.lower(): value for name, value in delivery.headers.items()})
    event_of = {each["webhook_id"]: each["event"] for id_ in ids for each in sandbox.evidence({"id": id_})["webhooks"]}
    for deliveries in told.values():
        events = [event_of[each.headers["webhook-id"]] for each in deliveries]
        throttled = sorted(each.at for each, event in zip(deliveries, events, strict=True) if event in ("logs", "output"))
        assert (events.count("start"), events.count("output"), events.count("completed")) == (1, 1, 1)
        assert all(later - earlier >= GAP for earlier, later in itertools.pairwise(throttled))
    with open(f"/proc/{sandbox.process.pid}/status") as status:
        memory = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024
    print(f"{MANY} predictions, {sum(map(len, told.values()))} webhooks: {took:.1f} s, {memory} MiB")
    assert memory < 300
