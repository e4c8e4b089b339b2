"""Celery's messages as files in the data folder, for an installation without Redis or RabbitMQ.

Kombu's own filesystem transport writes a message under its final name, so that a worker may read half of it and die.
This one writes to a temporary name and renames, keeps one folder a queue, and takes a message by removing its file,
which only one of several workers can do.

What it promises is little, on purpose: rows are the truth and a message is only a bell. A message that a worker had
taken and not finished goes back to its queue when the worker stops, and is lost when it is killed with SIGKILL;
the sweep then finds the work in the database and rings again.
"""

import contextlib
import fcntl
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from queue import Empty
from typing import Any
from urllib.parse import quote

import structlog
from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem, virtual
from kombu.utils.encoding import bytes_to_str, str_to_bytes
from kombu.utils.json import dumps, loads

NAME = "renaming-filesystem"
URL = f"{NAME}://localhost"
POLLING_SECONDS = 0.05

log = structlog.get_logger(__name__)

TRANSPORT_ALIASES[NAME] = f"{__name__}:Transport"

Binding = filesystem.exchange_queue_t


def transport_options(data_dir: Path) -> dict[str, Any]:
    """Return Celery's `broker_transport_options` for the messages in `data_dir`. Creates nothing."""
    return {"folder": str(data_dir / "broker"), "polling_interval": POLLING_SECONDS}


class Channel(filesystem.Channel):
    """Queues as folders of files, exchanges as files that list their queues."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # Names seen at the last look into a queue's folder, so that a long queue is not listed for each message.
        self._seen: dict[str, deque[str]] = {}

    @cached_property
    def folder(self) -> Path:
        return Path(self.transport_options["folder"])

    @property
    def control_folder(self) -> Path:
        return self.folder / "exchanges"

    # --- Messages -----------------------------------------------------------------------------------------

    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]  # kombu's two parents disagree
        # The names sort by time, so that the oldest message is taken first.
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex}"
        try:
            self._write(self._queue_folder(queue) / name, payload)
        except OSError as error:
            raise ChannelError(f"A message for the queue {queue!r} cannot be written: {error}") from error

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        folder = self._queue_folder(queue)
        for name in self._names(queue):
            file = folder / name
            try:
                content = file.read_bytes()
                file.unlink()
            except FileNotFoundError:
                continue  # another worker has taken it
            except OSError as error:
                raise ChannelError(f"The message {file} cannot be taken: {error}") from error
            try:
                return loads(bytes_to_str(content))
            except ValueError:
                # A machine that lost its power can leave an empty file. Dying of it would stop every worker for ever.
                log.warning("message.unreadable", queue=queue, bytes=len(content))
        raise Empty

    def _names(self, queue: str) -> Iterator[str]:
        """Yield the names of messages, oldest first: those still known from the last look, then those of one new look."""
        seen = self._seen.setdefault(queue, deque())
        while seen:
            yield seen.popleft()
        seen.extend(sorted(self._list(queue)))
        while seen:
            yield seen.popleft()

    def _list(self, queue: str) -> list[str]:
        try:
            return os.listdir(self._queue_folder(queue))
        except FileNotFoundError:
            return []

    def _size(self, queue: str) -> int:
        return len(self._list(queue))

    def _purge(self, queue: str) -> int:
        removed = 0
        for name in self._list(queue):
            with contextlib.suppress(FileNotFoundError):
                (self._queue_folder(queue) / name).unlink()
                removed += 1
        return removed

    def _queue_folder(self, queue: str) -> Path:
        # Names of queues come with every character; a leading dot could name the folder itself or the one above.
        return self.folder / "queues" / quote(queue, safe="").replace(".", "%2E")

    def _write(self, file: Path, content: Any) -> None:
        """Write a file so that whoever sees its name sees all of it."""
        unfinished = self.folder / "unfinished" / uuid.uuid4().hex
        for folder in (unfinished.parent, file.parent):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_bytes(str_to_bytes(dumps(content)))
            unfinished.rename(file)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise

    # --- Exchanges ----------------------------------------------------------------------------------------

    def get_table(self, exchange: str) -> list[Binding]:
        try:
            return [Binding(*binding) for binding in loads(self._exchange_file(exchange).read_text())]
        except FileNotFoundError:
            return []

    def _queue_bind(self, exchange: str, routing_key: str | None, pattern: str | None, queue: str | None) -> None:
        bound = Binding(routing_key or "", pattern or "", queue or "")
        self._change_table(exchange, lambda table: table if bound in table else [bound, *table])

    def _delete(self, queue: str, exchange: str, routing_key: str | None, pattern: str | None, *_: Any, **__: Any) -> None:
        self._purge(queue)
        bound = Binding(routing_key or "", pattern or "", queue or "")
        self._change_table(exchange, lambda table: [binding for binding in table if binding != bound])

    def _change_table(self, exchange: str, change: Callable[[list[Binding]], list[Binding]]) -> None:
        """Change the list of an exchange's queues, one process at a time; readers see the old list or the new one."""
        file = self._exchange_file(exchange)
        try:
            table = self.get_table(exchange)
            if change(table) == table:
                return  # nearly always: every publisher binds its queue again
            self.control_folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "exchanges.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._write(file, change(self.get_table(exchange)))
        except OSError as error:
            raise ChannelError(f"The exchange {exchange!r} cannot be changed: {error}") from error


class Transport(filesystem.Transport):
    """Celery's way to those files; its URL is `renaming-filesystem://`.

    A worker looks for messages from its event loop, as it does with Redis. Without one, its processes would wait for
    their next task under one lock that they share, and killing the one that holds it would stop the worker for ever.
    """

    Channel = Channel
    implements = filesystem.Transport.implements.extend(asynchronous=True)

    def __init__(self, client: Any, **options: Any):
        super().__init__(client, **options)
        # Kombu shares what has been declared among all connections of a process, even to different folders.
        self.state = virtual.BrokerState()
        self._looks: list[Any] = []

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        self._looks.append(loop.call_repeatedly(self.polling_interval, self._take_all))

    def close_connection(self, connection: Any) -> None:
        for look in self._looks:
            look.cancel()
        super().close_connection(connection)

    def _take_all(self) -> None:
        """Hand over every message that the worker has room for."""
        with contextlib.suppress(Empty):
            while True:
                self.cycle.get(self._deliver)  # type: ignore[union-attr]  # set by the constructor
