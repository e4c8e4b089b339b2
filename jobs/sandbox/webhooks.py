"""Webhooks: sign, send, and for the last one of a prediction, send again.

Source: Replicate docs, topics/webhooks (setup, receive, verify); the signature
is the Standard Webhooks one. How often a terminal webhook is retried is not
documented beyond "the last about a minute after completion": RETRY_AT is ours.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import importlib.util
import json
import secrets
import sqlite3
import sys
import time
from typing import Any

import httpx

from .predictions import Predictions
from .rules import Rules
from .store import Store

RETRY_AT = (0, 1, 3, 7, 15, 31, 60)  # wall seconds after the end at which a terminal webhook is tried
RECEIVER_TIMEOUT = 10.0  # seconds
GAP = 0.5  # seconds between two `logs` or `output` webhooks of a prediction

# httpcore tries to import sniffio several times a request. Where it is not installed, this saves a search of the whole path each time.
if importlib.util.find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]


def sign(secret: str, webhook_id: str, timestamp: int, body: bytes) -> str:
    """Make the `webhook-signature` of a delivery; `secret` begins with whsec_.

    Source: Standard Webhooks specification, "signature scheme".
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


class Webhooks:
    """Sends what is due. Rows of `deliveries` in the state `pending` are terminal webhooks that must still arrive."""

    def __init__(self, store: Store, rules: Rules, predictions: Predictions):
        self.store = store
        self.rules = rules
        self.predictions = predictions
        self._tls = httpx.create_ssl_context()
        self._sending: set[asyncio.Task[None]] = set()
        self._last: dict[str, float] = {}  # monotonic time of the latest `logs` or `output` of a prediction
        self._busy: set[str] = set()  # predictions whose latest `logs` is still on its way

    def resume(self) -> None:
        """Go on with what an earlier life of the sandbox still owed."""
        for row in self.store.all("SELECT id FROM deliveries WHERE state = 'pending'"):
            self.deliver(row["id"])

    async def stop(self) -> None:
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    def announce(self, row: sqlite3.Row, event: str) -> None:
        """Send an intermediate webhook, once; of `logs` at most one in GAP seconds, `output` waits for its turn."""
        if not _is_wanted(row, event):
            return
        wait = 0.0
        if event != "start":
            wait = self._last.get(row["id"], -GAP) + GAP - time.monotonic()
            if event == "logs" and (wait > 0 or row["id"] in self._busy):
                return  # the next one carries all that this one would have said
            self._last[row["id"]] = time.monotonic() + max(wait, 0)
        with self.store.transaction() as db:
            delivery = self._insert(db, row, event, state="sent")
        self._spawn(self._send_once(delivery, row["id"], self._body(row), max(wait, 0)))

    def owe(self, db: sqlite3.Connection, row: sqlite3.Row) -> str | None:
        """Note, in the transaction that ends a prediction, that its receiver must hear of it; `deliver` it after the commit."""
        self._last.pop(row["id"], None)
        if not _is_wanted(row, "completed"):
            return None
        delivery = self._insert(db, row, "completed", state="pending")
        db.execute("UPDATE deliveries SET body = ? WHERE id = ?", (self._body(row), delivery))
        return delivery

    def deliver(self, delivery: str) -> None:
        self._spawn(self._send_until_received(delivery))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def _insert(self, db: sqlite3.Connection, row: sqlite3.Row, event: str, state: str) -> str:
        delivery = f"msg_{secrets.token_hex(13)}"
        db.execute(
            "INSERT INTO deliveries (id, prediction, account, event, status, url, state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (delivery, row["id"], row["account"], event, row["status"], row["webhook"], state, time.time()),
        )
        return delivery

    def _body(self, row: sqlite3.Row) -> bytes:
        return json.dumps(self.predictions.render(row), ensure_ascii=False, separators=(",", ":")).encode()

    async def _send_once(self, delivery: str, prediction_id: str, body: bytes, wait: float) -> None:
        self._busy.add(prediction_id)
        await asyncio.sleep(wait)
        await self._attempt(self._row(delivery), body)
        self._busy.discard(prediction_id)

    async def _send_until_received(self, delivery: str) -> None:
        row = self._row(delivery)
        for attempt in range(row["attempts"], len(RETRY_AT)):
            # After a restart what is overdue goes out at once, but never two attempts in the same second.
            due = row["created_at"] + RETRY_AT[attempt] - time.time()
            await asyncio.sleep(max(due, 1.0 if attempt > row["attempts"] else 0.0))
            if await self._attempt(self._row(delivery), row["body"]):
                return
        self.store.write("UPDATE deliveries SET state = 'given up', body = NULL WHERE id = ?", delivery)

    def _row(self, delivery: str) -> sqlite3.Row:
        row = self.store.one("SELECT * FROM deliveries WHERE id = ?", delivery)
        assert row is not None
        return row

    async def _attempt(self, row: sqlite3.Row, body: bytes) -> bool:
        """Send a delivery now, stamped and signed anew, and say whether it needs no further attempt."""
        if self.rules.use("webhooks", row["prediction"], row["account"]) == "drop":
            self.store.write("UPDATE deliveries SET state = 'dropped', body = NULL WHERE id = ?", row["id"])
            return True
        status, error = await self._post(row, body)
        received = status is not None and 200 <= status < 300
        with self.store.transaction() as db:
            db.execute("UPDATE deliveries SET attempts = attempts + 1 WHERE id = ?", (row["id"],))
            db.execute(
                "INSERT INTO attempts (delivery, attempt, response_status, error, at) VALUES (?, ?, ?, ?, ?)",
                (row["id"], row["attempts"] + 1, status, error, time.time()),
            )
            if received:
                db.execute("UPDATE deliveries SET state = 'received', body = NULL WHERE id = ?", (row["id"],))
        return received

    async def _post(self, row: sqlite3.Row, body: bytes) -> tuple[int | None, str | None]:
        account = self.store.one("SELECT webhook_secret FROM accounts WHERE username = ?", row["account"])
        assert account is not None
        timestamp = int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": "Replicate Webhooks (sandbox)",
            "webhook-id": row["id"],
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(account["webhook_secret"], row["id"], timestamp, body),
        }
        # A connection for each: httpx's pool looks at all of its connections for every request, which hundreds of runs would feel.
        # No proxies from the environment: receivers are near, and a signed body belongs to nobody else.
        client = httpx.AsyncClient(verify=self._tls, timeout=RECEIVER_TIMEOUT, follow_redirects=False, trust_env=False)
        try:
            # Streamed, because only the status counts: a receiver's long answer is not read.
            async with client, client.stream("POST", row["url"], content=body, headers=headers) as response:
                return response.status_code, None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return None, type(error).__name__

    def history(self, prediction_id: str) -> list[dict[str, Any]]:
        """List every attempt, and every delivery without one, of a prediction's webhooks, oldest first."""
        rows = self.store.all(
            "SELECT deliveries.*, attempt, response_status, error, at FROM deliveries LEFT JOIN attempts ON delivery = id "
            "WHERE prediction = ? ORDER BY coalesce(at, created_at)",
            prediction_id,
        )
        shown = ("event", "status", "state", "attempt", "response_status", "error", "at")
        return [{"webhook_id": row["id"], **{name: row[name] for name in shown}} for row in rows]


def _is_wanted(row: sqlite3.Row, event: str) -> bool:
    return row["webhook"] is not None and event in json.loads(row["webhook_events_filter"])
