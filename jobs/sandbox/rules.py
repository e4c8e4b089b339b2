"""Rules: how a test tells the sandbox to behave, for everybody, one account or one prediction.

A new fault is one line in RULES and one look-up where it bites.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import misfortunes
from .store import Store

EVERYBODY = "*"
CALL_STATUSES = (429, "429_without_header", 500, 502, 503, 504)
CALL_STATUSES_TAKEN = " | ".join(str(status) for status in CALL_STATUSES)
BREAKS = ("reset_before", "reset_after", "truncated")
BREAKS_MEAN = "the connection breaks before or after anything is done, or half of the JSON comes"
WEBHOOKS = ("send", "drop", "double", "reorder", "stale", "bad_signature", "wrong_secret")


def one_of(*allowed: Any) -> Callable[[Any], bool]:
    return lambda value: any(value == each and type(value) is type(each) for each in allowed)


def number(low: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= 1_000_000


@dataclass(frozen=True)
class Rule:
    """A switch of the sandbox: its value when nobody set it, which values it takes, and what it does."""

    default: Any
    accepts: Callable[[Any], bool]
    takes: str
    means: str


RULES = {
    # A prediction's way through the queue and the training
    "queue_length": Rule(1, number(0), "number", "how many predictions wait before a new one; each takes queue_seconds"),
    "queue_seconds": Rule(20, number(0), "number", "simulated seconds that each place in the queue takes"),
    "boot_seconds": Rule(40, number(0), "number", "simulated seconds that a GPU's machine boots before a new prediction starts"),
    "step_rate": Rule(None, number(0.001), "number", "training steps a simulated second of new predictions (default: by hardware)"),
    "step_lines": Rule(False, one_of(True, False), "true | false", "print [TRAINING] Step lines, which the newest trainer does not"),
    "unpack": Rule(
        "fixed", one_of("fixed", "upstream"), "fixed | upstream", "upstream: unpacking `images` fails as in the trainer's newest source"
    ),
    "fail": Rule(
        None, one_of(*misfortunes.KINDS), " | ".join(misfortunes.KINDS), "how a new prediction fails, by the trainer or the platform"
    ),
    "time_limit": Rule(
        None, one_of("failed", "canceled"), "failed | canceled", "how a new prediction ends after 1800 simulated seconds of processing"
    ),
    "ignore_deadline": Rule(False, one_of(True, False), "true | false", "let predictions run past their Cancel-After"),
    "purge_seconds": Rule(None, number(0), "number", "wall seconds from the end to the removal of input, output and logs"),
    # Answers of the API
    "keys": Rule("full", one_of("full", "sparse"), "full | sparse", "sparse: leave out of a prediction what recorded answers leave out"),
    "schema_variant": Rule(
        "five", one_of("none", "six", "five"), "none | six | five", "which inputs the newest trainer version requires, by Cog's age"
    ),
    "cancel_terminal": Rule(200, one_of(200, 409, 422), "200 | 409 | 422", "the answer to cancelling what is over"),
    "too_large_answer": Rule("json", one_of("json", "html"), "json | html", "html: refuse files over 100 MiB as a proxy does, by a page"),
    "http_webhooks": Rule(True, one_of(True, False), "true | false", "false: refuse plain http even for webhooks to this machine"),
    "rate_limits": Rule(
        "normal",
        one_of("normal", "low_credit", "off"),
        "normal | low_credit | off",
        "normal: 600 creates and 3000 other calls a minute; low_credit: 6 creates a minute",
    ),
    "create_status": Rule(
        None,
        one_of(402, "402_billing", *CALL_STATUSES),
        f"402 | 402_billing | {CALL_STATUSES_TAKEN}",
        "answer creates with this; nothing is created",
    ),
    "call_status": Rule(None, one_of(*CALL_STATUSES), CALL_STATUSES_TAKEN, "answer all calls with this; nothing is done"),
    "create_answer": Rule(None, one_of(*BREAKS), " | ".join(BREAKS), "what becomes of the answer to creates: " + BREAKS_MEAN),
    "call_answer": Rule(None, one_of(*BREAKS), " | ".join(BREAKS), "what becomes of the answer to all calls: " + BREAKS_MEAN),
    "account_status": Rule(None, one_of(401, 402), "401 | 402", "answer every call of an account with this, as if its token were disabled"),
    "hold_create_answer_seconds": Rule(
        0, number(0), "number", "wall seconds between the creation of a prediction and the answer to its client"
    ),
    "hold_upload_seconds": Rule(0, number(0), "number", "wall seconds between the storing of an uploaded file and the answer"),
    # Webhooks
    "webhooks": Rule(
        "send",
        one_of(*WEBHOOKS),
        " | ".join(WEBHOOKS),
        "drop: never sent; double: sent twice; reorder: all before the last are sent after it; stale: stamped an hour ago; "
        "bad_signature and wrong_secret: signed wrongly",
    ),
    "webhook_delay_seconds": Rule(0, number(0), "number", "wall seconds that each webhook is late"),
    "start_status": Rule(
        "processing", one_of("processing", "starting"), "processing | starting", "the status that the webhook `start` speaks of"
    ),
    "aborted_completed": Rule(True, one_of(True, False), "true | false", "false: no webhook `completed` for aborted predictions"),
    # The Hub
    "hub_status": Rule(
        None,
        one_of(401, 403, 500, 503),
        "401 | 403 | 500 | 503",
        "answer what would change the Hub with this; nothing changes",
    ),
    "hub_storage": Rule("free", one_of("free", "full"), "free | full", "full: the Hub refuses uploads and commits for want of storage"),
    "hub_gated": Rule(False, one_of(True, False), "true | false", "the Hub gives no file away: its repositories are gated"),
    "hub_cut_bytes": Rule(None, number(0), "number", "the Hub cuts the connection after so many bytes of a large file's upload"),
    "hold_hub_answer_seconds": Rule(0, number(0), "number", "wall seconds between what the Hub did and its answer"),
    # The status page, which knows no accounts
    "incident": Rule(
        None,
        one_of("degraded_performance", "partial_outage", "full_outage"),
        "degraded_performance | partial_outage | full_outage",
        "the status page tells of an incident",
    ),
    "maintenance": Rule(
        None, one_of("scheduled", "in_progress"), "scheduled | in_progress", "the status page tells of planned maintenance"
    ),
    "status_page": Rule("up", one_of("up", 503, "timeout"), "up | 503 | timeout", "how the status page cannot be reached"),
}

FOR_EVERYBODY = ("incident", "maintenance", "status_page")

# What the program is started as: other defaults.
PROFILES: dict[str, dict[str, Any]] = {
    "realistic": {},
    "sparse": {"keys": "sparse"},
    "strict": {"http_webhooks": False, "unpack": "upstream", "time_limit": "failed"},
}


class Rules:
    """The rules in force, kept in the store; `defaults` are a profile's own."""

    def __init__(self, store: Store, defaults: dict[str, Any] | None = None):
        self.store = store
        self.defaults = {name: rule.default for name, rule in RULES.items()} | (defaults or {})

    def set(self, scope: str, name: str, value: Any, times: int | None) -> None:
        """Put a rule in force within `scope` (a prediction's id, an account, or everybody), for its next `times` uses or for good."""
        self.store.write("INSERT OR REPLACE INTO rules VALUES (?, ?, ?, ?)", scope, name, json.dumps(value), times)

    def lift(self, scope: str | None = None, name: str | None = None) -> int:
        """Take rules out of force: of one scope or all, of one name or all. The answer is how many."""
        return self.store.write("DELETE FROM rules WHERE (? IS NULL OR scope = ?) AND (? IS NULL OR name = ?)", scope, scope, name, name)

    def in_force(self) -> list[dict[str, Any]]:
        rows = self.store.all("SELECT * FROM rules ORDER BY scope, name")
        return [{"scope": row["scope"], row["name"]: json.loads(row["value"]), "times": row["times"]} for row in rows]

    def use(self, name: str, *scopes: str) -> Any:
        """Apply a rule once: the value of the first scope that has it, then everybody's, then the default."""
        for scope in (*scopes, EVERYBODY):
            row = self.store.one("SELECT * FROM rules WHERE scope = ? AND name = ?", scope, name)
            if row is None:
                continue
            if row["times"] is not None:
                self._use_up(row["scope"], name, row["times"])
            return json.loads(row["value"])
        return self.defaults[name]

    def _use_up(self, scope: str, name: str, times: int) -> None:
        if times > 1:
            self.store.write("UPDATE rules SET times = times - 1 WHERE scope = ? AND name = ?", scope, name)
        else:
            self.lift(scope, name)
