"""How often the storage may be asked: readers and strangers by the team's setting, a job's own key as fast as a trainer can."""

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import AuditLine, PaceCount
from jobs.models import Artifact, ProviderSettings, StorageKey
from jobs.models.results import KeyPurpose
from jobs.storage import keys
from jobs.storage import pace as storage_pace
from tests.factories import MembershipFactory, make_token
from tests.jobs.factories import JobFactory

from .signing import signed

ROOT = "/api/cloud/storage"
ADDRESS = "203.0.113.9"
pytestmark = pytest.mark.django_db


class Here:
    """The test client as `signed` sees a server."""

    url = "http://testserver"


@pytest.fixture(autouse=True)
def pace_is_on(settings, time_machine, tmp_path):
    settings.RATE_LIMIT_CALLS = 1
    settings.STORAGES = settings.STORAGES | {
        "artifacts": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path / "outputs"}}
    }
    time_machine.move_to(datetime(2027, 3, 1, 12, 0, tzinfo=UTC), tick=False)


@pytest.fixture
def job(db):
    job = JobFactory()
    ProviderSettings.objects.create(team=job.team, s3_rate_limit_max=3)
    return job


@pytest.fixture
def pair(job):
    return keys.issue(job=job, purpose=KeyPurpose.RESULTS, expires_at=timezone.now() + timedelta(hours=1))


def ask(path="", *, method="get", data=b"", address=ADDRESS, headers=None):
    more = {"data": data, "content_type": "text/plain"} if method == "put" else {}
    return getattr(Client(), method)(f"{ROOT}{path}", **more, headers=headers or {}, REMOTE_ADDR=address, HTTP_HOST="testserver")


def statuses(times, path="", **options):
    return [ask(path, **options).status_code for _ in range(times)]


def listing(pair, method="GET", **changes):
    """The headers of a signed request for the bucket."""
    return signed(Here, pair, method, "/outputs") | changes


def word_in(answer):
    return ElementTree.fromstring(answer.content).findtext("Code")  # noqa: S314 - our own


# --- Readers ----------------------------------------------------------------------------------------------


def test_members_and_tokens_read_at_the_teams_pace(job):
    membership = MembershipFactory(team=job.team)
    _, token = make_token(membership, expires_in=None)
    browser = Client()
    browser.force_login(membership.user)

    by_token = statuses(4, headers={"Authorization": f"Bearer {token}"})
    by_cookie = [browser.get(ROOT, REMOTE_ADDR=ADDRESS).status_code for _ in range(4)]
    refused = ask(headers={"Authorization": f"Bearer {token}"})

    assert by_token == by_cookie == [200, 200, 200, 429]
    assert refused.json()["code"] == "rate_limit_exceeded"
    assert int(refused["Retry-After"]) > 0
    assert [refused["X-RateLimit-Limit"], refused["X-RateLimit-Remaining"]] == ["3", "0"]
    lines = AuditLine.objects.filter(event_type="security.rate_limited").order_by("pk")
    assert [(line.team, line.actor, line.token_prefix) for line in lines] == [
        (job.team, membership.user.username, token[:11]),
        (job.team, membership.user.username, ""),
    ]


def test_a_team_without_settings_has_the_default_pace():
    membership = MembershipFactory()
    _, token = make_token(membership, expires_in=None)

    assert statuses(52, headers={"Authorization": f"Bearer {token}"}) == [200] * 50 + [429] * 2


# --- Strangers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"Authorization": "Bearer wrong"}, 401), ({"X-Upload-Token": "wrong"}, 401), ({"X-API-Key": "wrong"}, 401)],
)
def test_strangers_count_by_their_address_with_the_default(headers, status):
    path = "/outputs/j-0123456789/a" if "X-Upload-Token" in headers else ""

    assert statuses(52, path, headers=headers) == [status] * 50 + [429] * 2
    assert statuses(1, path, headers=headers, address="203.0.113.10") == [status]


def test_unknown_keys_are_told_to_slow_down_in_the_words_of_s3(pair):
    unknown = StorageKey(access_key="TH" + "A" * 18, secret="x" * 40)

    answers = statuses(50, "/outputs", headers=listing(unknown))
    refused = ask("/outputs", headers=listing(unknown))

    assert answers == [401] * 50
    assert (refused.status_code, refused["Content-Type"], word_in(refused)) == (503, "application/xml", "SlowDown")
    assert int(refused["Retry-After"]) > 0
    assert refused["X-RateLimit-Remaining"] == "0"


def test_a_wrong_signature_counts_at_the_pace_of_the_keys_team_and_stops_the_right_one_not(pair):
    forged = StorageKey(access_key=pair.access_key, secret="x" * 40)

    answers = statuses(5, "/outputs", headers=listing(forged))

    assert answers == [403, 403, 403, 503, 503]
    assert statuses(5, "/outputs", headers=listing(pair)) == [200] * 5
    line = AuditLine.objects.get(event_type="security.rate_limited")
    assert (line.team, line.address, line.target_id) == (pair.job.team, ADDRESS, "storage")


def test_a_key_that_has_ended_is_a_stranger(pair):
    StorageKey.objects.update(revoked_at=timezone.now())

    assert statuses(5, "/outputs", headers=listing(pair)) == [401, 401, 401, 503, 503]


def test_a_refused_head_has_no_document(pair):
    forged = StorageKey(access_key=pair.access_key, secret="x" * 40)
    statuses(3, "/outputs", headers=listing(forged))

    refused = ask("/outputs", method="head", headers=listing(forged, "HEAD"))

    assert (refused.status_code, refused.content) == (503, b"")


# --- A job's own key --------------------------------------------------------------------------------------


def test_a_jobs_own_key_and_token_have_a_thousand_times_the_pace(job, pair):
    by_key = ask("/outputs", headers=listing(pair))
    by_token = ask(f"/outputs/{job.job_id}/a", method="put", data=b"a", headers={"X-Upload-Token": pair.secret})

    assert [by_key["X-RateLimit-Limit"], by_token["X-RateLimit-Limit"]] == ["3000", "3000"]
    assert [by_key["X-RateLimit-Remaining"], by_token["X-RateLimit-Remaining"]] == ["2999", "2998"]


def test_what_has_gone_mad_is_told_to_slow_down(monkeypatch, job, pair):
    monkeypatch.setattr(storage_pace, "OWN_KEY_FACTOR", 1)
    path = f"/outputs/{job.job_id}/a"

    by_token = statuses(4, path, method="put", data=b"a", headers={"X-Upload-Token": pair.secret})
    by_key = ask("/outputs", headers=listing(pair))

    assert by_token == [200, 200, 200, 429]
    assert (by_key.status_code, word_in(by_key)) == (503, "SlowDown")
    assert Artifact.objects.count() == 1


def test_counting_costs_a_signed_request_one_query(settings, pair, django_assert_num_queries):
    settings.RATE_LIMIT_CALLS = 0
    with django_assert_num_queries(2):  # the key, the list
        ask("/outputs", headers=listing(pair))
    assert not PaceCount.objects.exists()
    settings.RATE_LIMIT_CALLS = 1

    with django_assert_num_queries(3):
        ask("/outputs", headers=listing(pair))
