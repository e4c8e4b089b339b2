import json
import os
import signal
import socket
import subprocess
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from config.embedded import services
from tests.config.processes import BASE_DIR, PATIENCE_SECONDS, Running, free_port, is_alive, python, running, wait_until

TELL_AND_STAY = "import os, time; print('pid', os.getpid()); time.sleep(600)"
STUBBORN = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('pid', os.getpid()); time.sleep(600)"


def supervised(**code: str) -> AbstractContextManager[Running]:
    return running(*python("-m", "tests.config.supervised", json.dumps(code)))


def pid_from(program: Running, name: str, *, start: int = 1) -> int:
    """Return the process number that a service said when it was started for the first (second…) time."""

    def said() -> list[str]:
        return [line.split()[-1] for line in program.lines if line.startswith(f"{name:<8}| pid")]

    wait_until(lambda: len(said()) >= start)
    return int(said()[start - 1])


def test_every_line_bears_the_name_of_who_said_it_and_readiness_stands_alone():
    with supervised(web="import os, time; os.write(2, b'half'); print(os.environ['GREETING'], 'Ñ'); time.sleep(600)") as program:
        assert program.line(lambda line: line != "READY") == "web     | hello Ñ"
        wait_until(lambda: "READY" in program.lines)
        program.end(signal.SIGTERM)

    assert sorted(program.lines) == ["READY", "up      | Stopping.", "web     | half", "web     | hello Ñ"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_asked_to_stop_it_ends_every_process_and_itself(how):
    with supervised(one=TELL_AND_STAY, two=TELL_AND_STAY) as program:
        pids = [pid_from(program, "one"), pid_from(program, "two")]

        assert program.end(how) == 0

    assert not any(is_alive(pid) for pid in pids)


def test_asked_to_stop_at_its_very_start_it_stops():
    with supervised(one=TELL_AND_STAY, two=TELL_AND_STAY, three=TELL_AND_STAY) as program:
        program.line()  # the others are just being started

        assert program.end(signal.SIGTERM) == 0


def test_a_process_that_does_not_stop_is_killed_after_its_grace():
    with supervised(one=STUBBORN) as program:
        pid = pid_from(program, "one")

        assert program.end(signal.SIGTERM) == 0

    assert not is_alive(pid)


def test_killed_it_takes_its_processes_along():
    with supervised(one=TELL_AND_STAY, two=STUBBORN) as program:
        pids = [pid_from(program, "one"), pid_from(program, "two")]

        program.end(signal.SIGKILL)

    wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_a_process_that_dies_is_started_again():
    with supervised(one=TELL_AND_STAY, other=TELL_AND_STAY) as program:
        first, other = pid_from(program, "one"), pid_from(program, "other")

        os.kill(first, signal.SIGKILL)

        assert program.line(lambda line: line.startswith("up")) == "up      | one has died of SIGKILL; it is started again at once."
        assert pid_from(program, "one", start=2) != first
        assert is_alive(other)


def test_processes_that_die_together_and_leave_children_behind_are_each_started_once_and_heard():
    # The child keeps its parent's output open, so that nothing tells the reader of it that the parent is gone.
    code = "import os, time; os.fork() or (time.sleep(20), os._exit(0)); print('pid', os.getpid()); time.sleep(600)"
    with supervised(one=code, two=code) as program:
        os.kill(pid_from(program, "one"), signal.SIGKILL)

        # The one that died before is started after a pause, so the other gets the pipes that it had.
        for pid in (pid_from(program, "one", start=2), pid_from(program, "two")):
            os.kill(pid, signal.SIGKILL)

        living = [pid_from(program, "one", start=3), pid_from(program, "two", start=2)]
        assert all(is_alive(pid) for pid in living)
        assert program.end(signal.SIGTERM) == 0

    assert not [line for line in program.lines if "error" in line]
    assert not any(is_alive(pid) for pid in living)


def test_when_nobody_reads_any_more_it_stops():
    chatty = "import time\nwhile True: print('on and on'); time.sleep(0.05)"
    command = python("-m", "tests.config.supervised", json.dumps({"one": chatty}))
    with subprocess.Popen(command, cwd=BASE_DIR, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
        assert program.stdout
        program.stdout.readline()

        program.stdout.close()

        assert program.wait(timeout=PATIENCE_SECONDS) is not None


def test_before_it_is_ready_a_process_that_always_dies_at_once_ends_it_with_the_last_line():
    with supervised(one=TELL_AND_STAY, never="import sys; sys.exit('No such table.')") as program:
        pid = pid_from(program, "one")

        assert program.end() == 1

    assert program.lines[-3:] == [
        "up      | never has died 5 times right after its start, the last time with exit code 1; its last line was: No such table.",
        "up      | Nothing is served yet, so everything is stopped.",
        "up      | Stopping.",
    ]
    assert "READY" not in program.lines
    assert not is_alive(pid)


def test_once_it_is_ready_it_goes_on_with_the_others():
    with supervised(one=TELL_AND_STAY, dying="import time; time.sleep(0.1); print('gone')") as program:
        pid = pid_from(program, "one")

        said = program.line(lambda line: "times right after its start" in line)

        assert "dying has died 5 times" in said
        assert said.endswith("its last line was: gone")
        assert is_alive(pid)


def up(tmp_path, *options: str, **environment: str) -> AbstractContextManager[Running]:
    given = {"TUNEHOUSE_DATA": str(tmp_path), "DATABASE_URL": "", "CELERY_BROKER_URL": "", **environment}
    return running(*python(str(BASE_DIR / "manage.py"), "up", *options), environment=given)


@pytest.mark.parametrize("option", ["--port", "--sandbox-port", "--hub-port"])
def test_a_taken_port_is_one_sentence_and_nothing_is_started(tmp_path, option):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"--port": free_port(), "--sandbox-port": free_port(), "--hub-port": free_port(), option: port}

        with up(tmp_path, "--sandbox", *(str(word) for pair in ports.items() for word in pair)) as program:
            assert program.end() == 2

    assert program.lines == [
        f"CommandError: Port {port} on 127.0.0.1 is taken by another program: stop it, or choose another port with {option}."
    ]
    assert not (tmp_path / "postgres").exists()


def test_the_stand_ins_may_not_share_a_port(tmp_path):
    port = str(free_port())

    with up(tmp_path, "--sandbox", "--port", str(free_port()), "--sandbox-port", port, "--hub-port", port) as program:
        assert program.end() == 2

    assert program.lines == [f"CommandError: Two were to listen on port {port}: choose another with --hub-port."]


def test_an_impossible_port_is_one_sentence(tmp_path):
    with up(tmp_path, "--port", "70000") as program:
        assert program.end() == 2

    assert program.lines == ["CommandError: There is no port 70000: choose one from 1 to 65535 with --port."]


def test_the_whole_product_comes_up_survives_the_death_of_its_parts_and_goes_without_a_trace(tmp_path):
    port = free_port()
    with up(tmp_path, "--port", str(port)) as program:
        assert program.line(lambda line: line.startswith("READY")) == f"READY http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/cloud/health/ready") as answer:
            assert answer.status == 200
        with up(tmp_path, "--port", str(free_port())) as second:
            assert second.end() == 2
        assert "Another `manage.py up` already runs on the data in" in second.lines[0]
        before = processes_of(tmp_path)

        os.kill(int((tmp_path / "ready" / "worker").read_text()), signal.SIGKILL)
        program.line(lambda line: line == "up      | worker has died of SIGKILL; it is started again at once.")
        program.line(lambda line: line.startswith("worker") and "ready" in line)

        wait_until(lambda: len(processes_of(tmp_path)) == len(before))
        assert program.end(signal.SIGTERM) == 0

    wait_until(lambda: not processes_of(tmp_path))


