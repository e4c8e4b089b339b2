"""A line over steps as numbers for an SVG: scaled, thinned out and smoothed. Pure: values in, values out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 1000, 240
MOST_POINTS = 400
MOST_ROWS = 50
# Weight of what came before in the smooth line: what trainers' own dashboards start with.
SMOOTHING = 0.85

Point = tuple[int, float]


@dataclass(frozen=True)
class Chart:
    """The lines as `points` of polylines in a box of WIDTH by HEIGHT; ticks lie evenly from edge to edge."""

    raw: str
    smooth: str
    y_ticks: list[float]
    decimals: int
    x_ticks: list[int]
    grid: list[int]
    first: Point
    last: Point
    lowest: Point
    rows: list[Point]
    width: int = WIDTH
    height: int = HEIGHT


def loss_chart(points: Sequence[Point]) -> Chart | None:
    """The chart of a loss by step, steps rising; None below two points."""
    points = [(step, loss) for step, loss in points if math.isfinite(loss)]
    if len(points) < 2:
        return None
    bottom, top, tick = _scale(min(loss for _, loss in points), max(loss for _, loss in points))
    (start, _), (end, _) = points[0], points[-1]

    def place(line: Sequence[Point]) -> str:
        across, up = WIDTH / max(1, end - start), HEIGHT / (top - bottom)
        return " ".join(f"{(step - start) * across:.1f},{(top - loss) * up:.1f}" for step, loss in _thinned(line, MOST_POINTS))

    ticks = round((top - bottom) / tick)
    return Chart(
        raw=place(points),
        smooth=place(_smoothed(points)),
        y_ticks=[top - number * tick for number in range(ticks + 1)],
        decimals=max(0, -math.floor(math.log10(tick))),
        x_ticks=[start + (end - start) * quarter // 4 for quarter in range(5)],
        grid=[HEIGHT * number // ticks for number in range(ticks + 1)],
        first=points[0],
        last=points[-1],
        lowest=min(points, key=lambda point: point[1]),
        rows=_thinned(points, MOST_ROWS),
    )


def _scale(low: float, high: float) -> tuple[float, float, float]:
    """Bottom, top and tick: whole ticks of 1, 2 or 5 times a power of ten, at most six of them."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    tick = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 4)
    bottom, top = math.floor(low / tick) * tick, math.ceil(high / tick) * tick
    return (bottom, top, tick) if top > bottom else (bottom, bottom + tick, tick)


def _smoothed(points: Sequence[Point]) -> list[Point]:
    """An exponential mean, corrected for its start as Adam does it."""
    mean, line = 0.0, []
    for count, (step, loss) in enumerate(points, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        line.append((step, mean / (1 - SMOOTHING**count)))
    return line


def _thinned(points: Sequence[Point], most: int) -> list[Point]:
    """Every so many points, and the last one always."""
    stride = math.ceil(len(points) / most)
    kept = list(points[::stride])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]
