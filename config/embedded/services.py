"""The processes that make up the product on one machine, as `manage.py up` runs them."""

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from config.embedded import readiness

# Packing and uploading take minutes, and reading results that lie elsewhere may take longer: they have processes of their
# own and hold up nothing else.
PACKER_QUEUES = frozenset({"launch"})
READER_QUEUES = frozenset({"deliver"})
# What the provider forgets within the hour waits behind nothing, and large files of it hold up no stop time.
RESCUER_QUEUES = frozenset({"rescue"})
WORKERS = 2
SOFT_SECONDS = 2

PROBE_SECONDS = 2


@dataclass(frozen=True)
class Service:
    """One process to run: its name, its command, what its environment has besides ours, and how to see that it is ready."""

    name: str
    command: list[str]
    is_ready: Callable[[], bool]
    environment: dict[str, str] = field(default_factory=dict)


def web(*, host: str, port: int) -> Service:
    """The one server that carries pages, API and live streams."""
    options = ["--interface", "asginl", "--host", host, "--port", str(port), "--workers", "1", "--workers-kill-timeout", "5", "--no-ws"]
    command = [sys.executable, "-m", "granian", *options, "config.embedded.web:application"]
    return Service("web", command, answers(f"{url(host, port)}/api/cloud/health/live"))


def workers(*, queues: Iterable[str], ready_folder: Path) -> list[Service]:
    """Celery's workers: one for everything that is quick, one for rescues, one for packing, one for reading results elsewhere."""
    quick = sorted(set(queues) - RESCUER_QUEUES - PACKER_QUEUES - READER_QUEUES)
    return [
        _worker("worker", quick, ready_folder),
        _worker("rescuer", sorted(RESCUER_QUEUES), ready_folder),
        _worker("packer", sorted(PACKER_QUEUES), ready_folder),
        _worker("reader", sorted(READER_QUEUES), ready_folder, processes=1),
    ]


def _worker(name: str, queues: list[str], ready_folder: Path, *, processes: int = WORKERS) -> Service:
    options = ["--pool", "prefork", "--concurrency", str(processes), "--prefetch-multiplier", "1", "--hostname", f"{name}@%h"]
    silence = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    # Asked to stop, it gives its tasks a few seconds and puts the unfinished ones back; both words are Celery's.
    soft = ["--", f"worker.soft_shutdown_timeout={SOFT_SECONDS}"]
    command = [sys.executable, "-m", "celery", "-q", "-A", "config", "worker", *options, *silence, "-Q", ",".join(queues), *soft]
    ready = ready_folder / name
    environment = {
        readiness.VARIABLE: str(ready),
        "REMAP_SIGTERM": "SIGQUIT",
        # Eight lines of warning at each start, in a container where there is nobody but root.
        "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
    }
    return Service(name, command, ready.exists, environment)


def beat(*, schedule: Path, ready_folder: Path) -> Service:
    """The one process that rings at fixed times."""
    command = [sys.executable, "-m", "celery", "-q", "-A", "config", "beat", "--schedule", str(schedule), "--pidfile="]
    ready = ready_folder / "beat"
    return Service("beat", command, ready.exists, {readiness.VARIABLE: str(ready)})


def sandbox(*, port: int, hub_port: int, speed: float, data: Path) -> Service:
    """Our own stand-in for Replicate and the Hugging Face Hub."""
    ports = ["--port", str(port), "--hub-port", str(hub_port)]
    command = [sys.executable, "-m", "jobs.sandbox", *ports, "--speed", f"{speed:g}", "--data", str(data)]
    return Service("sandbox", command, answers(f"http://127.0.0.1:{port}/control/help"))


def sandbox_environment(*, host: str, port: int, sandbox_port: int, hub_port: int, public_url: str) -> dict[str, str]:
    """Return what makes the other processes take the sandbox for Replicate and the Hub."""
    address = f"http://127.0.0.1:{sandbox_port}"
    return {
        "REPLICATE_BASE_URL": address,
        "TUNEHOUSE_STATUS_PAGE_URL": address,
        "HF_ENDPOINT": f"http://127.0.0.1:{hub_port}",
        # Large files by plain HTTP, which is all that a stand-in speaks.
        "HF_HUB_DISABLE_XET": "1",
        # Time runs faster there, and asking costs nothing.
        "TUNEHOUSE_POLL_SECONDS_LOG": os.environ.get("TUNEHOUSE_POLL_SECONDS_LOG", "5"),
        "TUNEHOUSE_POLL_SECONDS_SILENT": os.environ.get("TUNEHOUSE_POLL_SECONDS_SILENT", "1"),
        "TUNEHOUSE_ALLOW_PRIVATE_HOSTS": "1",
        "TUNEHOUSE_PUBLIC_URL": public_url or url(host, port),
    }


def rehearsal_environment(*, host: str, port: int, sandbox_port: int) -> dict[str, str]:
    """Return what tells the other processes of a sandbox beside Replicate."""
    return {"TUNEHOUSE_SANDBOX_URL": f"http://127.0.0.1:{sandbox_port}", "TUNEHOUSE_SANDBOX_CALLBACK_URL": url(host, port)}


def url(host: str, port: int) -> str:
    """Return the address at which this machine reaches a server that listens on `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{reachable}:{port}"


def answers(address: str) -> Callable[[], bool]:
    """Return a question: does this http address answer with success?"""
    # Never through a proxy that the environment names: the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask() -> bool:
        try:
            with opener.open(address, timeout=PROBE_SECONDS) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False

    return ask
