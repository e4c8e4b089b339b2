"""The platform is down from the moment its jobs finish until shortly before the provider forgets them: all of it is here afterwards."""

import hashlib
import time
from contextlib import contextmanager
from datetime import datetime

import httpx
import pytest

from tests.config.processes import free_port, wait_until
from tests.end_to_end.house import House
from tests.jobs.sandbox.servers import serving_s3
from tests.thoroughness import FULL

# Replicate forgets after an hour, of which we are down for fifty minutes: here for so many seconds, and the same part of its memory.
DOWN = 100 if FULL else 30
MEMORY = 60 / 50
JOBS = 20 if FULL else 8
# A start takes some seconds, in which nobody is served either; on a busy machine more, and the provider remembers longer then.
START = 8
NEVER = "100000"


@pytest.fixture
def alone(tmp_path):
    """An installation of its own, which neither hears nor asks how its jobs are."""
    house = House(tmp_path, speed=30)
    house.environment |= {"TUNEHOUSE_POLL_SECONDS": NEVER, "TUNEHOUSE_POLL_SECONDS_SILENT": NEVER}
    try:
        house.start()
        house.change("UPDATE jobs_queuesettings SET max_concurrent = 99, team_max_concurrent = 99, user_max_concurrent = 99")
        yield house
        house.stop()
    finally:
        house.kill()


@contextmanager
def saved_bucket(house, folder):
    with serving_s3(folder, free_port()) as service, house.owner() as owner:
        place = {"bucket": "results", "endpoint_url": service.url, "access_key_id": service.access_key, "use_path_style": True}
        saved = {"s3_delivery": {**place, "secret_access_key": service.secret_key}}
        assert owner.put("/api/cloud/providers/replicate", json=saved).status_code == 200
        yield


def tell(house, **rules):
    httpx.post(f"{house.sandbox_url}/control/settings", json=rules, trust_env=False).raise_for_status()


def submit_all(house):
    """Most keep their result here; some take it to the Hub and to the bucket. The last one is the one to be lost."""
    elsewhere = [{"hub_model_id": "rescued"}, {"destination": "s3"}]
    asked = [{}] * (JOBS - len(elsewhere)) + elsewhere + [{}]
    return [house.submit(max_seconds=7000, **more) for more in asked]


def state_of(house, job_id):
    return house.row("SELECT prediction_id, state, archived_at, provider_forgot_at, rescued_at FROM jobs_job WHERE job_id = %s", job_id)


def all_were_asked_about(house):
    """New jobs are asked about once, ten of them singly; an answer that came while they run would bring a part of the log."""
    open_questions = "SELECT 1 FROM jobs_jobprogress WHERE polled_at IS NULL OR asked_at > coalesce(told_at, '-infinity')"
    asked = "SELECT 1 FROM jobs_jobprogress WHERE asked_at IS NOT NULL"
    return not house.rows(open_questions) and len(house.rows(asked)) >= min(JOBS, 10)


def at_provider(house, prediction_id):
    return house.provider.get(f"/v1/predictions/{prediction_id}").raise_for_status().json()


