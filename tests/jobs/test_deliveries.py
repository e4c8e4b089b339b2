"""Results that went elsewhere, looked at: what is there, whether it is whole, and what happens when nobody can look."""

import hashlib
import json
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from accounts.models import AuditLine, Credential
from accounts.roles import Role
from jobs.models import Artifact, Job, ProviderSettings, ResultDelivery
from jobs.services import dataflow, deliveries, provider_settings, results, tidying
from jobs.states import State
from tests.factories import CredentialFactory, MembershipFactory, make_token
from tests.jobs import elsewhere
from tests.jobs.elsewhere import WEIGHTS, checked, ended_in
from tests.jobs.factories import JobFactory
from tests.jobs.ready import caller_of, post
from tests.jobs.sandbox.servers import archive, free_port, inputs, serving_s3

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(bucket):
    return ended_in(bucket)


def trained(account, **destination):
    """A run that published its result."""
    images = account.upload(archive("a_red_cat.jpg", "a_red_cat.txt"))["urls"]["get"]
    prediction = account.finish(inputs(images=images, **destination))
    assert prediction["status"] == "succeeded", prediction["error"]
    return prediction


def sha256(content):
    return hashlib.sha256(content).hexdigest()


# --- A bucket ---------------------------------------------------------------------------------------------------


def test_what_the_trainer_uploaded_is_what_the_receipt_says(bucket, account):
    job = ended_in(bucket)
    prediction = trained(account, **bucket.destination(job.job_id))
    written = {file["key"]: (file["size"], file["sha256"]) for file in account.sandbox.evidence(prediction)["files"]}

    delivery = checked(job)

    assert (delivery.state, delivery.error, delivery.delivered_at is not None) == ("delivered", "", True)
    listed = {f"{job.job_id}/{item['key']}": (item["size_bytes"], item["sha256"]) for item in delivery.listing}
    assert listed == written
    size, digest = written[f"{job.job_id}/{WEIGHTS}"]
    assert delivery.receipt["weights"] == [{"key": WEIGHTS, "sha256": digest, "size_bytes": size}]
    assert (delivery.receipt["files"], delivery.receipt["size_bytes"]) == (len(written), sum(size for size, _ in written.values()))
    assert delivery.receipt["url"] == f"{bucket.url}/results/{job.job_id}/"
    assert delivery.listing[0]["url"] == f"{bucket.url}/results/{job.job_id}/{WEIGHTS}"
    assert bucket.secret_key not in json.dumps(delivery.receipt)


def test_a_bucket_without_weights_says_so(bucket, job):
    empty = checked(job)
    deliveries.begin(ResultDelivery.objects.get(), now=timezone.now())
    bucket.put(f"{job.job_id}/README.md", b"a card")

    without = checked(job)

    assert (empty.state, empty.error) == ("failed", "Nothing is there.")
    assert (without.state, without.error, without.receipt["files"]) == ("failed", "No weights are there.", 1)


def test_weights_that_are_cut_off_are_no_delivery(bucket, job):
    whole = elsewhere.safetensors(5000)
    bucket.put(f"{job.job_id}/{WEIGHTS}", whole[:3000])

    delivery = checked(job)

    assert (delivery.state, delivery.error) == (
        "failed", f"{WEIGHTS} is not whole: it has 3000 bytes, and its header says {len(whole)}.",
    )  # fmt: skip


def test_the_last_file_is_waited_for_a_moment(bucket, job):
    Job.objects.update(ended_at=timezone.now())

    early = checked(Job.objects.get())
    bucket.put(f"{job.job_id}/{WEIGHTS}", elsewhere.safetensors())

    assert (early.state, early.error) == ("delivering", "Nothing is there.")
    assert checked(job).state == "delivered"


def test_a_bucket_that_is_gone_is_a_failure_in_words(bucket):
    job = ended_in(bucket, place={"name": "gone"})

    assert (checked(job).state, checked(job).error) == ("failed", "There is no bucket gone there.")


