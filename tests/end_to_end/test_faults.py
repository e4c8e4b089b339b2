"""The machinery below is killed or stopped while a job is under way: nothing is lost."""

import os
import signal

import psycopg

from tests.config.processes import wait_until


def test_the_database_killed_under_a_running_job_is_back_within_seconds_and_nothing_is_lost(house):
    job_id = house.submit_slow()
    house.wait_for(job_id, "running")
    killed = house.postmaster

    os.kill(killed, signal.SIGKILL)

    wait_until(lambda: answers(house) and house.postmaster != killed, seconds=30)
    house.assert_came_home(job_id)


def test_the_database_killed_during_an_upload_that_outlasts_the_lease_lets_nobody_send_the_job_twice(house):
    house.rule(hold_upload_seconds=8, times=1)
    job_id = house.submit()
    wait_until(lambda: house.uploads(job_id))

    os.kill(house.postmaster, signal.SIGKILL)

    house.assert_came_home(job_id)


def answers(house):
    try:
        return house.rows("SELECT 1")
    except (psycopg.OperationalError, FileNotFoundError):
        return False


def test_platform_and_provider_stopped_by_sigterm_under_a_running_job_bring_it_home_after_their_next_start(house):
    job_id = house.submit_slow()
    house.wait_for(job_id, "running")

    house.ask_platform_to_stop()
    house.stop_sandbox()  # a run that ends while nobody takes its result in has none
    code = house.wait_for_platform_to_stop()
    wait_until(lambda: not house.processes())
    house.start_platform()
    house.start_sandbox()

    assert code == 0
    house.assert_came_home(job_id)
