"""The whole product in the background of another command: `manage.py up` as a child that goes when we go."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.embedded import server, tether

BASE_DIR = Path(__file__).resolve().parents[2]

READY_SECONDS = 120
STOPPING_SECONDS = 30
POLL_SECONDS = 0.05


class ProductError(Exception):
    """The product did not start; the text is one sentence with what it said last."""


@contextmanager
def product(*options: str, log: Path, environment: dict[str, str] | None = None) -> Iterator[str]:
    """Run `manage.py up` with these options until the block is left, and yield its address once it is ready.

    Everything that it prints goes to the end of `log`. `environment` is added to ours. Raises ProductError.
    """
    command = [sys.executable, "-I", "-S", str(Path(tether.__file__)), str(os.getpid())]
    command += [sys.executable, str(BASE_DIR / "manage.py"), "up", *options]
    start = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C in the terminal is for us; we stop it in our own time
        )
    try:
        yield _wait_until_ready(process, log, start)
    finally:
        _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path, start: int) -> str:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        with log.open("rb") as file:
            file.seek(start)
            for line in file.read().decode(errors="replace").splitlines():
                if line.startswith("READY "):
                    return line.removeprefix("READY ")
        if process.poll() is not None:
            raise ProductError(f"The product ended before it was ready: {server.last_words(log, start)}")
        if time.monotonic() > deadline:
            raise ProductError(f"The product was not ready within {READY_SECONDS} s; what it said stands in {log}.")
        time.sleep(POLL_SECONDS)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=STOPPING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
