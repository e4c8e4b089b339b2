"""Real processes for tests: started, spoken to by lines, waited for with a limit."""

import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parents[2]
# A start of the whole product takes half a minute where much else goes on, and a slow machine takes three times as long.
PATIENCE_SECONDS = 240
# Below those that Linux gives to whoever asks for any port, so that nobody gets one by chance before we use it.
PORTS = range(20_000, 32_000)
used_ports: set[int] = set()


class Running:
    """A running program whose lines can be waited for."""

    def __init__(self, *command: str, environment: dict[str, str] | None = None):
        self.process = subprocess.Popen(
            command,
            cwd=BASE_DIR,
            env={name: value for name, value in (os.environ | (environment or {})).items() if value},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        self.lines: list[str] = []
        self._unread: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._unread.put(line.rstrip("\n"))

    def line(self, wanted: Callable[[str], bool] = lambda _: True) -> str:
        """Return the next line that is wanted."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                line = self._unread.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"The line did not come; so far: {self.lines}") from None
            if wanted(line):
                return line

    def say(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self, how: signal.Signals | None = None) -> int:
        """Close its input, or send the signal; wait for its end and return its exit code."""
        if how:
            self.process.send_signal(how)
        if self.process.stdin:
            self.process.stdin.close()
        try:
            code = self.process.wait(timeout=PATIENCE_SECONDS)
        finally:
            self.process.kill()
            self._reader.join(timeout=PATIENCE_SECONDS)
            if self.process.stdout:
                self.process.stdout.close()
        return code


@contextmanager
def running(*command: str, environment: dict[str, str] | None = None) -> Iterator[Running]:
    """Run the program, and see to it that it is gone afterwards."""
    program = Running(*command, environment=environment)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.end(signal.SIGKILL)
        else:
            program.end()


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def wait_until(holds: Callable[[], object], *, seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "It did not come true in time."
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def free_port() -> int:
    """A port on which nobody listens, each time another one."""
    while True:
        port = secrets.choice(PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if port not in used_ports:
                used_ports.add(port)
                return port
