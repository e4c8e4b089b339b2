"""Hash chains: each line of a chain covers all of its own fields and the hash of the line before it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

BEGINNING = "0" * 64


def link(previous_hash: str, fields: Mapping[str, Any]) -> str:
    """The hash (64 hex digits) of a line: SHA-256 over the one before and the fields in canonical JSON.

    Values are text, integers, booleans, None, or objects and lists of these; no floats, which print
    differently on different machines.
    """
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(f"{previous_hash}\n{canonical}".encode()).hexdigest()
