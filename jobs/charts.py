"""Lines over steps and bars over days as numbers for an SVG: scaled, thinned out and smoothed. Pure: values in, values out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

WIDTH, HEIGHT = 1000, 240
MOST_POINTS = 400
MOST_ROWS = 50
# Weight of what came before in the smooth line: what trainers' own dashboards start with.
SMOOTHING = 0.85

# How much of its day's place a bar takes.
BAR_SHARE = 0.72

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
        return " ".join(f"{(step - start) * across:.1f},{(top - loss) * up:.1f}" for step, loss in line)

    ticks = round((top - bottom) / tick)
    return Chart(
        raw=place(_outline(points, MOST_POINTS)),
        smooth=place(_thinned(_smoothed(points), MOST_POINTS)),
        y_ticks=[top - number * tick for number in range(ticks + 1)],
        decimals=max(0, -math.floor(math.log10(tick))),
        x_ticks=[start + (end - start) * quarter // 4 for quarter in range(5)],
        grid=[HEIGHT * number // ticks for number in range(ticks + 1)],
        first=points[0],
        last=points[-1],
        lowest=min(points, key=lambda point: point[1]),
        rows=_thinned(points, MOST_ROWS),
    )


@dataclass(frozen=True)
class Bar:
    """One day: what is settled, and what is held above it, in micro-dollars and as places in the box."""

    day: date
    settled: int
    held: int
    x: float
    settled_y: float
    settled_height: float
    held_y: float
    held_height: float


@dataclass(frozen=True)
class Bars:
    """Bars of one width in a box of WIDTH by HEIGHT. Ticks are micro-dollars; a few of the days are named."""

    bars: list[Bar]
    bar_width: float
    y_ticks: list[int]
    grid: list[int]
    x_ticks: list[date]
    width: int = WIDTH
    height: int = HEIGHT


def day_bars(days: Sequence[tuple[date, int, int]]) -> Bars | None:
    """The chart of money by day, from (day, settled, held) in micro-dollars; None where there is none."""
    if not any(settled or held for _, settled, held in days):
        return None
    lowest = min(0, *(settled for _, settled, _ in days))
    bottom, top, tick = _scale(float(lowest), float(max(max(settled, 0) + held for _, settled, held in days)))
    ticks, up, step = round((top - bottom) / tick), HEIGHT / (top - bottom), WIDTH / len(days)

    def bar(number: int, day: date, settled: int, held: int) -> Bar:
        upper, lower = max(settled, 0), min(settled, 0)
        return Bar(
            day=day,
            settled=settled,
            held=held,
            x=round(number * step + step * (1 - BAR_SHARE) / 2, 2),
            settled_y=round((top - upper) * up, 2),
            settled_height=round((upper - lower) * up, 2),
            held_y=round((top - upper - held) * up, 2),
            held_height=round(held * up, 2),
        )

    return Bars(
        bars=[bar(number, *day) for number, day in enumerate(days)],
        bar_width=round(step * BAR_SHARE, 2),
        y_ticks=[round(top - number * tick) for number in range(ticks + 1)],
        grid=[HEIGHT * number // ticks for number in range(ticks + 1)],
        x_ticks=[days[number][0] for number in _evenly(len(days))],
    )


def _evenly(count: int) -> list[int]:
    """A few of so many places, the first and the last among them, at distances as even as can be."""
    if count <= 2:
        return list(range(count))
    named = next((ticks for ticks in (5, 4, 3) if (count - 1) % (ticks - 1) == 0), 5)
    return [round(number * (count - 1) / (named - 1)) for number in range(named)]


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


def _outline(points: Sequence[Point], most: int) -> list[Point]:
    """The first and the last point, and of each stretch between them the lowest and the highest."""
    if len(points) <= most:
        return list(points)
    stride = math.ceil(2 * len(points) / most)
    stretches = [points[start : start + stride] for start in range(0, len(points), stride)]
    kept = {points[0], points[-1]}
    for stretch in stretches:
        kept |= {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
    return sorted(kept)


def _thinned(points: Sequence[Point], most: int) -> list[Point]:
    """Every so many points, and the last one always."""
    stride = math.ceil(len(points) / most)
    kept = list(points[::stride])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]
