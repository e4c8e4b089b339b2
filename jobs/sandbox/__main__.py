"""`python -m jobs.sandbox`: serve the sandbox until SIGTERM or Ctrl-C; `READY <address>` on stdout says that it answers.

With --hub-port a second line says where the Hub is: `HUB <address>`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
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
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from . import hub, publishing
from .app import Sandbox, build
from .rules import PROFILES


class Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's protocol, but requests know their connection as `request.state.connection`, so that it can be broken on demand."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "connection": transport}  # type: ignore[has-type]


class Server(uvicorn.Server):
    """uvicorn, but it says when it answers, and ends with exit code 0 when it was asked to stop."""

    greeting = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        print(self.greeting, flush=True)  # noqa: T201 (what supervisors wait for)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield


class ByPort:
    """Hands what comes in at the Hub's port to the Hub, and all else to Replicate's API."""

    def __init__(self, api: ASGIApp, hub: ASGIApp, hub_port: int):
        self.api = api
        self.hub = hub
        self.hub_port = hub_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_for_hub = scope["type"] == "http" and scope["server"][1] == self.hub_port
        await (self.hub if is_for_hub else self.api)(scope, receive, send)


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
    with lock, contextlib.ExitStack() as stack:
        listeners = []
        for option, port in (("--port", options.port), ("--hub-port", options.hub_port)):
            if port is None:
                continue
            try:
                listeners.append(stack.enter_context(_listen(options.host, port)))
            except OSError as error:
                where = f"{options.host}:{port}"
                return _complain(f"Cannot listen on {where} ({error.strerror}); stop what uses it or choose another port with {option}.")
        return _serve(options, listeners)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m jobs.sandbox", description="A stand-in for Replicate's HTTP API that costs nothing.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes any free port")
    parser.add_argument("--hub-port", type=int, metavar="PORT", help="serve a stand-in for the Hugging Face Hub, too (0: at any free port)")
    parser.add_argument("--speed", type=float, default=1.0, metavar="N", help="simulated seconds that pass in one second (default 1)")
    parser.add_argument(
        "--data", type=Path, default=Path(".data/sandbox"), metavar="DIR", help="what the sandbox keeps (default .data/sandbox)"
    )
    parser.add_argument(
        "--profile",
        choices=PROFILES,
        default="realistic",
        help="sparse: predictions show only the keys of recorded answers; strict: no http webhooks, no archives, and a cut-off after 30 "
        "minutes (default realistic)",
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
    """Listen on a port; 0 takes any free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio switches off Nagle's algorithm, and its 40 ms an answer, only on such sockets.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OverflowError as error:
        listener.close()
        raise OSError(errno.EINVAL, "there is no such port") from error
    except OSError:
        listener.close()
        raise
    return listener


def _serve(options: argparse.Namespace, listeners: list[socket.socket]) -> int:
    logging.basicConfig(level=logging.WARNING, format="sandbox: %(levelname)s %(name)s: %(message)s")
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(options.host, options.host)  # noqa: S104 (translated, not bound)
    ports = [listener.getsockname()[1] for listener in listeners]
    address = (options.public_url or f"http://{host}:{ports[0]}").rstrip("/")
    sandbox = Sandbox(options.data, address, options.speed, options.profile)
    app: ASGIApp = build(sandbox)
    greeting = f"READY {address}"
    if options.hub_port is not None:
        app = ByPort(app, hub.build(sandbox), ports[1])
        hub_address = f"http://{host}:{ports[1]}"
        publishing.use_hub(hub_address)
        greeting += f"\nHUB {hub_address}"
    server = Server(uvicorn.Config(app, http=Protocol, log_config=None, access_log=False, timeout_graceful_shutdown=1, lifespan="on"))
    server.greeting = greeting
    server.run(sockets=listeners)
    sys.stdout.flush()
    # A thread in the middle of an upload is not waited for: what is committed is enough to do it again.
    os._exit(0 if server.started else 1)


def _complain(sentence: str) -> int:
    print(sentence, file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(main())
