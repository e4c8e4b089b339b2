"""Many things to do that have nothing to do with each other: one that fails keeps no other from its turn."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog

log = structlog.get_logger(__name__)

Thing = TypeVar("Thing")


def each(what: str, things: Iterable[Thing], do: Callable[[Thing], object]) -> int:
    """Do it with each, and say how often that told something true. What fails is logged as `what` and comes again with the next round."""
    done = 0
    for thing in things:
        try:
            done += bool(do(thing))
        except Exception:
            log.exception("round.failed", what=what, of=str(thing))
    return done
