"""How a Celery process tells `manage.py up` that it works: a file, since a broker of files has no remote control."""

import os
from pathlib import Path

from celery.signals import beat_init, worker_ready

# Set by `up` for each process that it starts; without it nothing is written.
VARIABLE = "TUNEHOUSE_READY_FILE"


def connect() -> None:
    """Have this process write its number into the file that `up` waits for, once it is ready to work."""
    if os.environ.get(VARIABLE):
        worker_ready.connect(_announce)
        beat_init.connect(_announce)


def _announce(**_: object) -> None:
    Path(os.environ[VARIABLE]).write_text(str(os.getpid()))
