import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from queue import Empty

import pytest
from kombu import Connection, Exchange, Queue
from kombu.exceptions import ChannelError

from config.embedded import broker
from tests.config.processes import Running, python, running, wait_until

WORKER = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "info"]


@pytest.fixture
def connect(tmp_path):
    def new_connection() -> Connection:
        return Connection(broker.URL, transport_options=broker.transport_options(tmp_path))

    return new_connection


def worker(folder: Path, *options: str) -> AbstractContextManager[Running]:
    command = python("-m", "celery", "-q", "-A", "tests.config.ringing", "worker", *WORKER, *options)
    return running(*command, environment={"RINGING_FOLDER": str(folder)})


def producer(folder: Path, first: int, beyond: int, queue: str = "default") -> AbstractContextManager[Running]:
    return running(*python("-m", "tests.config.ringing", str(first), str(beyond), queue), environment={"RINGING_FOLDER": str(folder)})


def notes(folder: Path) -> list[int]:
    try:
        return sorted(int(line) for line in (folder / "notes").read_text().splitlines())
    except FileNotFoundError:
        return []


def test_of_many_producers_and_workers_none_loses_or_doubles_a_message(tmp_path):
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(tmp_path, "-P", "solo", "-n", f"w{number}@h")) for number in range(3)]
        for each in workers:
            each.line(lambda line: "ready." in line)
        producers = [stack.enter_context(producer(tmp_path, number * 100, number * 100 + 100)) for number in range(4)]
        assert [each.end() for each in producers] == [0, 0, 0, 0]

        wait_until(lambda: len(notes(tmp_path)) >= 400)

        assert [each.end(signal.SIGTERM) for each in workers] == [0, 0, 0]
        assert notes(tmp_path) == list(range(400))
        assert [line for each in workers for line in each.lines if '"level": "error"' in line or "Traceback" in line] == []


def test_a_worker_takes_only_from_the_queues_that_it_is_told(tmp_path):
    with producer(tmp_path, 0, 2, "launch") as launch, producer(tmp_path, 10, 12, "rescue") as rescue:
        assert (launch.end(), rescue.end()) == (0, 0)

        with worker(tmp_path, "-P", "solo", "-Q", "rescue,default") as working:
            working.line(lambda line: "ready." in line)
            wait_until(lambda: len(notes(tmp_path)) >= 2)
            working.end(signal.SIGTERM)

    assert notes(tmp_path) == [10, 11]
    assert len(list((tmp_path / "broker" / "queues" / "launch").iterdir())) == 2


def test_a_worker_whose_waiting_processes_are_killed_goes_on_with_new_ones(tmp_path):
    with worker(tmp_path, "-P", "prefork", "-c", "2") as working:
        working.line(lambda line: "ready." in line)
        with producer(tmp_path, 0, 8) as sender:
            assert sender.end() == 0
        wait_until(lambda: len(notes(tmp_path)) == 8)  # both are up and wait for more
        first = children_of(working.process.pid)
        assert len(first) == 2
        for child in first:
            os.kill(child, signal.SIGKILL)
        # What is given to a child before its death is noticed goes down with it: rows are the truth, not bells.
        wait_until(lambda: len(children_of(working.process.pid) - first) == 2)

        with producer(tmp_path, 8, 18) as sender:
            assert sender.end() == 0
        wait_until(lambda: len(notes(tmp_path)) >= 18)

        assert working.end(signal.SIGTERM) == 0
    assert notes(tmp_path) == list(range(18))


def test_beat_rings(tmp_path):
    schedule = json.dumps({"note": {"task": "ringing.note", "schedule": 0.2, "args": [7]}})
    options = ["-q", "beat", "-s", str(tmp_path / "schedule"), "--pidfile="]
    code = f"from tests.config.ringing import app; app.conf.beat_schedule = {schedule}; app.start({options})"
    with running(*python("-c", code), environment={"RINGING_FOLDER": str(tmp_path)}) as beat:
        wait_until(lambda: messages(tmp_path, "default"))

        beat.end(signal.SIGTERM)


