"""A run ends in time at both ends: by our watchdog where the provider forgets its deadline, by the provider while we are away."""

import re
from decimal import Decimal

from tests.config.processes import wait_until

# Steps enough, and few enough a simulated second, to train far longer than any ceiling here.
ENDLESS = {"max_train_steps": 5000}
RATE = 0.01


def steps_in_log(house, prediction_id):
    log = house.provider.get(f"/v1/predictions/{prediction_id}").raise_for_status().json()["logs"]
    return [int(step) for step in re.findall(rf" (\d+)/{ENDLESS['max_train_steps']} \[", log)]


def test_a_provider_that_ignores_its_deadline_is_told_to_cancel_within_a_minute_and_what_is_beyond_is_flagged(house):
    house.rule(step_rate=RATE, ignore_deadline=True, queue_seconds=0, boot_seconds=0)
    # Over within two seconds of the sandbox's fast clock; the first line of progress comes after four.
    ceiling = 2 * house.speed
    job_id = house.submit(max_seconds=ceiling, config=ENDLESS)
    house.wait_for(job_id, "running")
    # The machine has trained beyond the ceiling, as its own log shows.
    [prediction] = house.predictions(job_id)
    wait_until(lambda: any(step > (ceiling + 100) * RATE for step in steps_in_log(house, prediction["id"])))
    # Our clock is no faster than others', so that it is moved: the stop time is now.
    house.change("UPDATE jobs_job SET created_at_provider = now() - make_interval(secs => %s) WHERE job_id = %s", ceiling, job_id)

    house.wait_for(job_id, "cancelled")

    job = house.row(
        "SELECT created_at_provider + make_interval(secs => stop_after_seconds) AS stop_at,"
        " cancel_requested_at, cancel_sent_at, ended_at, billed_seconds FROM jobs_job WHERE job_id = %s",
        job_id,
    )
    late = {name: (job[name] - job["stop_at"]).total_seconds() for name in ("cancel_requested_at", "cancel_sent_at", "ended_at")}
    assert all(0 <= seconds <= 60 for seconds in late.values()), late
    hold = house.row("SELECT amount, charge, flag FROM billing_hold WHERE reference = %s", f"job:{job_id}")
    assert hold["charge"] == round(job["billed_seconds"] * Decimal("0.000975") * 1_000_000) > hold["amount"]
    assert hold["flag"] == "The provider billed more time than the ceiling allows."
    house.wait_until_cleaned_up(job_id)


def test_the_providers_deadline_ends_a_run_while_we_are_away_and_the_charge_is_within_the_hold(house):
    ceiling = 30 * house.speed
    # It begins when the platform has gone.
    house.rule(step_rate=RATE, queue_seconds=0, boot_seconds=15 * house.speed)
    job_id = house.submit(max_seconds=ceiling, config=ENDLESS)
    wait_until(lambda: house.job(job_id)["metadata"]["prediction_id"])
    [prediction] = house.predictions(job_id)
    address = f"/v1/predictions/{prediction['id']}"

    house.ask_platform_to_stop()
    assert house.wait_for_platform_to_stop() == 0
    still_runs = house.provider.get(address).json()["status"]
    wait_until(lambda: house.provider.get(address).json()["status"] == "canceled")
    house.start_platform()

    house.wait_for(job_id, "cancelled")
    house.wait_until_cleaned_up(job_id)
    ended = house.provider.get(address).json()
    assert still_runs in ("starting", "processing")
    assert 0 < ended["metrics"]["predict_time"] <= ceiling
    # Nobody here asked for it.
    assert house.row("SELECT cancel_requested_at FROM jobs_job WHERE job_id = %s", job_id) == {"cancel_requested_at": None}
    house.assert_money(job_id, ended)
