"""Quotas of storage: an upload beyond them is refused in a sentence, a result never is."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from accounts.models import AuditLine
from accounts.roles import Role
from jobs.models import Dataset, DatasetVersion, JobQuota, ResultDelivery
from jobs.models.quotas import QuotaAction, QuotaKind, QuotaScope
from jobs.services import datasets, quota_standings, results
from jobs.services.storage_quotas import StorageQuotaReached
from jobs.states import State
from tests.factories import make_token
from tests.jobs.factories import ArtifactFactory, JobFactory, make_member
from tests.jobs.ready import DATASET, files
from tests.jobs.sandbox.servers import picture

LARGE, OTHER = picture(width=500), picture(width=400)


def kept(ready):
    return quota_standings.stored_bytes("team", ready.team, None)


def quota(ready, limit, action=QuotaAction.BLOCK, scope=QuotaScope.TEAM, **more):
    return JobQuota.objects.create(
        **{"team": ready.team, "kind": QuotaKind.STORAGE_BYTES, "limit_value": limit, "action": action, "scope": scope, **more}
    )


def upload(ready, name="new", contents=LARGE, path="/api/cloud/datasets"):
    form = {"name": name, "files": [SimpleUploadedFile("a.jpg", contents)]}
    return Client(headers={"Authorization": f"Bearer {ready.key}"}).post(path, form)


def lines():
    return list(AuditLine.objects.filter(event_type="quota.exceeded").values_list("action", flat=True))


@pytest.mark.parametrize("path", ["/api/cloud/datasets", f"/api/cloud/datasets/{DATASET}/versions"])
def test_an_upload_beyond_the_quota_is_refused_with_size_and_limit(ready, path):
    before = kept(ready)
    quota(ready, before + 100)

    answer = upload(ready, path=path)

    said = answer.json()
    assert (answer.status_code, said["code"], said["field"]) == (413, "quota_exceeded", "files")
    size = quota_standings.size
    # In a new version the large picture comes beside the old one, which its own version still has.
    assert said["detail"] == (
        f"Quota exceeded: Maximum {size(before + 100)} of storage allowed for the team; {size(before)} are kept, "
        f"and this upload would make it {size(before + len(LARGE))}."
    )
    assert "Upload fewer or smaller images" in said["hint"]
    assert (DatasetVersion.objects.count(), kept(ready)) == (1, before)
    assert lines() == [f"Refused an upload: {said['detail']}"]


def test_an_upload_that_just_fits_is_taken_and_warned_of(ready):
    quota(ready, kept(ready) + len(LARGE))

    answer = upload(ready)

    assert answer.status_code == 201
    [warning] = answer.json()["quota_warnings"]
    assert warning.startswith("Quota exceeded: Maximum ")
    assert upload(ready, name="another").status_code == 413


def test_where_nothing_may_be_added_the_bytes_are_not_looked_at(ready):
    quota(ready, 1)

    def opened():
        raise AssertionError("The upload was looked at.")

    with pytest.raises(StorageQuotaReached):
        datasets.create(ready.caller, name="new", files=[datasets.Incoming(name="a.jpg", open=opened)])


def test_what_is_kept_already_is_added_to_another_dataset_for_nothing(ready):
    upload(ready)
    quota(ready, kept(ready) + 10)

    answer = upload(ready, name="same pictures")

    assert answer.status_code == 201


@pytest.mark.parametrize(("action", "warns", "tells"), [(QuotaAction.WARN, True, False), (QuotaAction.NOTIFY, False, True)])
def test_other_actions_let_the_upload_in(ready, action, warns, tells):
    quota(ready, 1, action)

    answer = upload(ready)

    assert (answer.status_code, bool(answer.json()["quota_warnings"]), bool(lines())) == (201, warns, tells)


def test_a_quota_of_one_person_counts_what_they_added_and_their_jobs_brought(ready):
    other = make_member(ready.team)
    datasets.create(ready.caller, name="mine", files=files({"a.jpg": OTHER}))
    ArtifactFactory(job=JobFactory(team=ready.team, submitted_by=ready.member.user), size_bytes=10)
    ArtifactFactory(job=JobFactory(team=ready.team, submitted_by=other.user), size_bytes=10_000_000)
    mine = quota_standings.stored_bytes("person", ready.team, ready.member.user)
    quota(ready, mine + 100, scope=QuotaScope.PERSON, user=ready.member.user)
    quota(ready, 11_000_000, scope=QuotaScope.ROLE, role=Role.RESEARCHER)

    refused, taken = upload(ready), None
    ready.key = make_token(other)[1]
    taken = upload(ready)

    assert mine < 100_000
    assert (refused.status_code, taken.status_code) == (413, 201)


def test_the_platforms_total_counts_all_teams(ready):
    ArtifactFactory(size_bytes=5000)
    quota(ready, kept(ready) + 5000 + 10, scope=QuotaScope.PLATFORM, team=None)

    assert upload(ready).status_code == 413


def test_the_pages_show_the_refusal_at_the_files_and_the_warning_after_it(ready, client):
    client.force_login(ready.member.user)
    row = quota(ready, kept(ready) + 100)
    page = reverse("jobs:dataset_new", args=[ready.team.slug])

    def send(name):
        return client.post(page, {"name": name, "files": [SimpleUploadedFile("a.jpg", LARGE)]}, follow=True)

    refused = send("first")
    JobQuota.objects.filter(pk=row.pk).update(limit_value=kept(ready) + len(LARGE) + 10)
    taken = send("second")

    [sentence] = refused.context["form"].errors["files"]
    assert "Quota exceeded: Maximum" in sentence
    assert "Approaching quota: " in taken.content.decode()
    assert Dataset.objects.filter(team=ready.team).count() == 2


def test_a_result_is_kept_beyond_every_quota_and_the_owners_are_told(ready):
    quota(ready, 100)
    job = ready.submit()
    job.move_to(State.UPLOADING, cause="test")
    job.move_to(State.COMPLETED, cause="test")
    ArtifactFactory(job=job, size_bytes=5000)

    results.archive(job)

    assert ResultDelivery.objects.get(job=job).state == "delivered"
    [line] = lines()
    assert line.startswith(f"Kept the result of {job.job_id} beyond a quota: Maximum 100 bytes of storage allowed for the team; ")
