"""What the supervised processes print, as one readable stream: whole lines, each with the name of who said it."""

import os
import signal
import sys
from typing import Any, TextIO

NAME_WIDTH = 8
COLOURS = (36, 33, 35, 32, 34, 31)  # ANSI: cyan, yellow, magenta, green, blue, red


class Console:
    """Writes lines to one output, coloured when that is a terminal."""

    def __init__(self, output: TextIO | None = None):
        self.output = output or sys.stdout
        self._colours: dict[str, int] = {}
        self._is_closed = False

    def say(self, name: str, line: str) -> None:
        """Write one line as the process `name`."""
        prefix = f"{name:<{NAME_WIDTH}}| "
        if self.output.isatty():
            colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
            prefix = f"\033[{colour}m{prefix}\033[0m"
        self.bare(prefix + line)

    def bare(self, line: str) -> None:
        """Write one line as it is, at once. When nobody can read any more, ask this process to stop."""
        if self._is_closed:
            return
        try:
            self.output.write(line + "\n")
            self.output.flush()
        except OSError:
            self._is_closed = True
            os.kill(os.getpid(), signal.SIGTERM)


class Speaker:
    """One process's output, in the form in which circus hands over what it reads from a pipe."""

    def __init__(self, console: Console, name: str):
        self.console = console
        self.name = name
        self.last_line = ""
        self._unfinished: dict[str, bytes] = {}

    def __call__(self, chunk: dict[str, Any]) -> None:
        pipe = chunk["name"]  # standard output and standard error must not be mixed within a line
        *lines, self._unfinished[pipe] = (self._unfinished.get(pipe, b"") + chunk["data"]).split(b"\n")
        for line in lines:
            self._say(line)

    def finish(self) -> None:
        """Write what a process that ended left without a line end."""
        for rest in self._unfinished.values():
            if rest:
                self._say(rest)
        self._unfinished.clear()

    def close(self) -> None:
        self.finish()

    def _say(self, content: bytes) -> None:
        line = content.decode(errors="replace").rstrip("\r")
        if line.strip():
            self.last_line = line.strip()
        self.console.say(self.name, line)
