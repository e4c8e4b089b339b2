"""`manage.py up`: the whole product in the foreground, on one machine."""

import errno
import fcntl
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.embedded import services
from config.embedded.supervisor import Supervisor


class Command(BaseCommand):
    help = "Run the whole product in the foreground: web, workers, beat, and with --sandbox the stand-in for Replicate and the Hub."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default 127.0.0.1)")
        parser.add_argument("--port", type=int, default=8000, help="the port of pages and API (default 8000)")
        parser.add_argument("--sandbox", action="store_true", help="use our own stand-in for Replicate and the Hub; nothing costs money")
        parser.add_argument("--rehearsals", action="store_true", help="run the stand-in beside Replicate, for jobs that rehearse on it")
        parser.add_argument("--sandbox-port", type=int, default=8001, help="the port of the stand-in (default 8001)")
        parser.add_argument("--hub-port", type=int, default=0, help="the port of the stand-in's Hub (default: any free one)")
        parser.add_argument("--speed", type=float, default=60, help="simulated seconds a second in the stand-in (default 60)")

    def handle(
        self, *, host: str, port: int, sandbox: bool, rehearsals: bool, sandbox_port: int, hub_port: int, speed: float, **_: Any
    ) -> None:
        data_dir: Path = settings.DATA_DIR
        refuse_taken_port(host, port, option="--port")
        if sandbox or rehearsals:
            hub_port = hub_port or _free_port(apart_from={port, sandbox_port})
            refuse_taken_port("127.0.0.1", sandbox_port, option="--sandbox-port")
            refuse_taken_port("127.0.0.1", hub_port, option="--hub-port")
            if sandbox_port == port:
                raise CommandError(f"Both were to listen on port {port}: choose another with --sandbox-port.", returncode=2)
            if hub_port in (port, sandbox_port):
                raise CommandError(f"Two were to listen on port {hub_port}: choose another with --hub-port.", returncode=2)
        with _alone(data_dir):
            call_command("migrate", interactive=False, verbosity=0)
            ready_folder = data_dir / "ready"
            shutil.rmtree(ready_folder, ignore_errors=True)
            ready_folder.mkdir()
            product = [
                services.web(host=host, port=port),
                *services.workers(queues=_queues(), ready_folder=ready_folder),
                services.beat(schedule=data_dir / "celerybeat-schedule", ready_folder=ready_folder),
            ]
            environment = {"TUNEHOUSE_DATA": str(data_dir), **_secrets()}
            if sandbox or rehearsals:
                product.append(services.sandbox(port=sandbox_port, hub_port=hub_port, speed=speed, data=data_dir / "sandbox"))
            if rehearsals:
                environment |= services.rehearsal_environment(host=host, port=port, sandbox_port=sandbox_port)
            if sandbox:
                environment |= services.sandbox_environment(
                    host=host, port=port, sandbox_port=sandbox_port, hub_port=hub_port, public_url=settings.PUBLIC_URL
                )
            code = Supervisor(product, environment=environment).run(ready_line=f"READY {services.url(host, port)}")
        if code:
            raise CommandError("The product does not start; what it said last stands above.", returncode=code)


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Hold the data folder against a second `up`, whose workers would take this one's messages."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                f"Another `manage.py up` already runs on the data in {data_dir}: stop it, or name another folder in TUNEHOUSE_DATA.",
                returncode=2,
            ) from None
        yield


def refuse_taken_port(host: str, port: int, *, option: str) -> None:
    """Raise CommandError, with exit code 2, when we cannot listen on the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError as error:
            raise CommandError(f"There is no port {port}: choose one from 1 to 65535 with {option}.", returncode=2) from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                reason = f"Port {port} on {host} is taken by another program: stop it, or choose another port with {option}."
            else:
                reason = f"Port {port} on {host} cannot be used ({error.strerror}): choose another with {option}."
            raise CommandError(reason, returncode=2) from error


def _free_port(*, apart_from: set[int]) -> int:
    """Return a port that nobody listens on, nor is going to."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in apart_from:
            return port


def _queues() -> set[str]:
    """Return the names of all queues that tasks go to."""
    return {settings.CELERY_TASK_DEFAULT_QUEUE, *(route["queue"] for route in settings.CELERY_TASK_ROUTES.values())}


def _secrets() -> dict[str, str]:
    """Return what settings took out of the environment; each process reads and removes it again by itself."""
    taken = {"REPLICATE_API_TOKEN": settings.REPLICATE_API_TOKEN, "HF_TOKEN": settings.HF_TOKEN}
    return {name: value for name, value in taken.items() if value}
