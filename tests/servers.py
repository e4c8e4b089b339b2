"""Real servers of the product: granian with each of its interfaces, on the database of the tests."""

import contextlib
import os
import resource
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
from django.db import connection

from tests.config.processes import free_port

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 240
LARGE_FILE_BYTES = 4 * 1024 * 1024
# The interface that granian is told, and the module whose application speaks it.
MODULES = {"wsgi": "config.wsgi", "asgi": "config.asgi", "asginl": "config.asgi"}


@dataclass
class Program:
    """A program that runs and answers at `url`, with its workers."""

    url: str
    process: subprocess.Popen
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.rpartition("/")[2].partition(":")
        return host, int(port)

    def memory_bytes(self) -> int:
        """What is resident of all of it."""
        return sum(process.memory_info().rss for process in self.processes())

    def forget_peak(self) -> None:
        """Begin to measure the peak anew. Source: proc(5), /proc/pid/clear_refs."""
        for process in self.processes():
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """The most that was resident since the peak was forgotten."""
        status = "".join(Path(f"/proc/{process.pid}/status").read_text() for process in self.processes())
        return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))

    @contextlib.contextmanager
    def without_large_files(self) -> Iterator[None]:
        """Let it write no file beyond a few MiB meanwhile: it would be ended for trying."""
        usual = {process.pid: resource.prlimit(process.pid, resource.RLIMIT_FSIZE) for process in self.processes()}
        for pid, (_, hard) in usual.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (LARGE_FILE_BYTES, hard))
        try:
            yield
        finally:
            for pid, limits in usual.items():
                with contextlib.suppress(ProcessLookupError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)

    def is_connected(self) -> bool:
        """Whether somebody has a connection to it open."""
        open_ones = [one for process in self.processes() for one in process.net_connections("tcp") if one.status == psutil.CONN_ESTABLISHED]
        return any(one.laddr.port == self.address[1] for one in open_ones)

    def processes(self) -> list[psutil.Process]:
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]


@dataclass
class Server(Program):
    """A granian. `outputs` is where its artifacts go."""

    outputs: Path


@contextlib.contextmanager
def granian(interface: str, folder: Path, **settings: str) -> Iterator[Server]:
    """Tunehouse under granian on the test's database, with a folder of its own for what is stored, and more settings."""
    port = free_port()
    environment = os.environ | {"DATABASE_URL": database_url(), "TUNEHOUSE_OUTPUTS": str(folder / "outputs")} | settings
    command = [sys.executable, "-m", "granian", "--interface", interface, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--blocking-threads", "8" if interface == "wsgi" else "1", "--no-ws", f"{MODULES[interface]}:application"]
    with running(command, folder / "server.log", cwd=ROOT, env=environment) as process:
        wait_for(f"http://127.0.0.1:{port}", process, folder / "server.log")
        yield Server(f"http://127.0.0.1:{port}", process, folder / "server.log", folder / "outputs")


@contextlib.contextmanager
def running(command: list[str], log: Path, *, cwd: Path, env: dict[str, str]) -> Iterator[subprocess.Popen]:
    with log.open("wb") as output, subprocess.Popen(command, cwd=cwd, env=env, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


def wait_for(address: str, process: subprocess.Popen, log: Path, *, certificate: Path | None = None) -> None:
    """Return when the product answers at an address; a proxy listens before it knows its routes and certificate."""
    deadline = time.monotonic() + START_SECONDS
    trusted = ssl.create_default_context(cafile=certificate) if certificate else True
    with httpx.Client(verify=trusted, trust_env=False, timeout=START_SECONDS) as client:
        while time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(httpx.TransportError):
                if client.get(f"{address}/api/cloud/health/live").status_code == 200:
                    return
            threading.Event().wait(0.02)
    raise AssertionError(log.read_text())


def database_url() -> str:
    """The address of the database that the tests use, for a process of its own."""
    found = connection.settings_dict
    user = quote(found["USER"], safe="") + (f":{quote(found['PASSWORD'], safe='')}" if found["PASSWORD"] else "")
    if found["HOST"].startswith("/"):
        return f"postgres://{user}@/{found['HOST']}/{found['NAME']}"
    place = f"{found['HOST']}:{found['PORT']}" if found["PORT"] else found["HOST"]
    return f"postgres://{user}@{place}/{found['NAME']}"
