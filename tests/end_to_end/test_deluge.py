"""A flood of webhooks in bad weather, while web and worker are killed again and again: nothing is lost, nothing is done twice."""

import os
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

import httpx
import pytest

from tests.config.processes import is_alive, wait_until
from tests.end_to_end.house import ENDED, House
from tests.end_to_end.weather import ENDED as ENDED_THERE
from tests.end_to_end.weather import Weather
from tests.thoroughness import FULL

# Seconds after which a job is asked about whose webhooks flow: the reconciler's cycle.
CYCLE_SECONDS = 10
OURS = {"succeeded": "completed", "failed": "failed", "canceled": "cancelled", "aborted": "cancelled"}
LEGAL = ["pending", "uploading", "queued", "running"]
LONGEST_SECONDS = 600


@dataclass(frozen=True)
class Size:
    """How much comes: a job that runs to its end prints so many lines, each a webhook; four fifths of the jobs do."""

    jobs: int
    lines: int
    deliveries: int
    kills: int
    speed: float


SIZE = Size(jobs=50, lines=140, deliveries=5000, kills=5, speed=5) if FULL else Size(jobs=10, lines=50, deliveries=350, kills=2, speed=8)


@pytest.fixture
def house(tmp_path):
    """An installation of its own, since its processes are killed."""
    house = House(tmp_path, speed=SIZE.speed)
    house.environment |= {"TUNEHOUSE_POLL_SECONDS": str(CYCLE_SECONDS)}
    del house.environment["PYTHONPATH"]  # no trap is set here, and watching for one takes time
    try:
        house.start()
        yield house
        house.assert_no_secret_was_said()
        house.stop()
    finally:
        house.kill()


def test_a_flood_of_deliveries_survives_bad_weather_and_kills(house):
    with Weather(house.url) as weather:
        jobs = submit(house, weather)
        began = time.monotonic()
        killed = kill_meanwhile(house, weather)
        runs = wait_for_the_provider(house, jobs)
        weather.calm_down()
        cycle = wait_one_cycle(house)
        took = time.monotonic() - began

    print(f"\ndeluge: {len(jobs)} jobs, {weather.said()}; {took:.0f} s, {len(weather.received) / took:.0f} taken a second; killed {killed}")
    assert weather.made >= SIZE.deliveries
    assert killed == {"web": SIZE.kills, "worker": SIZE.kills}
    # Whoever is still on the way was asked about once since the provider was done, and need not be asked again.
    assert cycle == []
    assert_each_job_is_as_the_provider_says(house, runs)
    assert_each_delivery_is_kept_and_applied_once(house, weather)
    assert_nothing_happened_twice(house, runs)
    wait_until(lambda: not house.rows("SELECT 1 FROM jobs_job WHERE cleaned_up_at IS NULL"), seconds=LONGEST_SECONDS)
    house.assert_books_are_right()
    replayed = house.inside("replay", seconds=LONGEST_SECONDS)
    assert replayed == {"replayed": len(kept(house)), "changed": []}


