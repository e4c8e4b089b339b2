"""Processes that look after the queue all at once."""

import sys
from multiprocessing.connection import Connection

from tests.jobs import many


class Dispatchers(many.Many):
    program = "tests.jobs.dispatchers"

    def start(self) -> None:
        """Have all of them dispatch at once."""
        self.tell(True)

    def finish(self) -> list[list[int]]:
        """Wait until all are done; the keys of the jobs that each has let go."""
        return [list(gone) for gone in self.hear()]


def dispatch_when_told(line: Connection) -> None:
    """Be one of them."""
    from jobs.services.dispatch import dispatch

    while line.recv():
        line.send([job.pk for job in dispatch()])


if __name__ == "__main__":
    many.load()
    many.lead(int(sys.argv[1]), dispatch_when_told, shares=lambda told, size: [told] * size)
