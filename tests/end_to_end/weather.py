"""Bad weather between the provider and the inbox: what is sent gets lost, comes twice, comes late.

The provider delivers here, and from here each delivery goes on with its own bytes and headers. What is lost was never sent as
far as both sides know. A delivery of a run's end waits for the inbox's answer, which is the provider's answer too, so that
the provider sends again what did not arrive; what is told in passing is sent once, as the provider itself does.
"""

import json
import random
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

ENDED = {"succeeded", "failed", "canceled", "aborted"}
LOST, TWICE, LATE, ON_TIME = "lost", "twice", "late", "on time"
# Of each ten deliveries one is never sent, three are sent twice and two are overtaken by the next.
DECK = [LOST] + [TWICE] * 3 + [LATE] * 2 + [ON_TIME] * 4
SENDERS = 8
CONNECTION = {"host", "connection", "content-length", "accept", "accept-encoding", "transfer-encoding"}


@dataclass(frozen=True)
class Answer:
    """What the inbox answered to one sending: its status, None where the connection died, and how many seconds that took."""

    webhook_id: str
    status: int | None
    seconds: float


@dataclass(frozen=True)
class Delivery:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]


class Weather:
    """A receiver at `url` that passes on to `target` in its own way. `answers` are all that the target gave, in their order."""

    def __init__(self, target: str, *, seed: int = 7) -> None:
        self.answers: list[Answer] = []
        self.fates: dict[str, str] = {}
        self._target = target
        self._random = random.Random(seed)
        self._deck: list[str] = []
        self._late: defaultdict[str, list[Delivery]] = defaultdict(list)
        self._lock = threading.Lock()
        self._inbox = httpx.Client(timeout=30, trust_env=False)
        self._senders = ThreadPoolExecutor(SENDERS)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Weather":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._senders.shutdown(cancel_futures=True)
        self._inbox.close()

    @property
    def made(self) -> int:
        """How many deliveries the provider has made, each counted once however often it tried."""
        return len(self.fates)

    @property
    def received(self) -> set[str]:
        """The deliveries that the inbox has taken: it answered 2xx."""
        return {answer.webhook_id for answer in self.answers if answer.status is not None and 200 <= answer.status < 300}

    def calm_down(self) -> None:
        """Send what is still late, and wait until all is answered. Call it when the provider makes no more."""
        with self._lock:
            late = [delivery for held in self._late.values() for delivery in held]
            self._late.clear()
        for delivery in late:
            self._senders.submit(self._send, delivery)
        self._senders.shutdown()

    def said(self) -> str:
        """The figures, for people."""
        ok = sorted(answer.seconds for answer in self.answers if answer.status == 200)
        fates, statuses = Counter(self.fates.values()), Counter(str(answer.status) for answer in self.answers)
        return (
            f"{self.made} deliveries ({dict(fates)}), {len(self.answers)} sendings ({dict(statuses)}), {len(self.received)} taken; "
            f"answer p50 {_at(ok, 0.50):.0f} ms, p99 {_at(ok, 0.99):.0f} ms, slowest {ok[-1] * 1000:.0f} ms"
        )

    def pass_on(self, delivery: Delivery) -> int:
        """Do to a delivery what the weather wants, and return what the provider hears."""
        said = json.loads(delivery.body)
        run, has_ended = said["id"], said["status"] in ENDED
        match self._fate_of(delivery):
            case fate if fate == LOST:
                return 200
            case fate if fate == LATE and not has_ended:
                with self._lock:
                    self._late[run].append(delivery)
                return 200
            case fate if fate == TWICE:
                self._senders.submit(self._send, delivery)
        if has_ended:
            status = self._send(delivery)
            self._let_go(run)
            return status or 502
        self._senders.submit(self._send_before_the_late, delivery, run)
        return 200

    def _fate_of(self, delivery: Delivery) -> str:
        """What becomes of a delivery; one that is tried again meets the same fate again."""
        with self._lock:
            if delivery.webhook_id not in self.fates:
                if not self._deck:
                    self._deck = self._random.sample(DECK, len(DECK))
                self.fates[delivery.webhook_id] = self._deck.pop()
            return self.fates[delivery.webhook_id]

    def _send_before_the_late(self, delivery: Delivery, run: str) -> None:
        self._send(delivery)
        self._let_go(run)

    def _let_go(self, run: str) -> None:
        """Send what was overtaken, last things first."""
        with self._lock:
            late = self._late.pop(run, [])
        for delivery in reversed(late):
            self._send(delivery)

    def _send(self, delivery: Delivery) -> int | None:
        began = time.perf_counter()
        try:
            status = self._inbox.post(self._target + delivery.path, content=delivery.body, headers=delivery.headers).status_code
        except httpx.HTTPError:
            status = None
        self.answers.append(Answer(delivery.webhook_id, status, time.perf_counter() - began))
        return status

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        weather = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items() if name.lower() not in CONNECTION}
                self.send_response(weather.pass_on(Delivery(self.path, headers, body)))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000
