"""A Celery application whose messages are files below RINGING_FOLDER, and whose one task writes down what it was given."""

import os
import sys
from pathlib import Path

from celery import Celery

from config.embedded import broker

FOLDER = Path(os.environ["RINGING_FOLDER"])

app = Celery("ringing")
app.conf.update(
    broker_url=broker.URL,
    broker_transport_options=broker.transport_options(FOLDER),
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_default_queue="default",
    task_ignore_result=True,
    worker_enable_remote_control=False,
    worker_prefetch_multiplier=1,
)


@app.task(name="ringing.note")
def note(number: int) -> None:
    with (FOLDER / "notes").open("a") as notes:  # a line as short as this is appended whole
        notes.write(f"{number}\n")


if __name__ == "__main__":
    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        note.apply_async((number,), queue=sys.argv[3])
