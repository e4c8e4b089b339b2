"""Two clocks: the wall's, and the simulated one that runs `speed` times as fast.

Queueing, booting, training, `Cancel-After` and `metrics` are simulated.
Time stamps, webhook retries and file expiry are wall time.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass
class Clock:
    """`speed` simulated seconds pass in one second of wall time."""

    speed: float = 1.0
    started: float = field(default_factory=time.time)

    async def spend(self, seconds: float) -> None:
        """Let `seconds` of simulated time pass."""
        await asyncio.sleep(seconds / self.speed)

    def wall(self, seconds: float) -> float:
        """Say how many seconds of wall time `seconds` of simulated time take."""
        return seconds / self.speed

    def simulated(self) -> float:
        """Say how many simulated seconds have passed since this process started."""
        return (time.time() - self.started) * self.speed


def stamp(seconds: float | None, digits: int = 6) -> str | None:
    """Write a Unix time as Replicate does: ISO 8601, UTC, `Z`, with `digits` decimals of the second (3 or 6)."""
    if seconds is None:
        return None
    timespec = "milliseconds" if digits == 3 else "microseconds"
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
