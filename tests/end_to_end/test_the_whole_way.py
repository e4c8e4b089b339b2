"""From submit by API to the delivered result, platform, workers and sandbox being processes of their own."""

import pytest

from tests.config.processes import wait_until


def test_a_job_goes_all_the_way_with_webhooks(house):
    # It waits until we have read the answer that it is queued, and its start is told before its end.
    house.rule(boot_seconds=3 * house.speed)

    job_id = house.submit_slow(tracker_run_name="with webhooks")

    prediction = house.assert_came_home(job_id)
    assert [move["state"] for move in house.moves(job_id)] == ["pending", "uploading", "queued", "running", "completed"]
    assert house.moves(job_id)[-1]["cause"] == "webhook"
    assert [(delivery["says"], delivery["state"]) for delivery in house.deliveries(job_id)] == [
        ("processing", "applied"),
        ("succeeded", "applied"),
    ]
    sent = house.evidence(prediction["id"])["webhooks"]
    assert [(webhook["webhook_id"], webhook["response_status"]) for webhook in sent] == [
        (delivery["webhook_id"], 200) for delivery in house.deliveries(job_id)
    ]


def test_polling_brings_a_job_home_when_every_webhook_is_lost(house):
    house.rule(webhooks="drop")

    job_id = house.submit()

    prediction = house.assert_came_home(job_id)
    assert house.deliveries(job_id) == []
    assert [webhook["state"] for webhook in house.evidence(prediction["id"])["webhooks"]] == ["dropped", "dropped"]
    assert house.moves(job_id)[-1]["cause"] == "poll"


@pytest.fixture
def trainer_that_cannot_unpack(house):
    house.change("UPDATE jobs_trainerversion SET unpacks_archives = false")
    yield
    house.change("UPDATE jobs_trainerversion SET unpacks_archives = true")


@pytest.mark.usefixtures("trainer_that_cannot_unpack")
def test_a_trainer_that_cannot_unpack_reads_the_dataset_from_our_storage_with_its_captions(house):
    job_id = house.submit()

    prediction = house.assert_came_home(job_id)
    assert house.job(job_id)["metadata"]["data_path"] == "storage"
    assert "(id=dataset) 12 images, 12 with captions" in prediction["logs"]
    assert not house.rows("SELECT 1 FROM jobs_providerupload u JOIN jobs_job j ON j.id = u.job_id WHERE j.job_id = %s", job_id)
    keys = house.rows("SELECT k.revoked_at FROM jobs_storagekey k JOIN jobs_job j ON j.id = k.job_id WHERE j.job_id = %s", job_id)
    assert len(keys) == 2
    assert all(key["revoked_at"] for key in keys)


def test_a_job_that_is_submitted_while_the_provider_is_down_says_why_it_waits_and_goes_on_when_it_is_back(house):
    house.stop_sandbox()

    job_id = house.submit()
    wait_until(lambda: house.job(job_id)["waiting_reason"] == "provider_down")
    state = house.job(job_id)["status"]
    house.start_sandbox()

    assert state == "uploading"
    house.assert_came_home(job_id)
    assert house.job(job_id)["waiting_reason"] is None
