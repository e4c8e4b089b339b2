"""A rehearsal goes the whole way on a second sandbox, while the first is Replicate for this installation."""

import httpx

from tests.config.processes import wait_until


def test_a_rehearsal_goes_the_whole_way_beside_replicate_and_costs_nothing(house):
    house.start_rehearsal_sandbox()
    used = "SELECT sum(held) AS held, sum(settled) AS settled FROM billing_limitperiod"
    before = house.row(used)

    job_id = house.submit(provider="sandbox")

    job = house.wait_for(job_id, "completed")
    house.wait_until_cleaned_up(job_id)
    [prediction] = httpx.get(f"{house.rehearsal_url}/control/predictions", trust_env=False).json()
    made = httpx.get(f"{house.rehearsal_url}/control/predictions/{prediction['id']}", trust_env=False).json()
    listed = house.api.get(f"/api/cloud/jobs/{job_id}/artifacts").json()["artifacts"]
    assert job["metadata"]["prediction_id"] == prediction["id"]
    assert house.predictions(job_id) == []  # nothing of it went to Replicate
    assert {f"{job_id}/{item['name']}": item["sha256"] for item in listed} == {file["key"]: file["sha256"] for file in made["files"]}
    wait_until(lambda: [each["state"] for each in house.deliveries(job_id)] == ["applied", "applied"])
    hold = house.row("SELECT amount, charge, is_rehearsal FROM billing_hold WHERE reference = %s", f"job:{job_id}")
    assert hold["is_rehearsal"]
    assert 0 < hold["charge"] == job["cost_usd_micros"] < hold["amount"]
    assert house.row(used) == before
