"""Processes that do something all at once on the database of a test, each with connections and locks of its own.

They are the children of a program: it loads Django once, becomes many, and shares out what it reads from its input.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
DATABASE = "TUNEHOUSE_TEST_DATABASE"


class Many:
    """So many processes, started as `program`. They are there until the end of the `with`."""

    program: str

    def __init__(self, size: int, database: str) -> None:
        environment = {**os.environ, DATABASE: database, "TUNEHOUSE_LOG_LEVEL": "CRITICAL"}
        command = [sys.executable, "-m", self.program, str(size)]
        self.parent = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        assert self.hear() == "here"
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.parent.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.parent.kill()
            self.parent.communicate()

    def tell(self, what: Any) -> None:
        """Have all of them begin at once."""
        assert self.parent.stdin is not None
        self.parent.stdin.write(json.dumps(what) + "\n")
        self.parent.stdin.flush()

    def hear(self) -> Any:
        """Wait until all are done; what each of them says."""
        assert self.parent.stdout is not None
        return json.loads(self.parent.stdout.readline())


def load(**settings: str) -> None:
    """Load Django with these in its environment; nothing is said to the database yet."""
    from tests import environment  # noqa: F401 - what tests are given before settings are read

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ |= settings
    import django

    django.setup()
    from django.db import connections

    connections.settings["default"]["NAME"] = os.environ[DATABASE]


def lead(size: int, one: Callable[[Connection], None], *, shares: Callable[[Any, int], list[Any]]) -> None:
    """Become so many, each of which is `one` with a line to here, and give each its share of whatever is told."""
    forking = multiprocessing.get_context("fork")
    lines = []
    for _ in range(size):
        ours, theirs = forking.Pipe()
        forking.Process(target=one, args=(theirs,), daemon=True).start()
        lines.append(ours)
    print('"here"', flush=True)
    for told in sys.stdin:
        for line, share in zip(lines, shares(json.loads(told), size), strict=True):
            line.send(share)
        print(json.dumps([line.recv() for line in lines]), flush=True)
