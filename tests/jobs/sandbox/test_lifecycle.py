import itertools
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from . import servers

MOMENT = ("created_at", "started_at", "completed_at")


@pytest.fixture
def dataset(account):
    return account.upload(servers.archive("a_red_cat.jpg", "a_blue_cat.jpg"))["urls"]["get"]


def test_19_a_run_moves_through_its_states(account, dataset):
    done = account.finish(servers.inputs(images=dataset))

    assert (done["status"], done["error"]) == ("succeeded", None)
    assert sorted(done[name] for name in MOMENT) == [done[name] for name in MOMENT]
    # 60 s of queue and boot, then 20 steps at 1.9 a second and about a minute of stages
    assert done["metrics"]["total_time"] - done["metrics"]["predict_time"] == pytest.approx(60)
    assert 60 < done["metrics"]["predict_time"] < 120


def test_20_the_log_only_grows(account, dataset):
    account.rule(step_rate=0.002)  # 10,000 simulated seconds: about three of wall time
    running = account.create(servers.inputs(images=dataset))

    seen = [""]
    while account.get(running)["status"] in ("starting", "processing"):
        seen.append(account.get(running)["logs"])
        time.sleep(0.02)

    assert len(set(seen)) > 2
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(seen))


def test_24_canceling_what_waits_is_at_once(account):
    account.rule(queue_seconds=100_000)
    waiting = account.create(servers.inputs())

    answer = account.http.post(f"/v1/predictions/{waiting['id']}/cancel")

    canceled = answer.json()
    assert (answer.status_code, canceled["status"], canceled["logs"], canceled["output"]) == (200, "canceled", None, None)
    assert None not in [canceled[name] for name in MOMENT]
    assert account.get(waiting) == canceled


def test_24_canceling_what_trains_takes_a_moment(account, dataset):
    account.rule(step_rate=0.001)
    running = account.create(servers.inputs(images=dataset))
    account.wait_until(running, "processing")

    answer = account.http.post(f"/v1/predictions/{running['id']}/cancel")
    done = account.wait_until(running, "canceled")

    assert answer.json()["status"] in ("processing", "canceled")
    assert done["metrics"]["predict_time"] > 0
    assert done["logs"].startswith("[COG] Webhook receiver started")


@pytest.mark.parametrize("status", [409, 422])
def test_24_canceling_what_is_over_can_be_an_error(account, dataset, status):
    done = account.finish(servers.inputs(images=dataset))
    account.rule(cancel_terminal=status)

    answer = account.http.post(f"/v1/predictions/{done['id']}/cancel")

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert account.get(done) == done


def test_24_canceling_what_is_over_changes_nothing(account, dataset):
    done = account.finish(servers.inputs(images=dataset))

    answer = account.http.post(f"/v1/predictions/{done['id']}/cancel")

    assert (answer.status_code, answer.json()) == (200, done)


def test_25_a_deadline_before_the_start_aborts(account):
    account.rule(queue_seconds=100_000)

    done = account.finish(servers.inputs(), headers={"Cancel-After": "60s"})

    assert (done["status"], done["started_at"], done["logs"]) == ("aborted", None, None)
    assert done["metrics"] == {"predict_time": 0.0, "total_time": 60.0}


def test_25_a_deadline_after_the_start_cancels(account, dataset):
    account.rule(step_rate=0.001)

    done = account.finish(servers.inputs(images=dataset), headers={"Cancel-After": "30m"})

    assert (done["status"], done["metrics"]["total_time"]) == ("canceled", 1800.0)
    assert done["metrics"]["predict_time"] == pytest.approx(1740)


@pytest.mark.parametrize(("end", "error"), [("failed", "Prediction timed out"), ("canceled", None)])
def test_30_runs_can_be_cut_off_after_half_an_hour(account, dataset, end, error):
    account.rule(time_limit=end, step_rate=0.001)

    done = account.finish(servers.inputs(images=dataset))

    assert (done["status"], done["error"], done["output"]) == (end, error, None)
    assert done["metrics"]["predict_time"] == pytest.approx(1800)
    assert done["logs"].startswith("[COG] Webhook receiver started")


def test_the_queue_is_as_long_as_one_is_told(account, dataset):
    account.rule(queue_length=30, queue_seconds=100, boot_seconds=0)

    done = account.finish(servers.inputs(images=dataset))

    assert done["metrics"]["total_time"] - done["metrics"]["predict_time"] == pytest.approx(3000)


