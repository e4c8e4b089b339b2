"""Processes that look after the queue all at once, each with connections and locks of its own.

Run as a program it is their parent: it loads Django once, becomes many, and has all of them dispatch each time that it is told.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DATABASE = "TUNEHOUSE_TEST_DATABASE"


class Dispatchers:
    """So many processes on the database of this test. They are there until the end of the `with`."""

    def __init__(self, size: int, database: str) -> None:
        environment = {**os.environ, DATABASE: database, "TUNEHOUSE_LOG_LEVEL": "CRITICAL"}
        command = [sys.executable, "-m", "tests.jobs.dispatchers", str(size)]
        self.parent = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Dispatchers":
        assert self._read() == "here"
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.parent.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.parent.kill()
            self.parent.communicate()

    def start(self) -> None:
        """Have all of them dispatch at once."""
        assert self.parent.stdin is not None
        self.parent.stdin.write("\n")
        self.parent.stdin.flush()

    def finish(self) -> list[list[int]]:
        """Wait until all are done; the keys of the jobs that each has let go."""
        return [list(gone) for gone in self._read()]

    def _read(self) -> Any:
        assert self.parent.stdout is not None
        return json.loads(self.parent.stdout.readline())


def dispatch_when_told(line: Connection) -> None:
    """Be one of them."""
    from jobs.services.dispatch import dispatch

    while line.recv():
        line.send([job.pk for job in dispatch()])


def main(size: int) -> None:
    """Become so many, before anything is said to the database."""
    from tests import environment  # noqa: F401 - what tests are given before settings are read

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    from django.db import connections

    connections.settings["default"]["NAME"] = os.environ[DATABASE]
    forking = multiprocessing.get_context("fork")
    lines = []
    for _ in range(size):
        ours, theirs = forking.Pipe()
        forking.Process(target=dispatch_when_told, args=(theirs,), daemon=True).start()
        lines.append(ours)
    print('"here"', flush=True)
    for _ in sys.stdin:
        for line in lines:
            line.send(True)
        print(json.dumps([line.recv() for line in lines]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
