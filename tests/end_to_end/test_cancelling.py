"""Cancelling a job before and after it was sent."""

from tests.config.processes import wait_until


def test_a_running_job_is_cancelled_at_the_providers_end_and_charged_for_what_ran(house):
    job_id = house.submit_slow()
    house.wait_for(job_id, "running")

    answer = house.api.post(f"/api/cloud/jobs/{job_id}/cancel")

    assert answer.status_code == 200
    assert answer.json()["status"] == "running"
    assert house.job(job_id)["cancel_requested_at"]
    house.wait_for(job_id, "cancelled")
    house.wait_until_cleaned_up(job_id)
    [prediction] = house.predictions(job_id)
    assert prediction["status"] == "canceled"
    assert prediction["metrics"]["predict_time"] > 0
    house.assert_money(job_id, prediction)
    assert house.uploads(job_id) == []


def test_a_job_that_was_not_sent_is_cancelled_at_once_and_for_free(house):
    house.stop_sandbox()
    job_id = house.submit()
    wait_until(lambda: house.job(job_id)["waiting_reason"] == "provider_down")

    answer = house.api.post(f"/api/cloud/jobs/{job_id}/cancel")

    assert answer.json()["status"] == "cancelled"
    house.assert_money(job_id, None)
    house.start_sandbox()
    house.wait_until_cleaned_up(job_id)
    assert house.predictions(job_id) == []
