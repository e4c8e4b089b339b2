"""Runs a list of services in the foreground until it is asked to stop: circus does the work, this module says how.

What dies is started again, at once the first time and then with growing pauses. Asked to stop (Ctrl-C, SIGTERM, a closed
terminal), it asks every process, waits, and kills what is left. Killed itself, it takes everything with it (`tether`).
"""

import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from circus.arbiter import Arbiter
from circus.exc import ConflictError
from circus.watcher import Watcher
from tornado import gen

from config.embedded import tether
from config.embedded.console import Console, Speaker
from config.embedded.services import Service

BASE_DIR = Path(__file__).resolve().parents[2]

GRACE_SECONDS = 10
CHECK_SECONDS = 0.5
READY_POLL_SECONDS = 0.2
# A process that lived for less has died at once; after so many times in a row that is worth a sentence.
SHORT_LIFE_SECONDS = 10
MANY_DEATHS = 5
LONGEST_PAUSE_SECONDS = 30
PIPE_BYTES = 65536  # as much as a pipe holds; Linux manual, pipe(7)
OWN_NAME = "up"


class Supervised(Watcher):
    """One service's process: started again when it dies, after a pause that grows while it keeps dying at once."""

    def __init__(self, service: Service, supervisor: "Supervisor"):
        self.service = service
        self.supervisor = supervisor
        self.speaker = Speaker(supervisor.console, service.name)
        self.deaths = 0
        self._started_at = 0.0
        self._not_before = 0.0
        command = [str(Path(tether.__file__)), str(os.getpid()), *service.command]
        super().__init__(
            service.name,
            shlex.join([sys.executable, "-I", "-S"]),
            args=command,
            working_dir=str(BASE_DIR),
            copy_env=True,
            env={"PYTHONUNBUFFERED": "1", **supervisor.environment, **service.environment},
            graceful_timeout=supervisor.grace,
            stdout_stream={"stream": self.speaker},
            stderr_stream={"stream": self.speaker},
            hooks={
                "after_spawn": (self._note_start, True),
                "before_reap": (self._hear_last_words, True),
                "after_reap": (self._note_death, True),
            },
        )

    @gen.coroutine
    def manage_processes(self) -> Any:
        # Circus's own way drops a process that died this moment without a word.
        if self.is_active() and not self.processes and time.monotonic() >= self._not_before:
            yield self.spawn_processes()

    def _note_start(self, **_: Any) -> bool:
        self._started_at = time.monotonic()
        return True

    def _hear_last_words(self, process_pid: int, **_: Any) -> None:
        """Read what a dead process left in its pipes, and stop looking at them.

        Circus closes them, and goes on looking until it has read to the end, which a living child of the dead can put off.
        When another pipe gets their numbers meanwhile, circus finds it watched already and never starts the service again.
        """
        process = self.processes[process_pid]
        for name, pipe in self.stream_redirector.get_process_pipes(process):
            if not pipe.closed:  # as it is when the process was asked to stop
                os.set_blocking(pipe.fileno(), False)
                self.speaker({"name": name, "data": pipe.read1(PIPE_BYTES) or b""})
        self.stream_redirector.remove_redirections(process)

    def _note_death(self, exit_code: int | None, **_: Any) -> None:
        self.speaker.finish()
        if self.is_stopping() or self.supervisor.is_stopping:
            return
        is_short = time.monotonic() - self._started_at < SHORT_LIFE_SECONDS
        self.deaths = self.deaths + 1 if is_short else 1
        pause = 0 if self.deaths == 1 else min(2 ** (self.deaths - 2), self.supervisor.longest_pause)
        self._not_before = time.monotonic() + pause
        self.supervisor.heard_of_death(self, how=_how(exit_code), pause=pause)


def _how(exit_code: int | None) -> str:
    if exit_code is None:
        return "for an unknown reason"
    return f"of {signal.Signals(-exit_code).name}" if exit_code < 0 else f"with exit code {exit_code}"


class Supervisor:
    """The services of one `up`. `run` blocks; it may be called once, from the main thread."""

    def __init__(
        self,
        services: Iterable[Service],
        *,
        environment: dict[str, str] | None = None,
        console: Console | None = None,
        grace: float = GRACE_SECONDS,
        longest_pause: float = LONGEST_PAUSE_SECONDS,
    ):
        """Prepare the services; `environment` is given to every process in addition to ours.

        `grace` is how many seconds a process gets to stop, `longest_pause` how many pass at most before a dead one is started again.
        """
        self.environment = environment or {}
        self.console = console or Console()
        self.grace = grace
        self.longest_pause = longest_pause
        self.is_stopping = False
        self.is_ready = False
        self._gave_up = False
        logging.getLogger("circus").setLevel(logging.WARNING)
        self._watchers = [Supervised(service, self) for service in services]
        # Nobody is to command us from outside, so both of circus's sockets stay inside this process.
        self._arbiter = Arbiter(self._watchers, endpoint="inproc://commands", pubsub_endpoint="inproc://events", check_delay=CHECK_SECONDS)
        for watched in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            # In place of circus's own handlers, whose request is lost when it comes while a process is being started.
            self._arbiter.loop.asyncio_loop.add_signal_handler(watched, self._stop)

    def run(self, *, ready_line: str) -> int:
        """Run the services until somebody asks to stop; write `ready_line` once all are ready. Returns the exit code."""
        threading.Thread(target=self._wait_until_ready, args=(ready_line,), daemon=True).start()
        started = self._arbiter.start(cb=lambda future: future.result())
        started.result()
        return 1 if self._gave_up else 0

    def heard_of_death(self, watcher: Supervised, *, how: str, pause: float) -> None:
        """Say that a process has died and what happens now."""
        again = f"in {pause:g} s" if pause else "at once"
        if watcher.deaths < MANY_DEATHS:
            self.console.say(OWN_NAME, f"{watcher.name} has died {how}; it is started again {again}.")
            return
        self.console.say(
            OWN_NAME,
            f"{watcher.name} has died {watcher.deaths} times right after its start, the last time {how}; "
            f"its last line was: {watcher.speaker.last_line or '(none)'}",
        )
        if not self.is_ready:
            self.console.say(OWN_NAME, "Nothing is served yet, so everything is stopped.")
            self._gave_up = True
            self._arbiter.loop.add_callback(self._stop)

    @gen.coroutine
    def _stop(self) -> Any:
        if self.is_stopping:
            return
        self.is_stopping = True
        self.console.say(OWN_NAME, "Stopping.")
        self._arbiter.ctrl.caller.stop()  # it would look after the processes that we end
        while True:
            try:
                yield self._arbiter.stop()
                return
            except ConflictError:
                yield gen.sleep(READY_POLL_SECONDS)  # circus does one thing at a time, and is starting something just now

    def _wait_until_ready(self, ready_line: str) -> None:
        waiting = [watcher.service for watcher in self._watchers]
        while waiting and not self.is_stopping:
            waiting = [service for service in waiting if not service.is_ready()]
            time.sleep(READY_POLL_SECONDS if waiting else 0)
        if not self.is_stopping:
            self.is_ready = True
            self.console.bare(ready_line)
