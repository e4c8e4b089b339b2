"""Run a program that does not outlive the process that started it.

Used as a script, before the program itself: `python -I -S tether.py PARENT_ID PROGRAM ARGUMENT…`. The program keeps this
process's number; when the parent dies, even of SIGKILL, the kernel kills the program. Elsewhere than on Linux it just runs it.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent, the process `parent`, dies. Source: Linux manual, prctl(2)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 (no shell is wanted)
