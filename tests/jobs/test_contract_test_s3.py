"""Testing a bucket by API: a small object written, read, listed and deleted, or the reason why not."""

import json

import pytest

from accounts.roles import Role
from jobs.services import provider_settings
from tests.factories import MembershipFactory, make_token
from tests.jobs import elsewhere
from tests.jobs.ready import caller_of
from tests.jobs.sandbox.servers import free_port

PATH = "/api/cloud/providers/replicate/test-s3"


@pytest.fixture
def ask(owner, client):
    _, own = make_token(owner)
    return lambda body=None, key=own, path=PATH: client.post(
        path, json.dumps(body or {}), content_type="application/json", headers={"X-API-Key": key}
    )


def full(bucket, **other):
    return elsewhere.place(bucket, **{"secret_access_key": bucket.secret_key, **other})


def test_a_good_bucket_is_written_read_listed_and_left_clean(ask, bucket):
    answer = ask(full(bucket, path_prefix="tested/here"))

    assert (answer.status_code, answer.json()) == (200, {"success": True, "error": None, "message": None})
    assert [path for path in bucket.folder.rglob("tested/**/*") if path.is_file()] == []


def test_what_is_not_sent_is_as_it_is_saved(ask, owner, bucket):
    provider_settings.save(caller_of(owner), {"s3_delivery": full(bucket)})

    saved, elsewhere_in_it, other = ask(), ask({"bucket": "gone"}), ask({"access_key_id": "AKOTHER"})

    assert saved.json()["success"] is True
    assert elsewhere_in_it.json() == {"success": False, "error": "There is no bucket gone there.", "message": None}
    assert (other.status_code, other.json()["field"]) == (400, "secret_access_key")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "gone"}, "There is no bucket gone there."),
        ({"secret_access_key": "wrong"}, "The bucket refuses the key (403): the secret does not belong to the access key."),
        ({"access_key_id": "AKOTHER"}, "The bucket refuses the key (403): its service does not know the access key."),
    ],
)
def test_what_is_wrong_is_said_plainly(ask, bucket, change, says):
    assert ask({**full(bucket, **change)}).json() == {"success": False, "error": says, "message": None}


def test_no_write_right_another_region_nobody_there_and_silence_are_told_apart(ask, bucket, silent, owner):
    provider_settings.save(caller_of(owner), {"http_timeout": 0.3})
    found = []
    for said in (elsewhere.refusal("AccessDenied"), elsewhere.refusal("AuthorizationHeaderMalformed", 400)):
        with elsewhere.answering(said) as service:
            found.append(ask(full(bucket, endpoint_url=service.url)).json()["error"])
    for address in (f"http://127.0.0.1:{free_port()}", silent):
        found.append(ask(full(bucket, endpoint_url=address)).json()["error"])

    assert found == [
        "The bucket refuses the key (403). It may not write there.",
        "The bucket results lies in another region than us-east-1, or at another address.",
        "The bucket's address cannot be reached, or the connection broke off.",
        "The bucket's address does not answer in time.",
    ]


def test_a_key_that_may_only_write_says_what_that_means(ask, bucket):
    with elsewhere.answering((200, "", {}), elsewhere.refusal("AccessDenied")) as service:
        answer = ask(full(bucket, endpoint_url=service.url)).json()

    assert answer == {
        "success": False,
        "error": "The key may write, but not read: results arrive, and nobody here can check them.",
        "message": "The key may not delete: the test's small object stays in the bucket.",
    }


@pytest.mark.parametrize("address", ["http://s3.example.com", "https://127.0.0.1:9000", "https://169.254.169.254", "ftp://s3.example.com"])
def test_addresses_in_private_networks_are_not_called(ask, bucket, settings, address):
    settings.ALLOW_PRIVATE_HOSTS = False

    answer = ask(full(bucket, endpoint_url=address))

    assert (answer.status_code, answer.json()["field"]) == (400, "endpoint_url")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "bucket"), ({"bucket": "x"}, "bucket"), ({"bukket": "results"}, "bukket"), ({"bucket": 7}, "bucket"),
        ({"bucket": "results"}, "access_key_id"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_at_its_field(ask, body, field):
    answer = ask(body)

    assert (answer.status_code, answer.json()["field"]) == (400, field)


def test_only_who_manages_may_test_and_only_the_provider_that_there_is(ask, owner, client):
    _, lead = make_token(MembershipFactory(team=owner.team, role=Role.LEAD))

    assert [ask(key=lead).status_code, ask(path=f"{PATH}/").status_code, client.post(PATH).status_code] == [403, 400, 401]
    assert ask(path=PATH.replace("replicate", "other")).status_code == 404
