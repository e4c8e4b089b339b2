"""Rules: how a test tells the sandbox to behave, for everybody, one account or one prediction.

A new fault is one line in RULES and one look-up where it bites.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .store import Store

EVERYBODY = "*"


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
    "queue_seconds": Rule(20, number(0), "number", "simulated seconds that a new prediction waits for a machine"),
    "boot_seconds": Rule(40, number(0), "number", "simulated seconds that the machine boots before a new prediction starts"),
    "step_rate": Rule(None, number(0.001), "number", "training steps a simulated second of new predictions (default: by hardware)"),
    "unpack": Rule(
        "fixed", one_of("fixed", "upstream"), "fixed | upstream", "upstream: unpacking `images` fails as in the trainer's newest source"
    ),
    "fail": Rule(
        None,
        one_of("out_of_memory", "nan_loss", "platform_fault"),
        "out_of_memory | nan_loss | platform_fault",
        "how a new prediction fails half-way through its training",
    ),
    "ignore_deadline": Rule(False, one_of(True, False), "true | false", "let predictions run past their Cancel-After"),
    "purge_seconds": Rule(None, number(0), "number", "wall seconds from the end to the removal of input, output and logs"),
    "webhooks": Rule("send", one_of("send", "drop"), "send | drop", "drop: webhooks are never sent"),
    "create_status": Rule(
        None, one_of(402, 429, 500, 502, 503, 504), "402 | 429 | 500 | 502 | 503 | 504", "answer creates with this; nothing is created"
    ),
    "hold_create_answer_seconds": Rule(
        0, number(0), "number", "wall seconds between the creation of a prediction and the answer to its client"
    ),
    "hold_upload_seconds": Rule(0, number(0), "number", "wall seconds between the storing of an uploaded file and the answer"),
    "schema_variant": Rule(
        "five", one_of("none", "six", "five"), "none | six | five", "which inputs the newest trainer version requires, by Cog's age"
    ),
}


class Rules:
    """The rules in force, kept in the store."""

    def __init__(self, store: Store):
        self.store = store

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
        return RULES[name].default

    def _use_up(self, scope: str, name: str, times: int) -> None:
        if times > 1:
            self.store.write("UPDATE rules SET times = times - 1 WHERE scope = ? AND name = ?", scope, name)
        else:
            self.lift(scope, name)
