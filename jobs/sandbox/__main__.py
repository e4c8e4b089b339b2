"""`python -m jobs.sandbox`: serve the sandbox until SIGTERM or Ctrl-C; `READY <address>` on stdout says that it answers."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import uvicorn

from .app import Sandbox, build


class Server(uvicorn.Server):
    """uvicorn, but it says when it answers, and ends with exit code 0 when it was asked to stop."""

    address = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        print(f"READY {self.address}", flush=True)  # noqa: T201 (what supervisors wait for)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield


def main() -> int:
    options = _options()
    if options.speed <= 0:
        return _complain("--speed must be above 0: it says how many simulated seconds pass in one second.")
    try:
        lock = _lock(options.data)
    except BlockingIOError:
        return _complain(f"Another sandbox is using the folder {options.data}; stop it or name another folder with --data.")
    except OSError as error:
        return _complain(f"The folder {options.data} cannot be used ({error.strerror}); name another one with --data.")
    try:
        listener = _listen(options.host, options.port)
    except OSError as error:
        where = f"{options.host}:{options.port}"
        return _complain(f"Cannot listen on {where} ({error.strerror}); stop what uses it or choose another port with --port.")
    with lock, listener:
        return _serve(options, listener)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m jobs.sandbox", description="A stand-in for Replicate's HTTP API that costs nothing.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes any free port")
    parser.add_argument("--speed", type=float, default=1.0, metavar="N", help="simulated seconds that pass in one second (default 1)")
    parser.add_argument(
        "--data", type=Path, default=Path(".data/sandbox"), metavar="DIR", help="what the sandbox keeps (default .data/sandbox)"
    )
    parser.add_argument("--public-url", metavar="URL", help="how clients reach the sandbox, if not by host and port")
    return parser.parse_args()


def _lock(folder: Path) -> IO[str]:
    """Take the folder for this process. Raises BlockingIOError if another one has it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise
    return lock


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio switches off Nagle's algorithm, and its 40 ms an answer, only on such sockets.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _serve(options: argparse.Namespace, listener: socket.socket) -> int:
    logging.basicConfig(level=logging.WARNING, format="sandbox: %(levelname)s %(name)s: %(message)s")
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(options.host, options.host)  # noqa: S104 (translated, not bound)
    address = (options.public_url or f"http://{host}:{listener.getsockname()[1]}").rstrip("/")
    app = build(Sandbox(options.data, address, options.speed))
    server = Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1, lifespan="on"))
    server.address = address
    server.run(sockets=[listener])
    sys.stdout.flush()
    # A thread in the middle of an upload is not waited for: what is committed is enough to do it again.
    os._exit(0 if server.started else 1)


def _complain(sentence: str) -> int:
    print(sentence, file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(main())
