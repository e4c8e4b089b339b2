"""Predictions as clients see them: what a create may say, the object, the list.

Source: Replicate's HTTP API reference, "predictions", and the error bodies
that its API sends.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from . import catalogue, problems
from .catalogue import OWNER, Version
from .clock import Clock, stamp
from .rules import Rules
from .store import Store

ACTIVE = ("starting", "processing")
EVENTS = ("start", "output", "logs", "completed")
DEFAULT_EVENTS = ("output", "completed")
BODY_KEYS = ("version", "input", "webhook", "webhook_events_filter", "stream")
PAGE = 100
CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
REDACTED = "[REDACTED]"
MIN_CANCEL_AFTER = 5  # seconds
MAX_LOG = 10_000_000  # characters
# Keys that recorded answers leave out, by state, where the specification has them: null, empty or false.
SPARSE = {
    "starting": ("output", "data_removed", "source", "started_at", "completed_at", "metrics"),
    "processing": ("output", "completed_at", "metrics"),
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")

DURATION = re.compile(r"(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+)s?)?")
PREFER = re.compile(r"wait(=(?P<seconds>[1-9]|[1-9][0-9]|60))?")


@dataclass(frozen=True)
class Wanted:
    """What a valid create asks for; `cancel_after` in simulated seconds."""

    version: Version
    input: dict[str, Any]
    webhook: str | None
    events: tuple[str, ...]
    cancel_after: float | None


def parse(body: Any, cancel_after: str | None, *, http_allowed: bool) -> Wanted:
    """Read the body of a create and its Cancel-After header; `http_allowed` for webhooks to this machine. Raises Problem 422."""
    if not isinstance(body, dict):
        kind = catalogue.TYPE_NAMES[type(body)]
        raise problems.invalid_fields([_fault("invalid_type", "", f"Invalid type. Expected: object, given: {kind}")])
    faults = _body_faults(body, http_allowed)
    if faults:
        raise problems.invalid_fields(faults)
    seconds = None if cancel_after is None else duration(cancel_after)
    version = catalogue.version_named(body["version"])
    version.check(body["input"])
    events = tuple(body.get("webhook_events_filter") or DEFAULT_EVENTS)
    return Wanted(version, body["input"], body.get("webhook"), events, seconds)


def _fault(kind: str, field: str, description: str) -> dict[str, str]:
    return {"type": kind, "field": field, "description": description}


def _body_faults(body: dict[str, Any], http_allowed: bool) -> list[dict[str, str]]:
    faults = [_fault("required", "", f"{key} is required") for key in ("version", "input") if key not in body]
    unknown = (key for key in body if key not in BODY_KEYS)
    faults += [_fault("additional_property_not_allowed", "", f"Additional property {key} is not allowed") for key in unknown]
    for key, kind in (("version", str), ("input", dict), ("webhook", str), ("webhook_events_filter", list)):
        if key in body and type(body[key]) is not kind:
            given = catalogue.TYPE_NAMES[type(body[key])]
            faults.append(_fault("invalid_type", key, f"Invalid type. Expected: {catalogue.TYPE_NAMES[kind]}, given: {given}"))
    if faults:
        return faults
    if not all(event in EVENTS for event in body.get("webhook_events_filter", [])):
        allowed = ", ".join(f'"{event}"' for event in EVENTS)
        faults.append(_fault("enum", "webhook_events_filter", f"webhook_events_filter must be one of the following: {allowed}"))
    if "webhook" in body and not _is_webhook(body["webhook"], http_allowed):
        faults.append(_fault("format", "webhook", "webhook must be an HTTPS URL"))
    return faults


def _is_webhook(url: str, http_allowed: bool) -> bool:
    """Allow https, and by default plain http to this machine, so that receivers under test need no certificate."""
    try:
        parts = urlsplit(url)
        near = http_allowed and parts.scheme == "http" and parts.hostname in LOOPBACK
        return bool(parts.hostname) and (parts.scheme == "https" or near)
    except ValueError:
        return False


def duration(text: str) -> float:
    """Read `30`, `30s`, `5m` or `1h30m45s` as seconds. Raises Problem 422, also below five seconds."""
    match = DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise problems.titled(422, "Invalid Cancel-After", f"Cancel-After is not a duration such as 30s, 5m or 1h30m45s: {text[:40]}")
    hours, minutes, seconds = (int(match[unit] or 0) for unit in ("h", "m", "s"))
    total = hours * 3600 + minutes * 60 + seconds
    if total < MIN_CANCEL_AFTER:
        raise problems.titled(422, "Invalid Cancel-After", f"Cancel-After must be at least {MIN_CANCEL_AFTER} seconds")
    return total


def preferred_wait(header: str | None) -> int | None:
    """Read how many seconds of wall time a `Prefer: wait` header lets the answer be held; None without one."""
    match = PREFER.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    return min(int(match["seconds"] or 60), 60)


def new_id() -> str:
    return "".join(secrets.choice(CROCKFORD) for _ in range(26))


class Predictions:
    """The rows behind the prediction objects; moves after creation are the runner's."""

    def __init__(self, store: Store, clock: Clock, rules: Rules, base_url: str):
        self.store = store
        self.clock = clock
        self.rules = rules
        self.base_url = base_url

    def create(self, account: str, wanted: Wanted, rules: dict[str, Any]) -> sqlite3.Row:
        """Commit a new prediction in `starting`, with the rules that it will run by."""
        public = {name: REDACTED if name in catalogue.SECRET_INPUTS and value else value for name, value in wanted.input.items()}
        secret = {name: wanted.input[name] for name in catalogue.SECRET_INPUTS if wanted.input.get(name)}
        values: dict[str, Any] = {
            "id": new_id(),
            "account": account,
            "model": f"{OWNER}/{wanted.version.model}",
            "version": wanted.version.id,
            "input": json.dumps(public, ensure_ascii=False),
            "secret_input": json.dumps(secret),
            "webhook": wanted.webhook,
            "webhook_events_filter": json.dumps(wanted.events),
            "status": "starting",
            "created_at": round(time.time(), 6),  # as precise as what clients are shown and may ask for again
            "cancel_after": wanted.cancel_after,
            "rules": json.dumps(rules),
        }
        marks = ", ".join("?" * len(values))
        self.store.write(f"INSERT INTO predictions ({', '.join(values)}) VALUES ({marks})", *values.values())  # noqa: S608
        return self.row(values["id"])

    def row(self, prediction_id: str) -> sqlite3.Row:
        row = self.store.one("SELECT * FROM predictions WHERE id = ?", prediction_id)
        assert row is not None
        return row

    def get(self, account: str, prediction_id: str) -> sqlite3.Row:
        """Find an account's prediction. Raises Problem 404, also for a foreign one."""
        row = self.store.one("SELECT * FROM predictions WHERE account = ? AND id = ?", account, prediction_id)
        if row is None:
            raise problems.not_found()
        return row

    def active(self) -> list[sqlite3.Row]:
        return self.store.all("SELECT * FROM predictions WHERE status IN (?, ?) ORDER BY seq", *ACTIVE)

    def logs(self, prediction_id: str) -> str:
        """Put a log together; of one that is too long the beginning is lost."""
        text = "".join(row["text"] for row in self.store.all("SELECT text FROM logs WHERE prediction = ? ORDER BY seq", prediction_id))
        return text[-MAX_LOG:]

    def render(self, row: sqlite3.Row) -> dict[str, Any]:
        """Show the whole object, as create, get, cancel and webhooks do."""
        return {**self.render_item(row), "logs": self._shown_logs(row)}

    def _shown_logs(self, row: sqlite3.Row) -> str | None:
        canceled_early = row["status"] in ("canceled", "aborted") and row["waited"] is None
        return None if canceled_early and not row["data_removed"] else self.logs(row["id"])

    def render_item(self, row: sqlite3.Row) -> dict[str, Any]:
        """Show the object without its logs, as the list does."""
        url = f"{self.base_url}/v1/predictions/{row['id']}"
        shown: dict[str, Any] = {
            "id": row["id"],
            "model": row["model"],
            "version": row["version"],
            "input": json.loads(row["input"]),
            "output": json.loads(row["output"] or "null"),
            "data_removed": bool(row["data_removed"]),
            "error": row["error"],
            "source": "api",
            "status": row["status"],
            "created_at": stamp(row["created_at"]),
            "started_at": stamp(row["started_at"]),
            "completed_at": stamp(row["completed_at"]),
            "metrics": self._metrics(row),
            "urls": {"get": url, "cancel": f"{url}/cancel", "web": f"https://replicate.com/p/{row['id']}"},
        }
        if row["cancel_after"] is not None:
            shown["deadline"] = stamp(row["created_at"] + self.clock.wall(row["cancel_after"]))
        if row["webhook"] is not None:
            shown["webhook"] = row["webhook"]
            shown["webhook_events_filter"] = json.loads(row["webhook_events_filter"])
        if self.rules.use("keys", row["id"], row["account"]) == "sparse":
            return _sparse(shown)
        return shown

    @staticmethod
    def _metrics(row: sqlite3.Row) -> dict[str, float]:
        """Give the simulated seconds of compute and of all, once they are final."""
        if row["status"] in ACTIVE:
            return {}
        computing = 0.0 if row["waited"] is None else row["elapsed"] - row["waited"]
        return {"predict_time": round(computing, 6), "total_time": round(row["elapsed"], 6)}

    def page(self, account: str, query: dict[str, str]) -> dict[str, Any]:
        """Answer a page of an account's predictions, newest first. Raises Problem 422 for a query that cannot be read."""
        after, before = (_time_of(query, name) for name in ("created_after", "created_before"))
        cursor = _read_cursor(query.get("cursor"))
        if query.get("source", "web") != "web":
            raise problems.titled(422, "Invalid query", "source must be web")
        rows = self.store.all(
            "SELECT * FROM predictions WHERE account = ? AND seq < ? AND created_at >= ? AND created_at < ? AND ? "
            "ORDER BY seq DESC LIMIT ?",
            *(account, cursor, after or 0, before or 1e12, "source" not in query, PAGE + 1),
        )
        shown, more = rows[:PAGE], len(rows) > PAGE
        kept: dict[str, str] = {name: query[name] for name in ("created_after", "created_before") if name in query}
        if more:
            kept["cursor"] = _cursor(shown[-1]["seq"])
        next_url = f"{self.base_url}/v1/predictions?{urlencode(kept)}" if more else None
        return {"next": next_url, "previous": None, "results": [self.render_item(row) for row in shown]}

    def purge(self, older_than: float, prediction_id: str | None = None) -> int:
        """Remove inputs, outputs and logs of predictions that ended before `older_than` (Unix time), or of one that ended."""
        rows = self.store.all(
            "SELECT id FROM predictions WHERE completed_at <= ? AND NOT data_removed AND (? IS NULL OR id = ?)",
            *(older_than, prediction_id, prediction_id),
        )
        for row in rows:
            with self.store.transaction() as db:
                db.execute("UPDATE predictions SET data_removed = 1, input = '{}', output = NULL WHERE id = ?", (row["id"],))
                db.execute("DELETE FROM logs WHERE prediction = ?", (row["id"],))
        return len(rows)


def _sparse(shown: dict[str, Any]) -> dict[str, Any]:
    if shown["status"] == "starting":
        shown["urls"].pop("web")
    return {key: value for key, value in shown.items() if key not in SPARSE.get(shown["status"], ())}


def _time_of(query: dict[str, str], name: str) -> float | None:
    if name not in query:
        return None
    try:
        moment = datetime.fromisoformat(query[name])
    except ValueError as error:
        raise problems.titled(422, "Invalid query", f"{name} is not an ISO 8601 time") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _cursor(seq: int) -> str:
    return base64.urlsafe_b64encode(f"p={seq}".encode()).decode()


def _read_cursor(text: str | None) -> int:
    if text is None:
        return 2**62
    try:
        return int(base64.urlsafe_b64decode(text).decode().removeprefix("p="))
    except ValueError as error:
        raise problems.titled(404, "Not found", "Invalid cursor") from error