def submit(house, weather):
    """Submit all jobs; a fifth of them will break down half-way."""
    wishes = {"webhook_url": weather.url, "s3_public_url": house.url, "webhook_sends_logs": True, "webhook_sends_output": True}
    with house.owner() as owner:
        saved = owner.put("/api/cloud/providers/replicate", json=wishes)
        assert saved.status_code == 200, saved.text
    wait_until(lambda: house.rows("SELECT 1 FROM jobs_queuesettings WHERE team_id IS NULL"))
    house.change("UPDATE jobs_queuesettings SET max_concurrent = 100, team_max_concurrent = 100, user_max_concurrent = 100")
    house.change("UPDATE billing_spendlimit SET amount = 1000000000000")
    # So that a line comes a little more than half a second after the last: closer ones share a webhook.
    house.rule(rate_limits="off", step_rate=1 / 5, queue_seconds=0, boot_seconds=5)
    house.rule(fail="out_of_memory", times=SIZE.jobs // 5)
    return [house.submit(config={"max_train_steps": SIZE.lines, "lora_rank": 1}) for _ in range(SIZE.jobs)]


def kill_meanwhile(house, weather):
    """Kill the web and the workers in turn, whenever so much of the flood has come; half-way cancel some runs at the provider."""
    killed = Counter()
    for turn in range(2 * SIZE.kills):
        due = SIZE.deliveries * (turn + 1) / (2 * SIZE.kills + 1)
        wait_until(lambda due=due: weather.made >= due, seconds=LONGEST_SECONDS)
        kind = ("web", "worker")[turn % 2]
        kill(house, kind)
        killed[kind] += 1
        if turn == SIZE.kills - 1:
            cancel_some(house)
    return dict(killed)


def kill(house, kind):
    """Kill a service with all its processes, and wait until the supervisor has started it anew."""
    wait_until(lambda: is_up(house, kind))
    pids = house.processes("granian") if kind == "web" else [house.worker("worker"), *house.worker_children("worker")]
    if kind == "worker":
        # Its word that it is ready would outlive it.
        (house.data / "ready" / "worker").unlink()
    assert pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    wait_until(lambda: is_up(house, kind))


def is_up(house, kind):
    if kind == "worker":
        return (house.data / "ready" / "worker").exists()
    with suppress(httpx.HTTPError):
        return httpx.get(f"{house.url}/api/cloud/health/live", trust_env=False, timeout=5).status_code == 200
    return False


def predictions(house):
    found, path = [], "/v1/predictions"
    while path:
        page = house.provider.get(path).raise_for_status().json()
        found += page["results"]
        path = page["next"]
    return found


def cancel_some(house):
    """Cancel a fifth of the runs as somebody does on the provider's own page."""
    running = [run["id"] for run in predictions(house) if run["status"] == "processing"]
    for prediction_id in running[: SIZE.jobs // 5]:
        assert house.provider.post(f"/v1/predictions/{prediction_id}/cancel").status_code == 200


def wait_for_the_provider(house, jobs):
    """Wait until all runs are over and the provider has no webhook left to send; return what it says of each, by job."""
    wait_until(lambda: all(run["status"] in ENDED_THERE for run in predictions(house)), seconds=LONGEST_SECONDS)
    runs = {run["webhook"].partition("?job=")[2].partition("&")[0]: run["id"] for run in predictions(house)}
    wait_until(lambda: not any(owes(house, run) for run in runs.values()), seconds=LONGEST_SECONDS)
    assert sorted(runs) == sorted(jobs)
    return {job_id: house.provider.get(f"/v1/predictions/{run}").raise_for_status().json() for job_id, run in runs.items()}


def owes(house, prediction_id):
    return any(webhook["state"] == "pending" for webhook in house.evidence(prediction_id)["webhooks"])


def wait_one_cycle(house):
    """Wait until each job has ended or was asked about again; return those that had to be asked about twice since then."""
    moment = house.row("SELECT clock_timestamp() AS now")["now"]
    query = (
        "SELECT j.job_id, p.polled_at FROM jobs_job j JOIN jobs_jobprogress p ON p.job_id = j.id "
        "WHERE j.state NOT IN ('completed', 'failed', 'cancelled')"
    )
    asked: dict[str, set] = {}

    def is_over():
        left = house.rows(query)
        for row in left:
            times = asked.setdefault(row["job_id"], set())
            if row["polled_at"] and row["polled_at"] > moment:
                times.add(row["polled_at"])
        return not left

    wait_until(is_over)
    return [job_id for job_id, times in asked.items() if len(times) > 1]


def kept(house):
    return house.rows("SELECT webhook_id, job_id, state, repeats FROM webhooks_delivery")


def assert_each_job_is_as_the_provider_says(house, runs):
    states = {job_id: OURS[run["status"]] for job_id, run in runs.items()}
    assert set(states.values()) == ENDED  # the flood had an end of every kind in it
    assert {row["job_id"]: row["state"] for row in house.rows("SELECT job_id, state FROM jobs_job")} == states
    logs = {job_id: house.api.get(f"/api/cloud/jobs/{job_id}/logs").json()["logs"] for job_id in runs}
    assert [job_id for job_id, run in runs.items() if logs[job_id] != run["logs"]] == []


def assert_each_delivery_is_kept_and_applied_once(house, weather):
    wait_until(lambda: not house.rows("SELECT 1 FROM webhooks_delivery WHERE state = 'received'"))
    inbox = kept(house)
    assert Counter(row["state"] for row in inbox) == {"applied": len(inbox)}
    ids = [row["webhook_id"] for row in inbox]
    assert len(set(ids)) == len(ids)
    assert weather.received - set(ids) == set()
    taken = Counter(answer.webhook_id for answer in weather.answers if answer.status == 200)
    assert [row for row in inbox if row["repeats"] + 1 < taken[row["webhook_id"]]] == []


def assert_nothing_happened_twice(house, runs):
    for job_id, run in runs.items():
        states = [move["state"] for move in house.moves(job_id)]
        way = [*LEGAL, OURS[run["status"]]]
        assert states == [state for state in way if state in states]
        house.assert_money(job_id, run)
    counted = house.rows(
        "SELECT job_id, sum(deliveries) AS deliveries, max(times) FILTER (WHERE event NOT IN ('logs')) AS times, "
        "count(*) FILTER (WHERE event IN ('completed', 'failed', 'canceled')) AS ends FROM jobs_providerevent GROUP BY job_id"
    )
    inbox = Counter(row["job_id"] for row in kept(house))
    assert {row["job_id"]: row["deliveries"] for row in counted if row["deliveries"]} == inbox
    assert {(row["times"], row["ends"]) for row in counted} == {(1, 1)}
