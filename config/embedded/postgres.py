"""The embedded PostgreSQL as the rest of the product sees it: settings for Django, and a server that runs when needed."""

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.db.utils import OperationalError
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from config.embedded import server
from config.embedded.server import Layout

START_SECONDS = 60
POLL_SECONDS = 0.02

BASE_DIR = Path(__file__).resolve().parents[2]

# The descriptors by which this process says that it uses a server. They close with it and are not handed to
# programs that it runs; a forked child shares them and so counts as a user, too.
_users: dict[Path, int] = {}


class EmbeddedPostgresError(OperationalError, CommandError):
    """The embedded server cannot run; the text is one sentence that says why and what to do.

    An OperationalError, so that whoever copes with a database that is away copes with this; a CommandError, so that
    commands end with the sentence and without a traceback.
    """


def database_settings(data_dir: Path) -> dict[str, Any]:
    """Return the entry of DATABASES for the server in `data_dir`. Starts and creates nothing."""
    return {
        "ENGINE": "config.embedded.backend",
        "NAME": server.NAME,
        "USER": server.USER,
        "PASSWORD": "",
        "HOST": str(Layout(data_dir).socket_folder),
        "PORT": "",
        "DATA_DIR": str(data_dir),
    }


def ensure(data_dir: Path) -> None:
    """Become a user of the server in `data_dir` and return when it runs; starts it if nobody did.

    Costs some ten microseconds when it runs. Raises EmbeddedPostgresError.
    """
    layout = Layout(data_dir)
    with _one_sentence(layout):
        _join(layout)
        if not (_is_kept(layout) and server.is_ready(layout)):
            _start(layout)


def wait_until_accepting(data_dir: Path) -> None:
    """Like `ensure`, but asks the server itself: it may have died this moment, or recover from the crash of one of its processes."""
    layout = Layout(data_dir)
    with _one_sentence(layout):
        _join(layout)
        _start(layout)


@contextlib.contextmanager
def _one_sentence(layout: Layout) -> Iterator[None]:
    try:
        yield
    except server.ServerError as error:
        raise EmbeddedPostgresError(str(error)) from error
    except OSError as error:
        raise EmbeddedPostgresError(f"The embedded PostgreSQL in {layout.folder} cannot be started: {error}") from error


def _join(layout: Layout) -> None:
    """Hold the users' lock for the rest of this process's life. Waits while a keeper that found no user is ending."""
    held = _users.get(layout.folder)
    with contextlib.suppress(FileNotFoundError):
        if held is not None and os.path.samestat(os.fstat(held), layout.users_lock.stat()):
            return
    layout.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(layout.users_lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    # Of two threads that come here at once both hold the lock, which does no harm.
    _users[layout.folder] = descriptor


def _start(layout: Layout) -> None:
    """Wait until the server takes connections, and see to it that a keeper runs."""
    server.binaries()
    question = make_conninfo(host=str(layout.socket_folder), user=server.USER, dbname="postgres").encode()
    deadline = time.monotonic() + START_SECONDS
    is_tried = False
    # A server whose keeper is gone may answer once more, but it is ending.
    while not (is_kept := _is_kept(layout)) or PGconn.ping(question) != Ping.OK:
        if not is_kept:
            # Another command's keeper, or one that was just ending, may have been in our way: only a written failure counts.
            if is_tried and layout.failure.exists():
                raise EmbeddedPostgresError(layout.failure.read_text())
            _spawn_keeper(layout)
            is_tried = True
        if time.monotonic() > deadline:
            words = server.last_words(layout.log)
            raise EmbeddedPostgresError(
                f"The embedded PostgreSQL in {layout.folder} did not answer within {START_SECONDS} s; its log ends with: {words}"
            )
        time.sleep(POLL_SECONDS)


def _is_kept(layout: Layout) -> bool:
    """Say whether a keeper runs."""
    with layout.keeper_lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _spawn_keeper(layout: Layout) -> None:
    """Start a keeper in a session of its own; returns when it holds its lock or found that another one does."""
    start = layout.log.stat().st_size if layout.log.exists() else 0
    with layout.log.open("ab") as log:
        done = subprocess.run(
            [sys.executable, "-m", "config.embedded.keeper", str(layout.data_dir)],
            cwd="/",
            # None of our secrets: it only needs to find its programs.
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(BASE_DIR)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            check=False,
        )
    if done.returncode:
        words = server.last_words(layout.log, start)
        raise EmbeddedPostgresError(f"The keeper of the embedded PostgreSQL in {layout.folder} cannot be started: {words}")