def test_the_helper_on_cpu_runs_within_its_minute_while_a_gpu_would_still_boot(account):
    account.rule(queue_length=1, queue_seconds=20, boot_seconds=40)  # what nobody has told otherwise
    version = account.http.get("/v1/models/simpletuner/webhook-check").json()["latest_version"]["id"]
    body = {"version": version, "input": {"webhook_url": f"{account.sandbox.url}/v1/account", "timeout_seconds": 5}}

    started = account.http.post("/v1/predictions", json=body, headers={"Cancel-After": "60"}).json()

    assert account.wait_until(started, "succeeded")["output"]["status_code"] is not None


def test_what_waits_can_be_told_otherwise_and_what_runs_cannot(account, dataset):
    account.rule(queue_seconds=100_000)
    waiting = account.create(servers.inputs(images=dataset))

    told = account.sandbox.control("settings", prediction=waiting["id"], queue_seconds=0, fail="E9828")
    done = account.wait_until(waiting, "failed")
    late = account.sandbox.control("settings", prediction=waiting["id"], fail="PA")

    assert told.status_code == 200
    assert done["error"] == "Director: unexpected error handling prediction (E9828)"
    assert (late.status_code, late.json()) == (400, {"error": "fail is fixed once a prediction has started."})


def test_a_deadline_can_be_ignored(account, dataset):
    account.rule(ignore_deadline=True)

    done = account.finish(servers.inputs(images=dataset), headers={"Cancel-After": "10s"})

    assert done["status"] == "succeeded"


def test_29_data_is_removed_after_the_retention_time(account, dataset):
    done = account.finish(servers.inputs(images=dataset))

    purged = servers.httpx.post(f"{account.sandbox.url}/control/predictions/{done['id']}/purge", trust_env=False)

    empty = {"data_removed": True, "input": {}, "logs": "", "output": None}
    assert purged.json() == {"purged": 1}
    assert account.get(done) == {**done, **empty}


def test_a_killed_sandbox_goes_on_where_it_was(tmp_path, open_account, bucket, receiver):
    sandbox = servers.Sandbox(tmp_path, speed=600)
    account = open_account(sandbox)
    account.rule(step_rate=0.03)  # 667 simulated seconds of training
    images = account.upload(servers.archive("a_cat.jpg"))["urls"]["get"]
    given = servers.inputs(images=images, **bucket.destination("jobs/killed"))
    running = account.create(given, webhook=receiver.url, webhook_events_filter=["start", "completed"])
    servers.until(lambda: ("start", "received") in [(each["event"], each["state"]) for each in sandbox.evidence(running)["webhooks"]])
    while "Steps:" not in (before := account.get(running))["logs"]:
        time.sleep(0.02)
    sandbox.kill()

    again = servers.Sandbox(tmp_path, speed=600, port=sandbox.port)
    done = account.wait_until(running, "succeeded")

    assert done["logs"].startswith(before["logs"])
    assert done["logs"].count("[COG] Webhook receiver started") == 1
    bars = [line for line in done["logs"].splitlines() if "Steps:" in line]
    assert len(bars) == len(set(bars)) == 20
    written = {each["key"].removeprefix("jobs/killed/") for each in sandbox.evidence(running)["files"]}
    assert written == {
        path.relative_to(bucket.folder / "jobs/killed").as_posix() for path in bucket.folder.glob("jobs/killed/**/*") if path.is_file()
    }
    assert [receiver.next().json["status"] for _ in range(2)] == ["processing", "succeeded"]
    assert again.stop() == 0


def test_a_terminal_webhook_that_was_owed_is_sent_after_a_restart(tmp_path, open_account):
    port = servers.free_port()
    sandbox = servers.Sandbox(tmp_path, speed=600)
    account = open_account(sandbox)
    account.rule(queue_seconds=100_000)
    url = f"http://127.0.0.1:{port}/hook"
    waiting = account.create(servers.inputs(), webhook=url, webhook_events_filter=["completed"])
    account.http.post(f"/v1/predictions/{waiting['id']}/cancel")
    sandbox.kill()

    with servers.receiving(port) as receiver:
        again = servers.Sandbox(tmp_path, speed=600)
        delivery = receiver.next()
        again.stop()

    assert (delivery.json["id"], delivery.json["status"]) == (waiting["id"], "canceled")


