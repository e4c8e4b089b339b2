"""How often an account may call: buckets that fill up again with time, kept in memory, on the wall clock.

Source: Replicate docs, topics/predictions/rate-limits; its answers count polls of one prediction apart, by a far larger budget.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from . import problems

# Calls a minute, which is also how many may come at once.
A_MINUTE = {"create": 600, "poll": 60_000, "other": 3000}
LOW_CREDIT_A_MINUTE = 6
LOW_CREDIT_AT_ONCE = 1


@dataclass
class Bucket:
    """Holds up to `most` calls; `a_second` flow in again."""

    most: float
    a_second: float
    left: float
    at: float

    def take(self, now: float) -> bool:
        self.left = min(self.most, self.left + (now - self.at) * self.a_second)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True

    def seconds_until(self, wanted: float) -> int:
        return max(1, math.ceil((wanted - self.left) / self.a_second))


class Budgets:
    """The buckets of all accounts."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str, bool], Bucket] = {}

    def spend(self, account: str, call: str, *, low_credit: bool) -> dict[str, str]:
        """Take one call from an account's budget; the answer is the headers that tell what is left. Raises Problem 429."""
        kind = call if call in A_MINUTE else "other"
        bucket = self._bucket(account, kind, low_credit=low_credit and kind == "create")
        if not bucket.take(time.monotonic()):
            raise problems.throttled(bucket.seconds_until(1), low_credit=low_credit)
        return {"ratelimit-remaining": str(int(bucket.left)), "ratelimit-reset": str(bucket.seconds_until(bucket.most))}

    def _bucket(self, account: str, kind: str, *, low_credit: bool) -> Bucket:
        key = (account, kind, low_credit)
        if key not in self._buckets:
            a_minute = LOW_CREDIT_A_MINUTE if low_credit else A_MINUTE[kind]
            most = LOW_CREDIT_AT_ONCE if low_credit else a_minute
            self._buckets[key] = Bucket(most, a_minute / 60, most, time.monotonic())
        return self._buckets[key]
