"""Results that go to somebody else's storage, all the way: pushed by the trainer, looked at by us, told with their hashes."""

import os

import pytest

from tests.config.processes import free_port, wait_until
from tests.jobs.sandbox.servers import serving_s3

WEIGHTS = "pytorch_lora_weights.safetensors"


@pytest.fixture
def s3(house, tmp_path):
    """An S3 service of the first team's own, saved as its bucket, and removed again behind the test."""
    with serving_s3(tmp_path, free_port()) as service, house.owner() as owner:
        place = {"bucket": "results", "endpoint_url": service.url, "access_key_id": service.access_key, "use_path_style": True}
        saved = {"s3_delivery": {**place, "secret_access_key": service.secret_key, "path_prefix": "lora"}}
        assert owner.put("/api/cloud/providers/replicate", json=saved).status_code == 200
        assert owner.post("/api/cloud/providers/replicate/test-s3").json() == {"success": True, "error": None, "message": None}
        yield service
        assert owner.put("/api/cloud/providers/replicate", json={"s3_delivery": {}}).status_code == 200


def written(house, job_id):
    """The trainer's own files, by the name that they have below the job's folder."""
    [prediction] = house.predictions(job_id)
    files = house.evidence(prediction["id"])["files"]
    return {file["key"].partition(f"{job_id}/")[2] or file["key"]: (file["size"], file["sha256"]) for file in files}


def seen(delivery):
    return {item["name"]: (item["size_bytes"], item["sha256"]) for item in delivery["artifacts"]}


def test_a_result_in_the_teams_bucket_is_the_trainers_own(house, s3):
    job_id = house.submit(destination="s3")

    house.wait_for(job_id, "completed")
    delivery = house.wait_for_delivery(job_id, "delivered")

    assert seen(delivery) == written(house, job_id)
    assert [(item["key"], item["sha256"]) for item in delivery["receipt"]["weights"]] == [(WEIGHTS, written(house, job_id)[WEIGHTS][1])]
    assert delivery["receipt"]["url"] == f"{s3.url}/results/lora/{job_id}/"
    assert (s3.folder / "lora" / job_id / WEIGHTS).stat().st_size == written(house, job_id)[WEIGHTS][0]
    house.wait_until_cleaned_up(job_id)
    house.assert_money(job_id, house.provider.get(f"/v1/predictions/{house.predictions(job_id)[0]['id']}").json())


def test_a_result_at_the_hub_is_the_trainers_own(house):
    name = f"lora-{os.getpid()}"
    job_id = house.submit(hub_model_id=name)

    house.wait_for(job_id, "completed")
    delivery = house.wait_for_delivery(job_id, "delivered")

    files = seen(delivery)
    files.pop(".gitattributes", None)  # the Hub's own
    assert files == written(house, job_id)
    assert delivery["receipt"]["url"] == f"http://127.0.0.1:{house.hub_port}/{house.account}/{name}"
    # The check that it brought says whose token it was, once somebody asks.
    assert house.api.get("/api/cloud/publishing/status").json()["hf_token_valid"] is True


def test_a_bucket_that_is_away_is_looked_at_when_it_is_back(house, tmp_path):
    port = free_port()
    with house.owner() as owner, serving_s3(tmp_path, port) as service:
        place = {"bucket": "results", "endpoint_url": service.url, "access_key_id": service.access_key, "use_path_style": True}
        saved = {"s3_delivery": {**place, "secret_access_key": service.secret_key}}
        assert owner.put("/api/cloud/providers/replicate", json=saved).status_code == 200
        job_id = house.submit(destination="s3")
        house.wait_for(job_id, "completed")
        first = house.wait_for_delivery(job_id, "delivered")
    assert house.api.post(f"/api/cloud/jobs/{job_id}/deliveries/check").status_code == 200

    wait_until(lambda: house.wait_for_delivery(job_id, "delivering")["error"])
    house.wait_until_cleaned_up(job_id)
    with serving_s3(tmp_path, port), house.owner() as owner:
        again = house.wait_for_delivery(job_id, "delivered")
        assert owner.put("/api/cloud/providers/replicate", json={"s3_delivery": {}}).status_code == 200

    assert seen(again) == seen(first) == written(house, job_id)
    assert again["attempts"] > 1