def test_no_secret_stays_behind_when_a_run_is_over(tmp_path, open_account, bucket):
    sandbox = servers.Sandbox(tmp_path, speed=3600)
    account = open_account(sandbox)
    images = account.upload(servers.archive("a_cat.jpg"))["urls"]["get"]
    account.rule(step_rate=0.005)
    given = servers.inputs(images=images, hf_token="hf_very_secret_indeed", **bucket.destination("jobs/secret"))
    running = account.create(given)
    account.wait_until(running, "processing")
    held = b"".join(path.read_bytes() for path in tmp_path.glob("sandbox.sqlite3*"))
    account.wait_until(running, "succeeded")

    sandbox.stop()

    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    secrets = [b"hf_very_secret_indeed", bucket.secret_key.encode(), account.token.encode()]
    assert [secret in held for secret in secrets] == [True, True, False]
    assert [secret in kept for secret in secrets] == [False, False, False]
    assert not list((tmp_path / "scratch").iterdir())


def test_it_stops_soon_whatever_is_under_way(tmp_path, open_account):
    sandbox = servers.Sandbox(tmp_path, speed=1)
    account = open_account(sandbox)
    account.create(servers.inputs())
    account.rule(hold_create_answer_seconds=60)
    hasty = servers.httpx.Timeout(60, read=0.3)
    with pytest.raises(servers.httpx.ReadTimeout):
        account.http.post("/v1/predictions", json={"version": account.version()["id"], "input": servers.inputs()}, timeout=hasty)
    servers.until(lambda: len(sandbox.control("predictions").json()) == 2)

    began = time.monotonic()
    code = sandbox.stop()

    assert code == 0
    # Two at the most, and more where the machine is busy; what is under way would take a minute.
    assert time.monotonic() - began < 15
    with sqlite3.connect(tmp_path / "sandbox.sqlite3") as db:
        assert db.execute("SELECT status FROM predictions").fetchall() == [("starting",), ("starting",)]
    db.close()


def run_on(*arguments):
    command = [sys.executable, "-m", "jobs.sandbox", *arguments]
    return subprocess.run(command, cwd=servers.ROOT, capture_output=True, text=True, timeout=servers.PATIENCE_SECONDS, check=False)


def test_a_taken_port_and_a_taken_folder_are_explained(shared_sandbox, tmp_path):
    folder = shared_sandbox.process.args[-1]

    port = run_on("--port", str(shared_sandbox.port), "--data", str(tmp_path))
    data = run_on("--port", "0", "--data", folder)

    assert (port.returncode, port.stdout, data.returncode, data.stdout) == (2, "", 2, "")
    assert f"Cannot listen on 127.0.0.1:{shared_sandbox.port}" in port.stderr
    assert "choose another port with --port" in port.stderr
    assert "Another sandbox is using the folder" in data.stderr


def test_a_taken_port_and_an_impossible_one_for_the_hub_are_explained(shared_sandbox, tmp_path):
    taken = run_on("--port", "0", "--hub-port", str(shared_sandbox.hub_port), "--data", str(tmp_path))
    impossible = run_on("--port", "0", "--hub-port", "70000", "--data", str(tmp_path))

    assert (taken.returncode, taken.stdout, impossible.returncode, impossible.stdout) == (2, "", 2, "")
    assert f"Cannot listen on 127.0.0.1:{shared_sandbox.hub_port}" in taken.stderr
    assert "choose another port with --hub-port" in taken.stderr
    assert "Cannot listen on 127.0.0.1:70000 (there is no such port)" in impossible.stderr


def test_without_the_option_there_is_no_hub(tmp_path):
    command = [sys.executable, "-m", "jobs.sandbox", "--port", "0", "--data", str(tmp_path)]

    with subprocess.Popen(command, cwd=servers.ROOT, stdout=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        process.terminate()
        rest = process.stdout.read()

    assert (first.partition(" ")[0], rest, process.returncode) == ("READY", "", 0)


def test_ctrl_c_ends_it_cleanly(tmp_path):
    sandbox = servers.Sandbox(tmp_path, speed=1)

    sandbox.process.send_signal(signal.SIGINT)

    assert sandbox.stop() == 0


def test_it_imports_nothing_else_of_this_project():
    program = "import sys, jobs.sandbox.__main__; print([m for m in sys.modules if m.split('.')[0] in sys.argv[1:]])"
    ours = ("django", "accounts", "billing", "config", "webhooks")
    command = [sys.executable, "-c", program, *ours]

    found = subprocess.run(command, cwd=servers.ROOT, capture_output=True, text=True, check=True)

    assert found.stdout == "[]\n"