def test_killed_the_product_leaves_no_orphan(tmp_path):
    with up(tmp_path, "--port", str(free_port())) as program:
        program.line(lambda line: line.startswith("READY"))
        assert len(processes_of(tmp_path)) > 5

        program.end(signal.SIGKILL)

    wait_until(lambda: not processes_of(tmp_path))


def processes_of(data_dir) -> list[int]:
    """Return the processes that were given this data folder, in their environment or as an argument."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            known = b"".join(Path(f"/proc/{pid}/{file}").read_bytes() for file in ("environ", "cmdline"))
        except OSError:
            continue
        if str(data_dir).encode() in known and is_alive(pid):
            found.append(pid)
    return found


def test_the_address_is_one_that_this_machine_can_reach():
    assert services.url("127.0.0.1", 80) == "http://127.0.0.1:80"
    assert services.url("0.0.0.0", 80) == "http://127.0.0.1:80"  # noqa: S104
    assert services.url("::1", 80) == "http://[::1]:80"
    assert services.url("lan.example", 80) == "http://lan.example:80"


def test_with_the_sandbox_everything_takes_it_for_the_provider_and_the_hub(monkeypatch):
    monkeypatch.delenv("TUNEHOUSE_POLL_SECONDS_SILENT", raising=False)
    environment = services.sandbox_environment(host="127.0.0.1", port=8000, sandbox_port=8001, hub_port=8002, public_url="")

    assert environment == {
        "REPLICATE_BASE_URL": "http://127.0.0.1:8001",
        "TUNEHOUSE_STATUS_PAGE_URL": "http://127.0.0.1:8001",
        "HF_ENDPOINT": "http://127.0.0.1:8002",
        "HF_HUB_DISABLE_XET": "1",
        "TUNEHOUSE_ALLOW_PRIVATE_HOSTS": "1",
        "TUNEHOUSE_PUBLIC_URL": "http://127.0.0.1:8000",
        "TUNEHOUSE_POLL_SECONDS_LOG": "5",
        "TUNEHOUSE_POLL_SECONDS_SILENT": "1",
    }
    kept = services.sandbox_environment(
        host="127.0.0.1", port=8000, sandbox_port=8001, hub_port=8002, public_url="https://tunehouse.example"
    )
    assert kept["TUNEHOUSE_PUBLIC_URL"] == "https://tunehouse.example"


def test_what_takes_long_has_workers_of_its_own_and_every_queue_has_one(tmp_path):
    workers = services.workers(queues={"default", "deliver", "inbox", "launch", "rescue"}, ready_folder=tmp_path)

    assert [(service.name, service.command[service.command.index("-Q") + 1]) for service in workers] == [
        ("worker", "default,inbox"),
        ("rescuer", "rescue"),
        ("packer", "launch"),
        ("reader", "deliver"),
    ]
