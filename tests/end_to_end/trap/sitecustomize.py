"""Kills or stops a process of the product from outside, when it enters a given function or comes to a given line of it.

Python runs this file at its start in every process that has this folder in PYTHONPATH. The product knows nothing of it.
A trap is a JSON file `NAME.trap` in the folder $TRAP_FOLDER: {"program", "file", "function", "call", "signal"}. The first
process whose command line holds `program` and that enters `function` of `file` for the `call`-th time takes the trap away,
leaves its own number in `NAME.sprung`, and sends itself the signal.

With {"line", "hit", "run_name", "inside"} beside them it springs right before the line is run for the `hit`-th time in one
call, only while the job with that run name is in hand, and only below a call of the function `inside`, if that is not empty.
"""

import json
import os
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ.get("TRAP_FOLDER", "/nonexistent"))
COMMAND = " ".join(sys.orig_argv)
PROGRAMS = os.environ.get("TRAP_PROGRAMS", "packer@,manage.py demo").split(",")
# Two changes of the folder may bear the same time.
SETTLED_SECONDS = 0.1
calls: dict[str, int] = {}
known: dict[str, list[dict]] = {}
read_at = 0.0


def armed() -> dict[str, list[dict]]:
    """The traps that lie there now, by the names of their functions."""
    global known, read_at
    try:
        changed_at = FOLDER.stat().st_mtime
    except FileNotFoundError:
        return {}
    if changed_at + SETTLED_SECONDS > read_at:
        read_at, found = time.time(), {}
        for path in FOLDER.glob("*.trap"):
            try:
                text = path.read_text()
            except FileNotFoundError:
                continue  # it has just sprung
            trap = {"path": path, "text": text, **json.loads(text)}
            if trap["program"] in COMMAND:
                found.setdefault(trap["function"], []).append(trap)
        known = found
    return known


def watch(frame, event, _):
    """A trace function that looks at nothing but the start of functions in which a trap lies."""
    code = frame.f_code
    if event != "call" or "/jobs/" not in code.co_filename:
        return None
    on_lines = []
    for trap in armed().get(code.co_name, ()):
        if code.co_filename.endswith(trap["file"]) and lies_below(frame, trap.get("inside")):
            if "line" in trap:
                on_lines.append(trap)
            else:
                step_on(trap)
    return by_line(on_lines) if on_lines else None


def step_on(trap):
    calls[trap["text"]] = calls.get(trap["text"], 0) + 1
    if calls[trap["text"]] >= trap["call"]:
        spring(trap)


def by_line(traps):
    """Watch the lines of one call."""
    hits: dict[str, int] = {}

    def local(frame, event, _):
        if event == "line":
            for trap in traps:
                if trap["line"] == frame.f_lineno and trap["run_name"] == run_name(frame):
                    hits[trap["text"]] = hits.get(trap["text"], 0) + 1
                    if hits[trap["text"]] == trap["hit"]:
                        spring(trap)
        return local

    return local


def lies_below(frame, function):
    """Whether a function of this name is under way; true for none."""
    while frame is not None and function:
        if frame.f_code.co_name == function:
            return True
        frame = frame.f_back
    return not function


def run_name(frame):
    """The run name of the job that is in hand, by the nearest variable of that name."""
    while frame is not None:
        job = frame.f_locals.get("job")
        if job is not None and hasattr(job, "run_name"):
            return job.run_name
        frame = frame.f_back
    return None


def spring(trap):
    path = trap["path"]
    new = path.with_suffix(f".{os.getpid()}")
    try:
        path.rename(new)
    except FileNotFoundError:
        return  # another process was first
    new.write_text(str(os.getpid()))
    new.rename(path.with_suffix(".sprung"))
    os.kill(os.getpid(), trap["signal"])


if any(program in COMMAND for program in PROGRAMS):
    sys.settrace(watch)
    os.register_at_fork(after_in_child=lambda: sys.settrace(watch))