def test_keys_that_are_refused_are_a_failure_and_the_credentials_health(bucket):
    job = ended_in(bucket, secret="another-word")

    delivery = checked(job)

    job.s3_credential.refresh_from_db()
    says = "The bucket refuses the key (403): the secret does not belong to the access key."
    assert (delivery.state, delivery.error) == ("failed", says)
    assert (job.s3_credential.health, job.s3_credential.health_reason) == ("refused", says)


def test_a_key_that_may_only_write_leaves_the_trainers_word(bucket):
    with elsewhere.answering(elsewhere.refusal("AccessDenied")) as service:
        job = ended_in(bucket, place={"endpoint_url": service.url})
        delivery = checked(job)

    assert (delivery.state, delivery.delivered_at) == ("reported", None)
    assert delivery.error == "The bucket refuses the key (403). It may not list or read there, so nobody has looked."
    assert delivery.receipt["said_by_trainer"] == "s3://results/x"


def test_a_service_that_is_away_is_asked_again_until_it_is_back(bucket, tmp_path):
    port = free_port()
    with serving_s3(tmp_path, port) as service:
        job = ended_in(service)
        service.put(f"{job.job_id}/{WEIGHTS}", elsewhere.safetensors())
    now = timezone.now()

    first, second = checked(job), checked(job)
    due = [deliveries.due(now=now + pause) for pause in (timedelta(0), deliveries.FIRST_PAUSE * 3)]
    with serving_s3(tmp_path, port):
        last = checked(job)

    assert (first.state, first.error) == ("delivering", "The bucket's address cannot be reached, or the connection broke off.")
    assert second.try_after - first.try_after > deliveries.FIRST_PAUSE * 0.9
    assert due == [[], [second]]
    assert (last.state, last.error, last.attempts) == ("delivered", "", 3)


def test_after_six_hours_nobody_asks_any_more(job, no_provider):
    ResultDelivery.objects.update(error="The bucket's address does not answer in time.")

    with time_machine.travel(timezone.now() + deliveries.KEEPS_TRYING):
        delivery = checked(job)

    assert (delivery.state, delivery.error) == (
        "reported", "Nobody could look for six hours. The bucket's address does not answer in time.",
    )  # fmt: skip


def test_what_takes_longer_than_one_task_goes_on_where_it_was(bucket, job, monkeypatch):
    monkeypatch.setattr(deliveries, "SLICE_SECONDS", -1)
    read = []
    monkeypatch.setattr(deliveries, "digest", lambda shelf, file: read.append(file.key) or "0" * 64)
    for key in (WEIGHTS, "a.txt", "b.txt"):
        bucket.put(f"{job.job_id}/{key}", elsewhere.safetensors())

    states = [(delivery.state, delivery.error) for delivery in (checked(job), checked(job), checked(job))]

    assert states == [("delivering", ""), ("delivering", ""), ("delivered", "")]
    assert read == [WEIGHTS, "a.txt", "b.txt"]


def test_looking_holds_nothing_up(job, at_provider):
    ResultDelivery.objects.update(state="waiting", receipt={})

    results.archive(Job.objects.get(pk=job.pk))

    assert Job.objects.get(pk=job.pk).cleaned_up_at is not None
    assert [delivery.job for delivery in deliveries.due(now=timezone.now())] == [job]


