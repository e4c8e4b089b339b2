"""The keeper: a small process of its own that runs the embedded PostgreSQL as long as somebody uses it.

Started by the first command that needs the database (`config.embedded.postgres`), as `python -m config.embedded.keeper DATA`.
It holds a lock, so that there is one; it starts the server again when that dies; and it stops it and ends once no process
holds the users' lock any more. The kernel releases a lock with its process, also after `kill -9`.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, NoReturn

from config.embedded.server import Layout, Server, ServerError, is_ready

POLL_SECONDS = 0.25
# How long the server outlives its last user, so that a row of commands does not start and stop it each time.
LINGER_SECONDS = 2.0
STARTS = 3
LOCK_SECONDS = 1.0


def main(data_dir: Path) -> None:
    """Keep the server of `data_dir`, in the background, unless another keeper does so already."""
    layout = Layout(data_dir)
    with layout.keeper_lock.open("a") as own:
        if not _take(own):
            return
        layout.failure.unlink(missing_ok=True)
        if os.fork():
            os._exit(0)  # who started us may go on: from here on the lock says that a keeper runs
        signal.signal(signal.SIGTERM, _end)
        try:
            with layout.users_lock.open("a") as users:
                _keep(Server(layout), users)
        except (ServerError, OSError) as error:
            sentence = str(error) if isinstance(error, ServerError) else f"The embedded PostgreSQL cannot be started: {error}"
            print(sentence, file=sys.stderr, flush=True)  # noqa: T201 (standard error is the server's log)
            with contextlib.suppress(OSError):  # the data folder may be gone, or the disk full
                layout.failure.write_text(sentence)


def _take(lock: IO[str]) -> bool:
    """Take the keeper's lock, and say whether we got it. A command that only looks whether it is held holds it for a moment."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _keep(server: Server, users: IO[str]) -> None:
    """Run the server until nobody uses it, starting it again when it dies. Raises ServerError when it does not start."""
    server.make()
    failures = 0
    while failures < STARTS:
        process = server.start()
        try:
            was_ready = _watch(server, process, users)
        finally:
            if process.poll() is None:
                server.stop(process)
        if was_ready is None:
            return
        failures = 0 if was_ready else failures + 1
    raise server.failed("started")


def _watch(server: Server, process: subprocess.Popen[bytes], users: IO[str]) -> bool | None:
    """Wait until the server dies and say whether it was ever ready, or return None when nobody uses it any more."""
    was_ready = False
    idle_since: float | None = None
    while True:
        try:
            process.wait(timeout=POLL_SECONDS)
        except subprocess.TimeoutExpired:
            was_ready = was_ready or is_ready(server.layout)
        else:
            return was_ready
        if not _is_unused(users):
            idle_since = None
            continue
        idle_since = idle_since or time.monotonic()
        if time.monotonic() - idle_since >= LINGER_SECONDS:
            return None  # with the users' lock held: who comes now waits until we are gone, then starts a new keeper
        fcntl.flock(users, fcntl.LOCK_UN)


def _is_unused(users: IO[str]) -> bool:
    """Say whether no process uses the server, and if so keep new ones waiting."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end(*_: object) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
