"""The official Python client, unmodified, is the judge of the sandbox."""

import io

import pytest
import replicate
from replicate.webhook import InvalidSignatureError, Webhooks, WebhookSigningSecret

from . import servers


@pytest.fixture
def client(account):
    client = replicate.Client(api_token=account.token, base_url=account.sandbox.url)
    yield client
    client._client.close()


def test_03_it_reads_the_account_and_the_hardware(client, account):
    assert client.accounts.current().username == account.name
    assert "gpu-l40s" in [each.sku for each in client.hardware.list()]


def test_it_reads_models_and_versions(client):
    model = client.models.get("simpletuner/advanced-trainer-h100")

    listed = model.versions.list()

    assert model.latest_version.id == listed[0].id
    assert model.versions.get(listed[1].id).cog_version == "0.18.0"


def test_07_it_uploads_lists_and_deletes_files(client):
    made = client.files.create(io.BytesIO(b"twelve bytes"), filename="d.zip", content_type="application/zip", metadata={"a": 1})

    assert (made.name, made.size, made.metadata) == ("d.zip", 12, {"a": 1})
    assert client.files.get(made.id) == made
    assert client.files.list() == [made]
    client.files.delete(made.id)
    with pytest.raises(replicate.exceptions.ReplicateError):
        client.files.get(made.id)


def test_it_trains_from_upload_to_webhook(client, account, receiver):
    made = client.files.create(io.BytesIO(servers.archive("a_cat.jpg")), filename="d.zip")
    version = client.models.get("simpletuner/advanced-trainer").latest_version

    prediction = client.predictions.create(
        version=version.id,
        input=servers.inputs(images=made.urls["get"]),
        webhook=receiver.url,
        webhook_events_filter=["completed"],
    )
    prediction.wait()

    assert prediction.status == "succeeded"
    assert client.predictions.get(prediction.id).logs.endswith(f"{prediction.output}\n")
    delivery = receiver.next()
    secret = client.webhooks.default.secret()
    Webhooks.validate(headers=delivery.headers, body=delivery.body.decode(), secret=secret, tolerance=300)
    with pytest.raises(InvalidSignatureError):
        Webhooks.validate(headers=delivery.headers, body=delivery.body.decode(), secret=WebhookSigningSecret(key="whsec_AAAA"))


def test_27_it_cancels_and_pages_through_the_list(client, account):
    account.rule(queue_seconds=100_000)
    version = client.models.get("simpletuner/advanced-trainer").latest_version
    made = [client.predictions.create(version=version.id, input=servers.inputs()) for _ in range(101)]

    made[0].cancel()
    first = client.predictions.list()
    second = client.predictions.list(first.next)

    assert client.predictions.get(made[0].id).status == "canceled"
    assert (len(first.results), len(second.results), second.next) == (100, 1, None)
    assert second.results[0].id == made[0].id


def test_it_reads_a_refusal(client):
    with pytest.raises(replicate.exceptions.ReplicateError) as refusal:
        client.predictions.create(version="0" * 64, input={})

    assert (refusal.value.status, refusal.value.title) == (422, "Invalid version or not permitted")


def test_it_reads_sparse_answers(client, account):
    account.rule(keys="sparse", queue_seconds=100_000)
    version = client.models.get("simpletuner/advanced-trainer").latest_version

    created = client.predictions.create(version=version.id, input=servers.inputs())

    assert (created.status, created.output, created.metrics) == ("starting", None, None)
    assert client.predictions.get(created.id).id == client.predictions.list().results[0].id == created.id


def test_28_an_aborted_prediction_breaks_it(client, account):
    account.rule(queue_seconds=100_000)
    aborted = account.finish(servers.inputs(), headers={"Cancel-After": "5"})

    with pytest.raises(ValueError, match="status"):
        client.predictions.get(aborted["id"])
