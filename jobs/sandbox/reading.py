"""Reading JSON that somebody sent: what cannot be told again as JSON is refused as it comes in."""

from __future__ import annotations

import json
import math
from typing import Any


def json_of(body: bytes | bytearray | str) -> Any:
    """The JSON of a body. Raises ValueError also for NaN, for numbers beyond all bounds, half characters and endless nesting."""
    try:
        found = json.loads(body, parse_constant=_no_number, parse_float=_finite)
        json.dumps(found, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value
