"""A worker killed with SIGKILL, wherever it is: another one goes on, and the provider is paid for one run."""

import os
import signal
from contextlib import suppress

import pytest

from tests.config.processes import is_alive, wait_until


def kill_child(house):
    """Kill the process that runs the launch; its worker forks a new one."""
    for pid in house.worker_children("packer"):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_workers(house):
    """Kill both workers with all their children; the supervisor starts them again."""
    workers = [house.worker(name) for name in ("worker", "packer")]
    for pid in [*workers, *house.worker_children("worker"), *house.worker_children("packer")]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in workers))


def test_killed_while_packing(house):
    # In the middle of the third image, so that a part of the archive is on the disk.
    house.set_trap(file="jobs/packing.py", function="_chunks", call=3, how=signal.SIGKILL)

    job_id = house.submit()
    died = house.trapped()

    house.assert_came_home(job_id)
    assert not is_alive(died)


def test_killed_while_uploading(house):
    house.rule(hold_upload_seconds=60, times=1)
    job_id = house.submit()
    wait_until(lambda: house.uploads(job_id))

    kill_child(house)

    house.assert_came_home(job_id)


# Without a webhook only the search for the job's marker can find the prediction.
@pytest.mark.parametrize(("kill", "webhooks", "outcome"), [(kill_child, "drop", "adopted"), (kill_workers, "send", "created")])
def test_killed_right_after_creating_before_the_answer_was_read(house, kill, webhooks, outcome):
    house.rule(hold_create_answer_seconds=60, times=1)
    house.rule(webhooks=webhooks)
    job_id = house.submit()
    wait_until(lambda: house.predictions(job_id))

    kill(house)

    house.assert_came_home(job_id)
    intent = house.row("SELECT i.outcome FROM jobs_launchintent i JOIN jobs_job j ON j.id = i.job_id WHERE j.job_id = %s", job_id)
    assert intent["outcome"] == outcome


def test_killed_while_running(house):
    job_id = house.submit_slow()
    house.wait_for(job_id, "running")

    kill_workers(house)

    house.assert_came_home(job_id)


def test_a_worker_that_slept_through_its_lease_creates_nothing_when_it_wakes_up(house):
    house.rule(hold_create_answer_seconds=8, times=1)
    house.set_trap(file="jobs/services/launching.py", function="_commit_intent", how=signal.SIGSTOP)
    job_id = house.submit()
    sleeper = house.trapped()
    wait_until(lambda: house.predictions(job_id))  # another worker took over, and waits for the answer

    os.kill(sleeper, signal.SIGCONT)

    house.assert_came_home(job_id)
