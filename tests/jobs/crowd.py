"""Processes that submit by HTTP all at once, each with connections and locks of its own.

Run as a program it is their parent: it loads Django once, becomes many, and shares out what it reads from its input.
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
SECONDS = 3940  # with the minute that is added, 4000 s

Answers = list[tuple[int, str]]


class Crowd:
    """So many processes on the database of this test. They are there until the end of the `with`."""

    def __init__(self, size: int, database: str) -> None:
        environment = {**os.environ, DATABASE: database, "TUNEHOUSE_LOG_LEVEL": "CRITICAL"}
        command = [sys.executable, "-m", "tests.jobs.crowd", str(size)]
        self.parent = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Crowd":
        assert self._read() == "here"
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.parent.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.parent.kill()
            self.parent.communicate()

    def submit(self, key: str, *, times: int, config: str) -> Answers:
        """Submit so many jobs, shared out among all; the status of each answer, with the code of a 402 or what else was said."""
        assert self.parent.stdin is not None
        self.parent.stdin.write(json.dumps({"key": key, "times": times, "config": config}) + "\n")
        self.parent.stdin.flush()
        return [(status, said) for status, said in self._read()]

    def _read(self) -> Any:
        assert self.parent.stdout is not None
        return json.loads(self.parent.stdout.readline())


def submit_when_told(line: Connection) -> None:
    """Be one of them: submit what is asked for, until nothing comes any more."""
    from django.test import Client

    while asked := line.recv():
        body = {"config_name_to_load": asked["config"], "max_seconds": SECONDS}
        answers: Answers = []
        for _ in range(asked["times"]):
            client = Client(raise_request_exception=False, SERVER_NAME="127.0.0.1")
            headers = {"Authorization": f"Bearer {asked['key']}"}
            answer = client.post("/api/cloud/jobs/submit", body, content_type="application/json", headers=headers)
            said = answer.json()
            answers.append((answer.status_code, said.get("code" if answer.status_code == 402 else "detail", "")))
        line.send(answers)


def main(size: int) -> None:
    """Become so many, before anything is said to the database."""
    from tests import environment  # noqa: F401 - what tests are given before settings are read

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    # Nobody is there to be called: a submission calls nobody.
    os.environ |= {"REPLICATE_BASE_URL": "http://127.0.0.1:9", "TUNEHOUSE_PUBLIC_URL": "http://127.0.0.1:9"}
    import django

    django.setup()
    from django.db import connections
    from django.urls import get_resolver

    connections.settings["default"]["NAME"] = os.environ[DATABASE]
    get_resolver().url_patterns  # noqa: B018 - loaded once for all
    forking = multiprocessing.get_context("fork")
    lines = []
    for _ in range(size):
        ours, theirs = forking.Pipe()
        forking.Process(target=submit_when_told, args=(theirs,), daemon=True).start()
        lines.append(ours)
    print('"here"', flush=True)
    for told in sys.stdin:
        asked = json.loads(told)
        for number, line in enumerate(lines):
            line.send({**asked, "times": asked["times"] // size + (number < asked["times"] % size)})
        print(json.dumps([answer for line in lines for answer in line.recv()]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