def children_of(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def messages(folder: Path, queue: str) -> list[Path]:
    try:
        return sorted((folder / "broker" / "queues" / queue).iterdir())
    except FileNotFoundError:
        return []


def received(queue) -> Iterator:
    while True:
        try:
            message = queue.get(block=False)
        except Empty:
            return
        message.ack()
        yield message.payload


def test_messages_come_in_the_order_in_which_they_were_sent(connect):
    with connect() as connection, connection.SimpleQueue("numbers") as queue:
        for number in range(20):
            queue.put(number)

        assert list(received(queue)) == list(range(20))


@pytest.mark.parametrize("name", ["a/b", "..", "worker@host.pidbox", "Ñandú", "a.b", "a%2Fb"])
def test_a_queue_may_have_any_name_and_stays_in_its_folder(connect, tmp_path, name):
    with connect() as connection, connection.SimpleBuffer("plain") as other:
        queue = Queue(name, Exchange("any", type="direct"), routing_key=name)
        with connection.Producer() as sender:
            sender.publish(name, exchange=queue.exchange, routing_key=name, declare=[queue])
        (message,) = [queue(connection.default_channel).get()]

        assert message.payload == name
        assert list(received(other)) == []
    assert {path.name for path in (tmp_path / "broker").iterdir()} <= {"queues", "exchanges", "exchanges.lock", "unfinished"}
    assert list(tmp_path.iterdir()) == [tmp_path / "broker"]


def test_what_a_stopping_worker_had_taken_goes_back_to_its_queue(connect, tmp_path):
    with connect() as sender, sender.SimpleQueue("jobs") as queue:
        queue.put("work")
    with connect() as connection, connection.SimpleQueue("jobs") as queue:
        assert queue.get(timeout=60).payload == "work"
        assert messages(tmp_path, "jobs") == []

    with connect() as connection, connection.SimpleQueue("jobs") as queue:
        assert list(received(queue)) == ["work"]


def test_a_message_that_a_power_cut_left_empty_is_dropped_and_the_next_one_comes(connect, tmp_path):
    with connect() as connection, connection.SimpleQueue("jobs") as queue:
        queue.put("first")
        queue.put("second")
        messages(tmp_path, "jobs")[0].write_bytes(b"")

        assert list(received(queue)) == ["second"]


def test_a_message_that_cannot_be_written_whole_is_not_there_at_all(connect, tmp_path):
    with connect() as connection, connection.SimpleQueue("jobs") as queue:
        queue.put("first")
        unfinished = tmp_path / "broker" / "unfinished"
        unfinished.rmdir()
        unfinished.write_text("in the way, as a full disk would be")

        with pytest.raises(ChannelError, match="cannot be written"):
            queue.put("second")

        assert list(received(queue)) == ["first"]


def test_size_and_purge_count_what_waits(connect):
    with connect() as connection, connection.SimpleQueue("jobs") as queue:
        for number in range(3):
            queue.put(number)

        assert queue.qsize() == 3
        assert queue.clear() == 3
        assert (queue.qsize(), list(received(queue))) == (0, [])


def test_queues_that_are_bound_at_once_are_all_known_to_their_exchange(connect):
    def bind(name: str) -> None:
        with connect() as connection:
            Queue(name, Exchange("shared", type="direct"), routing_key=name)(connection.default_channel).declare()

    names = [f"queue-{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bind, names))

    with connect() as connection:
        assert sorted(binding.queue for binding in connection.default_channel.get_table("shared")) == sorted(names)


def test_options_create_nothing(tmp_path):
    assert broker.transport_options(tmp_path) == {"folder": str(tmp_path / "broker"), "polling_interval": 0.05}
    assert list(tmp_path.iterdir()) == []
