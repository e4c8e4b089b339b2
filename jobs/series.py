"""Which points of a long series are kept: of each stretch of steps the lowest and the highest. Pure: values in, values out."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

MOST_POINTS = 2000


class Measured(Protocol):
    """A loss at a step; None where it is unknown."""

    @property
    def step(self) -> int: ...

    @property
    def loss(self) -> float | None: ...


Kept = TypeVar("Kept", bound=Measured)


def width(last_step: int) -> int:
    """How many steps make a stretch: a power of two, so that two of them become one as the run gets longer."""
    steps = 1
    while 2 * (last_step // steps + 1) > MOST_POINTS:
        steps *= 2
    return steps


def thinned(points: Iterable[Kept], *, width: int) -> list[Kept]:
    """Of each stretch the point with the lowest and the one with the highest loss, in the order of their steps.

    Spikes and dips are what a chart is looked at for, so an even choice would not do. Where no loss is known, the last one.
    """
    stretches: dict[int, list[Kept]] = {}
    for point in points:
        stretches.setdefault(point.step // width, []).append(point)
    kept = {point.step: point for stretch in stretches.values() for point in _extremes(stretch)}
    return [kept[step] for step in sorted(kept)]


def _extremes(stretch: list[Kept]) -> list[Kept]:
    known = [(point.loss, point) for point in stretch if point.loss is not None]
    if not known:
        return [max(stretch, key=lambda point: point.step)]
    return [min(known, key=lambda each: each[0])[1], max(known, key=lambda each: each[0])[1]]
