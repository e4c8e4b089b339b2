"""Results, and Settings, Results: what came of the team's jobs and where it lies, and where results are to go."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditLine, Credential
from accounts.roles import Role
from jobs.models import ProviderSettings, ResultDelivery
from jobs.states import State
from tests.factories import CredentialFactory, MembershipFactory
from tests.jobs import elsewhere
from tests.jobs.elsewhere import WEIGHTS, checked, ended_in
from tests.jobs.factories import ArtifactFactory, JobFactory
from tests.pages import INLINE
from tests.signing_in import sign_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(client):
    owner = MembershipFactory()
    sign_in(client, owner.user)
    return owner


@pytest.fixture
def team(owner):
    return owner.team


def address(name, team, *args):
    return reverse(f"jobs:{name}", args=[team.slug, *args])


def page(client, name, team, *args):
    response = client.get(address(name, team, *args))
    assert response.status_code == 200
    return response.content.decode()


def finished(team, *, state=State.COMPLETED, delivery="delivered", minutes=1, **fields):
    """A job that ended with a result in our storage."""
    now = timezone.now()
    job = JobFactory(team=team, state=state, ended_at=now - timedelta(minutes=minutes), cleaned_up_at=now, **fields)
    ResultDelivery.objects.create(job=job, destination="local", state=delivery, delivered_at=now if delivery == "delivered" else None)
    return job


def seen_at_the_hub(team, **fields):
    """A job whose result was seen at the Hub."""
    now = timezone.now()
    job = JobFactory(team=team, state=State.COMPLETED, destination="hub", ended_at=now, cleaned_up_at=now, **fields)
    listing = [
        {"key": WEIGHTS, "kind": "weights", "size_bytes": 4, "sha256": "a" * 64, "tag": "t"},
        {"key": "samples/1 a.png", "kind": "sample", "size_bytes": 9, "sha256": "b" * 64, "tag": "t"},
    ]
    receipt = {"files": 2, "url": "https://hub.example/acme/lora", "files_url": "https://hub.example/acme/lora/resolve/c/"}
    ResultDelivery.objects.create(
        job=job, destination="hub", state="delivered", delivered_at=now, asked_at=now, receipt={**receipt, "listing": listing}
    )
    return job


# --- Results ----------------------------------------------------------------------------------------------------


def test_a_team_without_results_is_told_what_will_stand_here(client, team):
    JobFactory(team=team)

    assert "No results yet" in page(client, "results", team)


@pytest.mark.parametrize("rows", [1, 3])
def test_the_page_asks_as_often_for_three_results_as_for_one(client, team, rows, django_assert_num_queries):
    for _ in range(rows):
        ArtifactFactory(job=finished(team))
        seen_at_the_hub(team)

    with django_assert_num_queries(10):
        page(client, "results", team)


def test_results_stand_newest_first_with_their_files_wherever_they_lie(client, team):
    old, new = finished(team, minutes=9), seen_at_the_hub(team)
    artifact = ArtifactFactory(job=old, key="lora.safetensors")
    failed = finished(team, state=State.FAILED, delivery="failed")
    running, foreign, deleted = JobFactory(team=team), seen_at_the_hub(MembershipFactory().team), finished(team, deleted_at=timezone.now())

    shown = page(client, "results", team)

    assert [job.job_id in shown for job in (old, new, failed, running, foreign, deleted)] == [True, True, False, False, False, False]
    assert shown.index(new.job_id) < shown.index(old.job_id)
    assert [text in shown for text in (artifact.sha256, address("download", team, old.job_id, artifact.pk))] == [True, True]
    assert [text in shown for text in ("a" * 64, f"https://hub.example/acme/lora/resolve/c/{WEIGHTS}", "samples/1%20a.png")] == [True] * 3


def test_what_a_run_that_failed_left_here_is_a_result_too(client, team):
    failed = finished(team, state=State.FAILED, delivery="failed")
    ArtifactFactory(job=failed, key="checkpoint-4/w.safetensors", kind="checkpoint")

    assert "checkpoint-4/w.safetensors" in page(client, "results", team)


def test_files_of_others_are_hidden_where_the_team_wants_it_so(client, team):
    team.shows_details = False
    team.save()
    job = seen_at_the_hub(team)
    member = MembershipFactory(team=team, role=Role.RESEARCHER)
    sign_in(client, member.user)

    theirs = page(client, "results", team)
    job.submitted_by = member.user
    job.save()
    own = page(client, "results", team)

    assert [(job.job_id in shown, "a" * 64 in shown, "hub.example" in shown) for shown in (theirs, own)] == [
        (True, False, False), (True, True, True),
    ]  # fmt: skip


def test_many_results_come_in_pages_and_many_files_are_cut(client, team):
    for number in range(21):
        finished(team, minutes=number)
    job = finished(team, minutes=0)
    for number in range(60):
        ArtifactFactory(job=job, key=f"{number}.png", kind="sample")

    first = page(client, "results", team)
    second = client.get(address("results", team), {"page": 2}).content.decode()

    assert ["Page 1 of 2" in first, "Page 2 of 2" in second, "10 more are not shown here" in first] == [True, True, True]


def test_everybody_in_the_team_sees_the_page_and_nobody_else(client, team):
    sign_in(client, MembershipFactory(team=team, role=Role.VIEWER).user)
    assert client.get(address("results", team)).status_code == 200
    sign_in(client, MembershipFactory().user)
    assert client.get(address("results", team)).status_code == 404


# --- The page of the job ----------------------------------------------------------------------------------------


def test_the_page_of_the_job_shows_what_was_seen_elsewhere_and_looks_again(client, team, bucket):
    job = ended_in(bucket, team=team)
    failed = checked(job)
    before = page(client, "detail", team, job.job_id)
    content = elsewhere.safetensors()
    bucket.put(f"{job.job_id}/{WEIGHTS}", content)

    asked = client.post(address("check_delivery", team, job.job_id), follow=True).content.decode()
    delivered = checked(job)
    after = page(client, "detail", team, job.job_id)

    assert [failed.error in before, "Check again" in before] == [True, True]
    assert ["The result is looked at again." in asked, "We look at what lies there." in asked, "Check again" in asked] == [
        True,
        True,
        False,
    ]
    assert [delivered.listing[0]["sha256"] in after, f"{bucket.url}/results/{job.job_id}/{WEIGHTS}" in after] == [True, True]


def test_the_parts_of_the_page_are_the_same_as_long_as_nothing_happens(client, team, bucket):
    job = ended_in(bucket, team=team)
    checked(job)

    first, second = (client.get(address("detail", team, job.job_id)).context["seen"] for _ in range(2))

    assert first == second


def test_who_may_not_submit_may_not_ask_and_a_local_result_needs_no_look(client, team):
    job = finished(team)
    answer = client.post(address("check_delivery", team, job.job_id), follow=True).content.decode()
    sign_in(client, MembershipFactory(team=team, role=Role.VIEWER).user)

    assert "No result of this job lies in a bucket or at the Hub." in answer
    assert client.post(address("check_delivery", team, job.job_id)).status_code == 403
    sign_in(client, MembershipFactory().user)
    assert client.post(address("check_delivery", team, job.job_id)).status_code == 404


# --- Settings, Results ------------------------------------------------------------------------------------------


def form(service, **other):
    kept = elsewhere.place(service, secret_access_key=service.secret_key)
    kept.pop("public_read")
    return {**kept, "use_path_style": "on", **other}


def test_a_bucket_is_saved_tried_and_its_secret_never_shown(client, team, bucket):
    shown = client.post(address("bucket_save", team), form(bucket, path_prefix="lora"), follow=True).content.decode()
    again = page(client, "bucket_save", team)

    own = ProviderSettings.objects.get(team=team)
    assert own.s3_delivery == elsewhere.place(bucket, path_prefix="lora")
    assert Credential.objects.get(kind="s3").reveal() == f"{bucket.access_key}:{bucket.secret_key}"
    assert "A small object was written, read back, listed and deleted there" in shown
    assert [bucket.secret_key in text for text in (shown, again, str(list(AuditLine.objects.values())))] == [False] * 3


def test_the_saved_secret_stays_where_none_is_given(client, team, bucket):
    client.post(address("bucket_save", team), form(bucket))

    client.post(address("bucket_save", team), form(bucket, path_prefix="new", secret_access_key=""))

    now = Credential.objects.in_use().get(kind="s3")
    assert (now.reveal().partition(":")[2], now.details["path_prefix"]) == (bucket.secret_key, "new")


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"bucket": "a b"}, "bucket", "must be the name of a bucket"),
        ({"endpoint_url": "nonsense"}, "endpoint_url", "is not an http or https address"),
        ({"secret_access_key": ""}, "secret_access_key", "This field is required."),
        ({"secret_access_key": "two words"}, "secret_access_key", "has a blank or a line break in it"),
        ({"path_prefix": "../up"}, "path_prefix", "must be a path inside the bucket"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field_and_nothing_is_saved(client, team, bucket, change, field, says):
    response = client.post(address("bucket_save", team), form(bucket, **change))

    assert says in str(response.context["form"].errors[field])
    assert "s3_delivery" not in response.content.decode()
    assert (Credential.objects.count(), bucket.secret_key in response.content.decode()) == (0, False)


def test_a_bucket_that_refuses_is_saved_and_says_why_not(client, team, bucket):
    shown = client.post(address("bucket_save", team), form(bucket, secret_access_key="wrong"), follow=True).content.decode()
    tested = client.post(address("bucket_test", team), follow=True).content.decode()

    for text in (shown, tested):
        assert "Results cannot go to the bucket as it stands: The bucket refuses the key (403)" in text


def test_a_bucket_is_removed_after_a_question(client, team, bucket):
    client.post(address("bucket_save", team), form(bucket))

    asked = page(client, "bucket_remove", team)
    client.post(address("bucket_remove", team))

    assert "jobs that were submitted before still deliver to it" in asked
    assert (ProviderSettings.objects.get(team=team).s3_delivery, Credential.objects.in_use().count()) == ({}, 0)


def test_a_test_without_a_bucket_says_that_there_is_none(client, team):
    assert "No bucket is saved" in client.post(address("bucket_test", team), follow=True).content.decode()


def test_who_signed_in_long_ago_confirms_before_keys_are_saved(client, team, owner, bucket):
    sign_in(client, owner.user, seconds_ago=3600)

    response = client.post(address("bucket_save", team), form(bucket))

    assert response["Location"].startswith(reverse("account_reauthenticate"))
    assert (Credential.objects.count(), bucket.secret_key in str(dict(client.session))) == (0, False)


def test_this_servers_own_storage_is_switched_and_addressed(client, team, settings):
    settings.PUBLIC_URL = "https://tunehouse.example"
    at_first = page(client, "results_settings", team)

    client.post(address("results_settings", team), {"s3_endpoint_enabled": "on", "s3_public_url": "https://uploads.example"})
    addressed = page(client, "results_settings", team)
    client.post(address("results_settings", team), {"s3_public_url": ""})

    assert ["https://tunehouse.example/api/cloud/storage" in at_first, "https://uploads.example/api/cloud/storage" in addressed] == [
        True,
        True,
    ]
    assert "switched off" in page(client, "results_settings", team)
    refused = client.post(address("results_settings", team), {"s3_endpoint_enabled": "on", "s3_public_url": "nonsense"})
    assert list(refused.context["form"].errors) == ["s3_public_url"]


def test_the_hubs_token_is_told_with_whose_it_is(client, team, hub):
    without = client.post(address("hub_validate", team), {"results": "1"}, follow=True).content.decode()
    CredentialFactory(team=team, kind="huggingface", secret=hub.token)

    shown = client.post(address("hub_validate", team), {"results": "1"}, follow=True).content.decode()

    assert "No Hugging Face token is saved for this team" in without
    assert f"The Hub accepts the token. It belongs to {hub.name}." in shown
    assert [shown.count(hub.name) > 1, hub.token in shown] == [True, False]


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.RESEARCHER, 403), (Role.LEAD, 403), (Role.OWNER, 200)])
def test_only_owners_see_where_results_go(client, team, role, status):
    sign_in(client, MembershipFactory(team=team, role=role).user)

    assert [client.get(address(name, team)).status_code for name in ("results_settings", "bucket_save", "bucket_remove")] == [status] * 3
    posted = [client.post(address(name, team)).status_code for name in ("bucket_test", "hub_validate")]
    assert posted == ([302] * 2 if status == 200 else [status] * 2)


def test_the_pages_carry_no_scripts_or_styles_of_their_own(client, team, bucket):
    ArtifactFactory(job=finished(team))
    job = seen_at_the_hub(team)
    client.post(address("bucket_save", team), form(bucket))

    pages = [page(client, name, team) for name in ("results", "results_settings", "bucket_save", "bucket_remove")]
    assert [INLINE.findall(text) for text in [*pages, page(client, "detail", team, job.job_id)]] == [[]] * 5