def test_a_look_that_ends_in_no_word_is_made_again_after_a_pause(job, monkeypatch):
    monkeypatch.setattr(deliveries, "_examine", lambda *given: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        checked(job)

    now = timezone.now()
    assert deliveries.due(now=now) == []
    assert [delivery.job for delivery in deliveries.due(now=now + deliveries.FIRST_PAUSE)] == [job]


def test_only_one_worker_looks_at_a_time(bucket, job):
    ResultDelivery.objects.update(leased_until=timezone.now() + timedelta(minutes=1))

    assert (checked(job).attempts, deliveries.due(now=timezone.now())) == (0, [])


def test_the_secret_of_a_removed_pair_stays_while_it_is_looked_for(bucket, job):
    Credential.objects.filter(kind="s3").update(removed_at=timezone.now())
    Job.objects.update(cleaned_up_at=timezone.now())
    bucket.put(f"{job.job_id}/{WEIGHTS}", elsewhere.safetensors())

    tidying.tidy()
    found = checked(Job.objects.get())
    tidying.tidy()
    again = deliveries.ask_again(Job.objects.get(), caller=caller_of(MembershipFactory(team=job.team)))

    assert (found.state, Credential.objects.get(kind="s3").secret, len(again)) == ("delivered", "", 1)
    assert (checked(Job.objects.get()).state, checked(job).error) == ("failed", "The keys of the bucket are not there any more.")


# --- The bucket of a job, for life ------------------------------------------------------------------------------


@pytest.fixture
def owner(ready):
    return caller_of(MembershipFactory(team=ready.team))


def save_bucket(caller, bucket, **other):
    return provider_settings.save(caller, {"s3_delivery": elsewhere.place(bucket, **other)})


def test_a_job_keeps_the_bucket_that_it_was_admitted_with(ready, owner, bucket):
    save_bucket(owner, bucket, path_prefix="old", secret_access_key=bucket.secret_key)
    before = ready.submit(destination="s3")
    save_bucket(owner, bucket, name="other", path_prefix="new")
    after = ready.submit(destination="s3")

    targets = [dataflow._target(Job.objects.get(pk=job.pk)) for job in (before, after)]

    assert [(target.bucket, target.base_path) for target in targets] == [
        ("results", f"old/{before.job_id}"), ("other", f"new/{after.job_id}"),
    ]  # fmt: skip
    assert [target.secret_key for target in targets] == [bucket.secret_key] * 2


def test_a_bucket_that_was_removed_is_still_the_jobs(ready, owner, bucket):
    save_bucket(owner, bucket, secret_access_key=bucket.secret_key)
    job = ready.submit(destination="s3")

    provider_settings.save(owner, {"s3_delivery": {}})

    assert dataflow._target(Job.objects.get(pk=job.pk)).bucket == "results"
    assert (ProviderSettings.objects.get().s3_delivery, Credential.objects.in_use().filter(kind="s3").count()) == ({}, 0)


# --- The Hub ----------------------------------------------------------------------------------------------------


def pushed(hub, account, *, name="lora"):
    """A job that completed and pushed to the Hub as the trainer does; and the trainer's own files."""
    ago = timezone.now() - timedelta(minutes=1)
    job = JobFactory(state=State.COMPLETED, destination="hub", hub_model_id=name, ended_at=ago, archived_at=ago)
    job.hub_credential = CredentialFactory(team=job.team, kind="huggingface", secret=hub.token)
    job.save(update_fields=["hub_credential"])
    prediction = trained(account, hub_model_id=name, hf_token=hub.token) if account else None
    deliveries.begin(ResultDelivery.objects.create(job=job, destination="hub", target=name), now=timezone.now())
    return job, {file["key"]: file for file in account.sandbox.evidence(prediction)["files"]} if prediction else {}


def test_what_the_trainer_pushed_is_what_the_receipt_says(hub, account):
    job, written = pushed(hub, account)

    delivery = checked(job)

    assert (delivery.state, delivery.error) == ("delivered", "")
    seen = {item["key"]: item["sha256"] for item in delivery.listing if item["key"] != ".gitattributes"}
    assert seen == {key: file["sha256"] for key, file in written.items()}
    assert [item["sha256"] for item in delivery.receipt["weights"]] == [written[WEIGHTS]["sha256"]]
    assert delivery.receipt["url"] == f"{hub.url}/{hub.name}/lora"
    assert delivery.listing[0]["url"] == f"{hub.url}/{hub.name}/lora/resolve/{delivery.receipt['revision']}/{WEIGHTS}"
    job.hub_credential.refresh_from_db()
    assert job.hub_credential.health == "good"


def test_a_second_look_is_at_the_same_commit_though_another_job_pushed_to_the_repository_meanwhile(hub, account):
    job, _ = pushed(hub, account)
    first = checked(job)
    trained(account, hub_model_id="lora", hf_token=hub.token, max_train_steps=21)
    deliveries.ask_again(Job.objects.get(), caller=caller_of(MembershipFactory(team=job.team)))

    again = checked(job)

    assert (again.state, again.receipt["revision"]) == ("delivered", first.receipt["revision"])
    assert again.receipt["weights"] == first.receipt["weights"]


def test_a_commit_that_was_rewritten_away_leaves_the_newest(hub, account):
    job, _ = pushed(hub, account)
    kept = checked(job)
    seen = kept.receipt["revision"]
    ResultDelivery.objects.update(receipt={**kept.receipt, "revision": "0" * 40})
    deliveries.ask_again(Job.objects.get(), caller=caller_of(MembershipFactory(team=job.team)))

    assert (checked(job).state, checked(job).receipt["revision"]) == ("delivered", seen)


def test_a_repository_that_is_not_there_or_not_ours_to_see_is_missing(hub):
    job, _ = pushed(hub, None, name="somebody/nothing")

    assert (checked(job).state, checked(job).error) == (
        "failed", "The Hub has no repository somebody/nothing, or the token may not see it (404).",
    )  # fmt: skip


def test_a_token_that_the_hub_refuses_is_a_failure_and_the_credentials_health(hub):
    job, _ = pushed(hub, None)
    Credential.objects.filter(pk=job.hub_credential_id).update(secret="hf_revoked")

    delivery = checked(job)

    job.hub_credential.refresh_from_db()
    assert (delivery.state, delivery.error) == ("failed", "The Hub does not accept the token (401).")
    assert job.hub_credential.health == "refused"


def test_a_hub_that_is_away_is_asked_again(hub, settings):
    job, _ = pushed(hub, None)
    settings.HF_ENDPOINT = f"http://127.0.0.1:{free_port()}"

    assert (checked(job).state, checked(job).error) == ("delivering", "The Hub cannot be reached, or the connection broke off.")


# --- By API -----------------------------------------------------------------------------------------------------


def key_of(team, role=Role.RESEARCHER):
    return make_token(MembershipFactory(team=team, role=role))[1]


def again(job, key):
    return post(f"/api/cloud/jobs/{job.job_id}/deliveries/check", key=key)


def test_a_person_can_ask_for_another_look(bucket, job, django_capture_on_commit_callbacks):
    assert checked(job).state == "failed"
    bucket.put(f"{job.job_id}/{WEIGHTS}", elsewhere.safetensors())

    answer = again(job, key_of(job.team)).json()

    assert (answer["success"], answer["deliveries"][0]["state"], answer["deliveries"][0]["error"]) == (True, "delivering", None)
    assert checked(job).state == "delivered"
    assert AuditLine.objects.get(event_type="delivery.asked").target_id == job.job_id


def test_who_may_not_ask_and_where_there_is_nothing_to_look_at(job):
    local = JobFactory(team=job.team, state=State.COMPLETED)
    failed = JobFactory(team=job.team, state=State.FAILED, destination="s3")
    for each in (local, failed):
        ResultDelivery.objects.create(job=each, destination=each.destination, state="failed", error="The run did not complete.")
    key = key_of(job.team)

    assert [again(each, key).status_code for each in (local, failed)] == [409, 409]
    assert again(local, key).json()["code"] == "nothing_to_check"
    assert again(job, key_of(job.team, Role.VIEWER)).status_code == 403
    assert again(job, make_token()[1]).status_code == 404
    job.team.shows_details = False
    job.team.save()
    assert again(job, key).status_code == 403


def test_files_elsewhere_stand_among_the_artifacts_with_their_address_and_no_secret(bucket, job, client):
    content = elsewhere.safetensors()
    bucket.put(f"{job.job_id}/{WEIGHTS}", content)
    checked(job)

    answer = client.get(f"/api/cloud/jobs/{job.job_id}/artifacts", headers={"X-API-Key": key_of(job.team)})

    assert answer.json()["artifacts"] == [
        {
            "source": "s3", "name": WEIGHTS, "kind": "weights", "size_bytes": len(content), "sha256": sha256(content),
            "content_type": None, "stored_at": None, "url": f"{bucket.url}/results/{job.job_id}/{WEIGHTS}",
        }
    ]  # fmt: skip
    assert [(delivery["destination"], delivery["state"]) for delivery in answer.json()["deliveries"]] == [("s3", "delivered")]
    assert bucket.secret_key not in answer.content.decode()
    assert Artifact.objects.count() == 0
