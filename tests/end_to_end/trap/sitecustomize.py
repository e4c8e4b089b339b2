"""Kills or stops a process of the product from outside, at the moment when it enters a given function.

Python runs this file at its start in every process that has this folder in PYTHONPATH. The product knows nothing of it.
A trap is a JSON file `trap.json` in the folder $TRAP_FOLDER: {"program", "file", "function", "call", "signal"}. The first
process whose command line holds `program` and that enters `function` of `file` for the `call`-th time takes the trap away,
leaves its own number in `sprung`, and sends itself the signal.
"""

import json
import os
import sys
from pathlib import Path

FOLDER = Path(os.environ.get("TRAP_FOLDER", "/nonexistent"))
ARMED, SPRUNG = FOLDER / "trap.json", FOLDER / "sprung"
COMMAND = " ".join(sys.orig_argv)
TRAPPED = ("packer@", "manage.py demo")
calls: dict[str, int] = {}


def watch(frame, event, _):
    """A trace function that looks at nothing but the start of functions, and only while a trap is armed."""
    code = frame.f_code
    if event == "call" and "/jobs/" in code.co_filename and ARMED.exists():
        step_on(code)


def step_on(code):
    armed = ARMED.read_text()
    trap = json.loads(armed)
    if trap["program"] not in COMMAND or code.co_name != trap["function"] or not code.co_filename.endswith(trap["file"]):
        return
    calls[armed] = calls.get(armed, 0) + 1
    if calls[armed] < trap["call"]:
        return
    new = FOLDER / f"sprung-{os.getpid()}"
    try:
        ARMED.rename(new)
    except FileNotFoundError:
        return  # another process was first
    new.write_text(str(os.getpid()))
    new.rename(SPRUNG)
    os.kill(os.getpid(), trap["signal"])


if any(program in COMMAND for program in TRAPPED):
    sys.settrace(watch)
    os.register_at_fork(after_in_child=lambda: sys.settrace(watch))