def test_everything_is_rescued_after_five_sixths_of_the_providers_memory_and_what_is_lost_is_said(alone, tmp_path):
    house = alone
    # They wait for a machine until all are there, and then run side by side.
    house.rule(webhooks="drop", queue_seconds=0, boot_seconds=100_000)
    with saved_bucket(house, tmp_path):
        jobs = submit_all(house)
        wait_until(lambda: all(state_of(house, job)["prediction_id"] for job in jobs))
        runs = {job: state_of(house, job)["prediction_id"] for job in jobs}
        wait_until(lambda: all_were_asked_about(house))
        for run in runs.values():
            tell(house, prediction=run, boot_seconds=0)
        wait_until(lambda: all(at_provider(house, run)["status"] == "succeeded" for run in runs.values()))

        finished = time.monotonic()
        house.ask_platform_to_stop()
        assert house.wait_for_platform_to_stop() == 0
        logs = {job: at_provider(house, run)["logs"] for job, run in runs.items()}
        tell(house, purge_seconds=3600)
        *rescued, lost = jobs
        httpx.post(f"{house.sandbox_url}/control/predictions/{runs[lost]}/purge", json={}, trust_env=False).raise_for_status()

        house.environment |= {"TUNEHOUSE_POLL_SECONDS": "1", "TUNEHOUSE_POLL_SECONDS_SILENT": "1"}
        time.sleep(max(0.0, finished + DOWN - START - time.monotonic()))
        house.start_platform()
        down = time.monotonic() - finished
        # Its memory counts from each end, and we from the last of them.
        memory = down * MEMORY + time_between_ends(house, runs.values())
        tell(house, purge_seconds=memory)
        wait_until(lambda: all(state_of(house, job)["archived_at"] for job in rescued))
        took = time.monotonic() - finished
        wait_until(lambda: all(at_provider(house, run)["data_removed"] for run in runs.values()), seconds=memory + 60)
        for job in jobs:
            house.wait_until_cleaned_up(job)
        deliveries = {job: house.wait_for_delivery(job, "delivered") for job in jobs}

    # Not even the runs are known any more: the token is another account's.
    token = house.provider.headers["Authorization"].removeprefix("Bearer ")
    httpx.post(f"{house.sandbox_url}/control/tokens", json={"token": token, "account": "vacant"}, trust_env=False).raise_for_status()
    assert {house.provider.get(f"/v1/predictions/{run}").status_code for run in runs.values()} == {404}
    print(f"\n{JOBS} jobs; down for {down:.1f} s of {down * MEMORY:.1f} s; all archived {took:.1f} s after their end")
    with signed_in_owner(house) as browser:
        for job in rescued:
            assert_is_whole(house, job, logs[job], deliveries[job], house.evidence(runs[job])["files"])
            page = browser.get(f"/t/atelier/jobs/{job}/").raise_for_status().text
            assert logs[job].splitlines()[-1] in page
            assert all(item["name"] in page for item in deliveries[job]["artifacts"] if item["kind"] == "weights")
            assert 'id="archive-title"' not in page
        assert_is_said_to_be_lost(house, lost, browser.get(f"/t/atelier/jobs/{lost}/").raise_for_status().text)


def time_between_ends(house, runs):
    """Seconds between the first end and the last."""
    ends = sorted(datetime.fromisoformat(at_provider(house, run)["completed_at"]) for run in runs)
    return (ends[-1] - ends[0]).total_seconds()


@contextmanager
def signed_in_owner(house):
    """Pages as the first team's owner sees them."""
    owner = house.seeded["atelier"]["users"]["owner"]
    with httpx.Client(base_url=house.url, trust_env=False, follow_redirects=True, timeout=30) as browser:
        browser.get("/accounts/login/").raise_for_status()
        form = {"login": owner["email"], "password": owner["password"], "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        browser.post("/accounts/login/", data=form, headers={"Referer": house.url}).raise_for_status()
        yield browser


def assert_is_whole(house, job, log, delivery, written):
    said = house.job(job)
    assert (said["status"], said["archive"]["state"], said["archive"]["lost"]) == ("completed", "complete", [])
    assert house.api.get(f"/api/cloud/jobs/{job}/logs").json()["logs"] == log
    seen = {item["name"]: (item["size_bytes"], item["sha256"]) for item in delivery["artifacts"]}
    seen.pop(".gitattributes", None)  # the Hub's own
    assert seen == {file["key"].partition(f"{job}/")[2] or file["key"]: (file["size"], file["sha256"]) for file in written}
    for item in delivery["artifacts"]:
        if item["source"] == "local":
            content = house.api.get(item["url"]).raise_for_status().content
            assert hashlib.sha256(content).hexdigest() == item["sha256"]


def assert_is_said_to_be_lost(house, job, page):
    """Its files came here while we were up; the log did not, and it is not shown as an empty one."""
    archive = house.job(job)["archive"]
    times = state_of(house, job)
    assert (archive["state"], [loss["what"] for loss in archive["lost"]]) == ("lost", ["log", "output"])
    assert {loss["found_lost_at"] for loss in archive["lost"]} == {times["provider_forgot_at"].isoformat()}
    assert archive["ended_at"] == house.job(job)["completed_at"]
    assert house.api.get(f"/api/cloud/jobs/{job}/logs").json()["archive"] == archive
    assert house.api.get(f"/api/cloud/jobs/{job}/artifacts").json()["archive"] == archive
    assert "This log is lost: Replicate removed it before it was saved here." in page
    assert 'id="archive-title"' in page
