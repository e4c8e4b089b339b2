"""Looking on while others write."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

from django.db import connection


class Watching:
    """Looks again and again, by a connection of its own, until the end of the `with`; keeps all that it saw, and how often it looked."""

    def __init__(self, look: Callable[[], Iterable[Any]]) -> None:
        self.look = look
        self.seen: set[Any] = set()
        self.looks = 0

    def __enter__(self) -> Self:
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.over.set()
        self.thread.join(timeout=60)

    def _watch(self) -> None:
        is_over = False
        try:
            while not is_over:
                is_over = self.over.is_set()  # so that the end is seen, too
                self.seen.update(self.look())
                self.looks += 1
        finally:
            connection.close()
