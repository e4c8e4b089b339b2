"""Those who speak JSON: upload tokens, API tokens and members in the portal."""

from datetime import timedelta

import pytest
from django.core.files.storage import InMemoryStorage, storages
from django.test import Client
from django.utils import timezone

from accounts.roles import Role, Scope
from jobs.models import Artifact
from jobs.models.results import KeyPurpose
from jobs.storage import keys
from tests.factories import MembershipFactory, make_token
from tests.jobs.factories import JobFactory

ROOT = "/api/cloud/storage"
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def outputs(settings, tmp_path):
    """Artifacts go to a folder of the test's own."""
    settings.STORAGES = settings.STORAGES | {
        "artifacts": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path / "outputs"}}
    }
    return tmp_path / "outputs"


@pytest.fixture
def job(db):
    return JobFactory()


@pytest.fixture
def pair(job):
    return keys.issue(job=job, purpose=KeyPurpose.RESULTS, expires_at=timezone.now() + timedelta(hours=1))


@pytest.fixture
def client():
    return Client(enforce_csrf_checks=True)


@pytest.fixture
def put(client, pair, job):
    """Upload by the job's token."""

    def call(name, data=b"data", *, token=pair.secret, header="X-Upload-Token", **headers):
        return client.put(f"{ROOT}/outputs/{name}", data, content_type="text/plain", headers={header: token, **headers})

    return call


@pytest.fixture
def api(client):
    """Call with an API token of a new member of a team."""

    def call(team, path="", *, role=Role.VIEWER, user=None, method="get", **headers):
        membership = MembershipFactory(team=team, role=role, **({"user": user} if user else {}))
        _, token = make_token(membership, scopes=Scope.values)
        return getattr(client, method)(f"{ROOT}{path}", headers={"Authorization": f"Bearer {token}", **headers})

    return call


@pytest.mark.parametrize("header", ["X-Upload-Token", "X-SimpleTuner-Secret"])
def test_an_upload_token_stores_and_reads_and_deletes(put, client, pair, job, outputs, header):
    answer = put(f"{job.job_id}/logs/a b.txt", b"hello", header=header)

    artifact = Artifact.objects.get()
    assert answer.json() == {"ETag": "5d41402abc4b2a76b9719d911017c592", "Key": f"{job.job_id}/logs/a b.txt", "Bucket": "outputs"}
    assert answer["ETag"] == '"5d41402abc4b2a76b9719d911017c592"'
    assert (outputs / artifact.stored_as).read_bytes() == b"hello"
    got = client.get(f"{ROOT}/outputs/{job.job_id}/logs/a b.txt", headers={header: pair.secret})
    assert b"".join(got.streaming_content) == b"hello"
    listed = client.get(f"{ROOT}/outputs?prefix={job.job_id}/", headers={header: pair.secret}).json()
    assert [item["Key"] for item in listed["Contents"]] == [f"{job.job_id}/logs/a b.txt"]
    gone = client.delete(f"{ROOT}/outputs/{job.job_id}/logs/a b.txt", headers={header: pair.secret})
    assert (gone.status_code, gone.json()) == (200, {"success": True})
    assert not Artifact.objects.exists()


def test_an_upload_token_opens_its_own_job_only(put, job, pair):
    other = JobFactory(team=job.team)

    def refused(answer):
        return answer.status_code, answer.json()["code"]

    assert refused(put(f"{job.job_id}/x", token="wrong")) == (401, "invalid_token")
    assert refused(put(f"{other.job_id}/x")) == (401, "invalid_token")
    assert refused(put("nowhere/x")) == (401, "invalid_token")
    assert refused(put(f"{job.job_id}/../x")) == (400, "invalid_input")
    keys.revoke(job, now=timezone.now())
    assert refused(put(f"{job.job_id}/x")) == (401, "invalid_token")
    assert not Artifact.objects.exists()


