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

from .accounts import Accounts, new_webhook_secret
from .predictions import ACTIVE, Predictions
from .rules import Rules
from .store import Store

RETRY_AT = (0, 1, 3, 7, 15, 31, 60)  # wall seconds after the end at which a terminal webhook is tried
RECEIVER_TIMEOUT = 10.0  # seconds
GAP = 0.5  # seconds between two `logs` or `output` webhooks of a prediction
STALE_SECONDS = 3600  # how old the stamp of a stale webhook is

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
    """Sends what is due. Rows of `deliveries` in the state `pending` are those that must still be sent or, the last ones, still arrive.

    What the trainer adds to its log is told in passing: such a webhook is forgotten when the sandbox dies, since the next one has all.
    """

    def __init__(self, store: Store, rules: Rules, accounts: Accounts, predictions: Predictions):
        self.store = store
        self.rules = rules
        self.accounts = accounts
        self.predictions = predictions
        self._tls = httpx.create_ssl_context()
        self._sending: set[asyncio.Task[None]] = set()
        self._turn: dict[str, float] = {}  # when the latest `logs` of a prediction had been sent, in monotonic seconds
        self._busy: set[str] = set()  # predictions whose latest `logs` is still on its way

    def resume(self) -> None:
        """Go on with what an earlier life of the sandbox still owed."""
        for row in self.store.all("SELECT id FROM deliveries WHERE state = 'pending' ORDER BY created_at"):
            self.deliver(row["id"])

    async def stop(self) -> None:
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    def owe(self, db: sqlite3.Connection, row: sqlite3.Row, event: str) -> str | None:
        """Note, in the transaction that moves a prediction, that its receiver must hear of it; `deliver` it after the commit."""
        scopes = (row["id"], row["account"])
        if event == "completed" and row["status"] == "aborted" and not self.rules.use("aborted_completed", *scopes):
            return None
        if not _is_wanted(row, event):
            return None
        shown = self.predictions.render(row)
        if event == "start" and self.rules.use("start_status", *scopes) == "starting":
            shown["status"] = "starting"
        return self._insert(db, row, event, _json(shown))

    def deliver(self, delivery: str | None) -> None:
        """Send a delivery that was owed; None is nothing."""
        if delivery is not None:
            self._spawn(self._send(delivery))

    def tell_logs(self, row: sqlite3.Row) -> None:
        """Tell of a log that has grown, unless the last such webhook is under way or was sent less than GAP seconds ago."""
        if not _is_wanted(row, "logs") or row["id"] in self._busy or self._gap_left(row["id"]) > 0:
            return
        self._busy.add(row["id"])
        body = _json(self.predictions.render(row))
        with self.store.transaction() as db:
            delivery = self._insert(db, row, "logs", None)
        self._spawn(self._send_logs(delivery, row["id"], body))

    def _gap_left(self, prediction: str) -> float:
        return self._turn.get(prediction, 0.0) + GAP - time.monotonic()

    async def _wait_for_turn(self, prediction: str) -> None:
        """Wait until the last `logs` of a prediction that is over was sent, and GAP seconds longer."""
        while prediction in self._busy or self._gap_left(prediction) > 0:
            await asyncio.sleep(max(0.02, self._gap_left(prediction)))
        self._turn.pop(prediction, None)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def _insert(self, db: sqlite3.Connection, row: sqlite3.Row, event: str, body: bytes | None) -> str:
        """Note a webhook; without a body it is sent once and not owed."""
        delivery = f"msg_{secrets.token_hex(13)}"
        db.execute(
            "INSERT INTO deliveries (id, prediction, account, event, status, url, body, state, created_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (delivery, row["id"], row["account"], event, row["status"], row["webhook"], body, "pending" if body else "sent", time.time()),
        )
        return delivery

    async def _send_logs(self, delivery: str, prediction: str, body: bytes) -> None:
        await self._attempt(self._row(delivery), body)
        self._turn[prediction] = time.monotonic()
        self._busy.discard(prediction)

    async def _send(self, delivery: str) -> None:
        """Send what is owed until it is received, at the times of its plan."""
        row = self._row(delivery)
        plan = RETRY_AT if row["event"] == "completed" else (0,)
        if row["event"] == "output":
            await self._wait_for_turn(row["prediction"])
        for attempt in range(row["attempts"], len(plan)):
            # After a restart what is overdue goes out at once, but never two attempts in the same second.
            due = row["created_at"] + plan[attempt] - time.time()
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
        scopes = (row["prediction"], row["account"])
        manner = self.rules.use("webhooks", *scopes)
        if manner == "drop":
            self.store.write("UPDATE deliveries SET state = 'dropped', body = NULL WHERE id = ?", row["id"])
            return True
        await asyncio.sleep(self.rules.use("webhook_delay_seconds", *scopes))
        if manner == "reorder" and row["event"] != "completed":
            await self._told_the_end(row["prediction"])
        headers = self._headers(row, body, manner)
        status, error = await self._post(row["url"], headers, body)
        if manner == "double":
            await self._post(row["url"], headers, body)
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

    async def _told_the_end(self, prediction: str) -> None:
        """Wait until a prediction is over and its last webhook, if it has one, was tried."""
        unfinished = "SELECT 1 FROM predictions WHERE id = ? AND status IN (?, ?)"
        untold = "SELECT 1 FROM deliveries WHERE prediction = ? AND event = 'completed' AND state = 'pending' AND attempts = 0"
        while self.store.one(unfinished, prediction, *ACTIVE) or self.store.one(untold, prediction):
            await asyncio.sleep(0.05)

    def _headers(self, row: sqlite3.Row, body: bytes, manner: str) -> dict[str, str]:
        """Stamp and sign a delivery, as well or as badly as `manner` wants it."""
        timestamp = int(time.time()) - (STALE_SECONDS if manner == "stale" else 0)
        keys = [new_webhook_secret()] if manner == "wrong_secret" else self.accounts.signing_secrets(row["account"])
        signed = body + b" " if manner == "bad_signature" else body
        return {
            "content-type": "application/json",
            "user-agent": "Replicate Webhooks (sandbox)",
            "webhook-id": row["id"],
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(sign(key, row["id"], timestamp, signed) for key in keys),
        }

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> tuple[int | None, str | None]:
        # A connection for each: httpx's pool looks at all of its connections for every request, which hundreds of runs would feel.
        # No proxies from the environment: receivers are near, and a signed body belongs to nobody else.
        client = httpx.AsyncClient(verify=self._tls, timeout=RECEIVER_TIMEOUT, follow_redirects=False, trust_env=False)
        try:
            # Streamed, because only the status counts: a receiver's long answer is not read.
            async with client, client.stream("POST", url, content=body, headers=headers) as response:
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


def _json(shown: dict[str, Any]) -> bytes:
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode()
