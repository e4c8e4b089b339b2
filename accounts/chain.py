"""Hash chains: each line of a chain covers all of its own fields and the hash of the line before it.

Nothing here knows Django or a database, so that a script of a few lines can check what it was given.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BEGINNING = "0" * 64
# The event by which a chain tells that its oldest lines were removed.
CUT = "audit.cut"


@dataclass(frozen=True)
class Point:
    """A place in a chain, between two lines: how many lines were written before it, and the hash of the last of them."""

    sequence: int = 0
    hash: str = BEGINNING


START = Point()


@dataclass(frozen=True)
class Link:
    """One line as a walk looks at it: its place, and the fields that its hash covers."""

    id: int
    sequence: int
    previous_hash: str
    hash: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Verification:
    """What a walk along a chain found; `broken` names a line (its id, 0 if there is none left) and what is wrong there."""

    valid: bool
    checked: int
    broken: list[tuple[int, str]]
    first_id: int | None = field(default=None, compare=False)
    last_id: int | None = field(default=None, compare=False)
    # Where the walk ended: who wrote down this hash elsewhere can tell later that nothing before it was changed.
    ends: Point = field(default=START, compare=False)


def link(previous_hash: str, fields: Mapping[str, Any]) -> str:
    """The hash (64 hex digits) of a line: SHA-256 over the one before and the fields in canonical JSON.

    Values are text, integers, booleans, None, or objects and lists of these; no floats, which print
    differently on different machines.
    """
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(f"{previous_hash}\n{canonical}".encode()).hexdigest()


class Walk:
    """A walk along a chain from `begins`. `is_cut` says that the lines before were removed, which a line must tell of."""

    def __init__(self, begins: Point = START, *, is_cut: bool = False) -> None:
        self._cut = begins if is_cut else None
        self._at = begins
        self._first_id: int | None = None
        self._last_id: int | None = None
        self._checked = 0
        self._broken: list[tuple[int, str]] = []

    def step(self, line: Link) -> None:
        """Check one line against itself and the one before; a line that is wrong is believed for the next, so that only breaks show."""
        if line.sequence <= self._at.sequence:
            self._note(line, "The line stands in another's place.")
        elif line.sequence != self._at.sequence + 1:
            self._note(line, f"Lines {self._at.sequence + 1} to {line.sequence - 1} are missing before this one.")
        elif line.previous_hash != self._at.hash:
            self._note(line, "The line does not follow from the one before it.")
        elif line.id < (self._last_id or 0):
            self._note(line, "The line stands in another's place.")
        if not _fits(line):
            self._note(line, "The line was changed: its hash does not fit what it says.")
        if self._cut and _tells_of(self._cut, line.fields):
            self._cut = None
        self._first_id = self._first_id or line.id
        self._last_id = line.id
        self._at = Point(line.sequence, line.hash)
        self._checked += 1

    def end(self, ends: Point | None) -> Verification:
        """What the walk found, if the chain must end at `ends`; None where it goes on."""
        last = self._last_id or 0
        if ends is None:
            pass
        elif self._at.sequence < ends.sequence:
            self._broken.append((last, f"The chain ends here, and {ends.sequence - self._at.sequence} lines after it are missing."))
        elif self._at.sequence > ends.sequence:
            self._broken.append((last, "The line stands behind the end of the chain."))
        elif self._at.hash != ends.hash:
            self._broken.append((last, "The line is not the one that the end of the chain was made of."))
        if self._cut:
            reason = f"Lines up to {self._cut.sequence} were removed before this one, and no line tells of it."
            self._broken.append((self._first_id or 0, reason))
        return Verification(
            valid=not self._broken,
            checked=self._checked,
            broken=list(self._broken),
            first_id=self._first_id,
            last_id=self._last_id,
            ends=self._at,
        )

    def _note(self, line: Link, reason: str) -> None:
        self._broken.append((line.id, reason))


def told_of(cut: Point) -> dict[str, Any]:
    """What the line of a cut says in `after`: the last of the lines that were removed."""
    return {"sequence": cut.sequence, "hash": cut.hash}


def _tells_of(cut: Point, fields: Mapping[str, Any]) -> bool:
    after = fields.get("after")
    return fields.get("event_type") == CUT and isinstance(after, Mapping) and told_of(cut).items() <= after.items()


def _fits(line: Link) -> bool:
    try:
        return line.hash == link(line.previous_hash, line.fields)
    except ValueError:
        # A number or half a character that no line of ours has.
        return False