def test_a_token_caller_is_told_of_a_wrong_digest(put, job, outputs):
    answer = put(f"{job.job_id}/x", b"data", **{"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})

    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "The MD5 checksum that was sent does not match the 4 bytes that came in.",
    )
    assert [path for path in outputs.rglob("*") if path.is_file()] == []


def test_nobody_is_sent_to_sign_in(client, job):
    for method in ("get", "put", "post", "delete"):
        for path in ("", "/", "/outputs", "/outputs/", f"/outputs/{job.job_id}/x"):
            answer = getattr(client, method)(f"{ROOT}{path}")

            assert (answer.status_code, answer.json()["code"], answer["WWW-Authenticate"]) == (401, "authentication_required", "Bearer")


def test_members_list_and_download_what_their_team_has(put, api, job):
    put(f"{job.job_id}/a.txt", b"0123456789")
    put(f"{job.job_id}/b/c.txt", b"123")
    stranger = JobFactory()

    buckets = api(job.team).json()
    listed = api(job.team, f"/outputs?prefix={job.job_id}/&delimiter=/").json()
    got = api(job.team, f"/outputs/{job.job_id}/a.txt", Range="bytes=2-4")

    assert (buckets["total_size"], [(item["Name"], item["Size"], item["FileCount"]) for item in buckets["Buckets"]]) == (
        13,
        [("outputs", 13, 2)],
    )
    assert [(item["Key"], item["Size"], type(item["LastModified"])) for item in listed["Contents"]] == [(f"{job.job_id}/a.txt", 10, float)]
    assert (listed["Name"], listed["CommonPrefixes"]) == ("outputs", [{"Prefix": f"{job.job_id}/b/"}])
    assert (got.status_code, b"".join(got.streaming_content), got["Content-Type"]) == (206, b"234", "text/plain")
    assert got["Content-Disposition"] == 'attachment; filename="a.txt"'
    assert api(job.team, "/nowhere").json()["Contents"] == []
    assert api(stranger.team).json() == {"Buckets": [], "total_size": 0}
    assert api(stranger.team, "/outputs").json()["Contents"] == []
    assert api(stranger.team, f"/outputs/{job.job_id}/a.txt").status_code == 404


def test_a_list_goes_on_where_the_page_before_ended(put, api, job):
    for name in "abc":
        put(f"{job.job_id}/{name}")

    first = api(job.team, "/outputs?max-keys=2").json()
    second = api(job.team, f"/outputs?max-keys=2&continuation-token={first['NextContinuationToken']}").json()

    assert [item["Key"][-1] for item in first["Contents"] + second["Contents"]] == ["a", "b", "c"]
    assert (first["IsTruncated"], second["IsTruncated"]) == (True, False)
    assert api(job.team, "/outputs?continuation-token=%F0").status_code == 400
    assert api(job.team, "/outputs?max-keys=many").status_code == 400
    assert api(job.team, "/outputs?prefix=%00").status_code == 400


def test_members_write_nothing(put, api, job):
    put(f"{job.job_id}/a.txt")

    answer = api(job.team, f"/outputs/{job.job_id}/a.txt", role=Role.OWNER, method="delete")

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert Artifact.objects.count() == 1


def test_a_team_that_keeps_work_apart_shows_files_to_their_owner_and_to_leads(put, api, job):
    put(f"{job.job_id}/a.txt")
    job.team.shows_details = False
    job.team.save()
    path = f"/outputs/{job.job_id}/a.txt"

    assert api(job.team, path).status_code == 404
    for answer in (api(job.team, path, role=Role.LEAD), api(job.team, path, user=job.submitted_by)):
        assert b"".join(answer.streaming_content) == b"data"


def test_results_of_a_deleted_job_are_not_shown(put, api, job):
    put(f"{job.job_id}/a.txt")
    job.deleted_at = timezone.now()
    job.save()

    assert api(job.team, f"/outputs/{job.job_id}/a.txt").status_code == 404
    assert api(job.team).json()["Buckets"] == []


def test_a_file_that_is_missing_from_disk_is_not_found(put, api, job, outputs):
    put(f"{job.job_id}/a.txt")
    (outputs / Artifact.objects.get().stored_as).unlink()

    assert api(job.team, f"/outputs/{job.job_id}/a.txt").status_code == 404


def test_the_number_of_queries_does_not_grow_with_the_list(put, job, client, django_assert_num_queries):
    _, token = make_token(MembershipFactory(team=job.team), scopes=Scope.values)
    headers = {"Authorization": f"Bearer {token}"}
    put(f"{job.job_id}/a")
    client.get(f"{ROOT}/outputs", headers=headers)

    with django_assert_num_queries(2):
        client.get(f"{ROOT}/outputs", headers=headers)
    for name in "bc":
        put(f"{job.job_id}/{name}")
    with django_assert_num_queries(2):
        client.get(f"{ROOT}/outputs", headers=headers)


def test_artifacts_may_be_kept_in_another_storage_than_a_folder(settings, put, client, pair, job, django_capture_on_commit_callbacks):
    settings.STORAGES = settings.STORAGES | {"artifacts": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}
    assert isinstance(storages["artifacts"], InMemoryStorage)
    put(f"{job.job_id}/x", b"first")
    before = Artifact.objects.get().stored_as

    with django_capture_on_commit_callbacks(execute=True):
        put(f"{job.job_id}/x", b"second")

    after = Artifact.objects.get().stored_as
    assert storages["artifacts"].open(after).read() == b"second"
    assert (after == before, storages["artifacts"].exists(before)) == (False, False)
    client.delete(f"{ROOT}/outputs/{job.job_id}/x", headers={"X-Upload-Token": pair.secret})
    assert not storages["artifacts"].exists(after)
