"""A thousand people who follow one log on one process: what they cost the database, and how soon they all have a new line."""

import asyncio
import json
import os
import resource
import subprocess
import sys
import time

import pytest
from django.db import connection, transaction

from jobs.services import logs
from tests.config.processes import BASE_DIR, free_port, wait_until
from tests.factories import make_token
from tests.jobs.factories import JobFactory

pytestmark = pytest.mark.django_db(transaction=True)

FEW, MANY = 10, 1000
WATCHED_SECONDS = 5
# A connection that has nothing to do tells PostgreSQL after ten seconds what it did before.
SETTLING_SECONDS = 12
LINES = 5


class Watchers:
    """Open streams of one log over real sockets. `lines` is the last line that each has heard of."""

    def __init__(self, port, job, key):
        self.port = port
        path = f"/api/cloud/jobs/{job.job_id}/logs/stream"
        self.request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        self.heard = []
        self.tasks = []

    async def join(self, count):
        for _ in range(count):
            self.heard.append(b"")
            self.tasks.append(asyncio.create_task(self._watch(len(self.heard) - 1)))
            await asyncio.sleep(0.005)
        await self.all_have(b"line 0")

    async def _watch(self, number):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self.request)
        try:
            while piece := await reader.read(65536):
                self.heard[number] += piece
        finally:
            writer.close()

    async def all_have(self, text):
        async with asyncio.timeout(120):
            while not all(text in heard for heard in self.heard):
                await asyncio.sleep(0.002)

    async def leave(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def say(job, text):
    with transaction.atomic():
        logs.append(job, text)


def statements():
    """How many statements the server has begun on this database outside this process: its transactions, each of one question."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush(), xact_commit FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[1])


@pytest.fixture
def server():
    """A real server with one process, on the test's database, and room for the sockets of all here and there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * MANY)), hard))
    parameters = connection.get_connection_params()
    place = {name: parameters[name] for name in ("host", "port", "user", "password") if parameters.get(name)}
    port = free_port()
    environment = {**os.environ, "BENCH_DATABASE": json.dumps({"NAME": connection.settings_dict["NAME"], **place}), "RATE_LIMIT_CALLS": "0"}
    command = [
        sys.executable,
        "-m",
        "granian",
        "--interface",
        "asginl",
        "--port",
        str(port),
        "--workers",
        "1",
        "--workers-kill-timeout",
        "5",
        "--no-ws",
    ]
    process = subprocess.Popen([*command, "tests.benchmarks.served:application"], cwd=BASE_DIR, env=environment)
    try:
        wait_until(lambda: is_up(port), seconds=60)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def is_up(port):
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_thousand_followers_cost_no_more_questions_than_ten(server):
    job = JobFactory()
    token, key = make_token()
    job.team = token.team
    job.save()
    text = "line 0\n"
    say(job, text)

    async def measured(watchers, count):
        nonlocal text
        await watchers.join(count)
        await asyncio.sleep(1)
        taken = []
        for _ in range(LINES):
            line = f"line {text.count(chr(10))}"
            text += f"{line}\n"
            await asyncio.to_thread(in_own_connection, say, job, text)
            began = time.perf_counter()
            await watchers.all_have(line.encode() + b"\n")
            taken.append(time.perf_counter() - began)
        await asyncio.sleep(SETTLING_SECONDS)
        before = await asyncio.to_thread(in_own_connection, statements)
        await asyncio.sleep(WATCHED_SECONDS)
        after = await asyncio.to_thread(in_own_connection, statements)
        await watchers.leave()
        await asyncio.sleep(1)
        return sorted(taken)[LINES // 2], (after - before) / WATCHED_SECONDS

    async def run():
        few = await measured(Watchers(server, job, key), FEW)
        many = await measured(Watchers(server, job, key), MANY)
        return few, many

    (few_took, few_asked), (many_took, many_asked) = asyncio.run(run())
    print(
        f"\nfollowing: a line to {MANY} / to {FEW}: {many_took / few_took:.2f} times as long; "
        f"questions a second: {few_asked:.1f} for {FEW}, {many_asked:.1f} for {MANY}"
    )
    # Who is still let in is asked for all together, at most once a look.
    assert many_asked <= few_asked + 10


def in_own_connection(function, *args):
    try:
        return function(*args)
    finally:
        connection.close()
