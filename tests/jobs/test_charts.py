"""The loss chart's numbers."""

import math
from datetime import date

import pytest

from jobs.charts import HEIGHT, MOST_POINTS, MOST_ROWS, WIDTH, day_bars, loss_chart


def places(line):
    return [tuple(float(number) for number in point.split(",")) for point in line.split()]


def test_the_line_runs_from_edge_to_edge_and_up_is_more():
    chart = loss_chart([(10, 1.0), (20, 0.5), (30, 0.0)])

    assert places(chart.raw) == [(0, 0), (WIDTH / 2, HEIGHT / 2), (WIDTH, HEIGHT)]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [1.0, 0.5, 0.0]),
        (0.08, 0.52, [0.6, 0.4, 0.2, 0.0]),
        (0.101, 0.103, [0.103, 0.1025, 0.102, 0.1015, 0.101]),
        (3.0, 3.0, [4.0, 3.0]),
        (0.0, 0.0, [0.5, 0.0]),
        (120, 4000, [4000, 3000, 2000, 1000, 0]),
    ],
)
def test_ticks_are_round_and_hold_every_point(low, high, ticks):
    chart = loss_chart([(1, high), (2, low)])

    assert chart.y_ticks == pytest.approx(ticks)
    assert len(chart.grid) == len(ticks)
    assert all(0 <= y <= HEIGHT for _, y in places(chart.raw))


def test_a_long_run_is_thinned_and_keeps_its_end():
    chart = loss_chart([(step, 1 / step) for step in range(1, 5001)])

    assert len(places(chart.raw)) <= MOST_POINTS + 1
    assert len(chart.rows) <= MOST_ROWS + 1
    assert (chart.rows[-1][0], places(chart.raw)[-1][0]) == (5000, WIDTH)


def test_the_smooth_line_of_a_constant_is_the_constant():
    chart = loss_chart([(step, 0.25) for step in range(1, 50)])

    assert chart.smooth == chart.raw


def test_the_lowest_point_is_named_and_points_that_are_no_numbers_are_left_out():
    chart = loss_chart([(1, 0.9), (2, math.nan), (3, 0.1), (4, math.inf), (5, 0.4)])

    assert (chart.first, chart.lowest, chart.last) == ((1, 0.9), (3, 0.1), (5, 0.4))


@pytest.mark.parametrize("points", [[], [(1, 0.5)], [(1, math.nan), (2, math.nan)]])
def test_there_is_no_chart_below_two_points(points):
    assert loss_chart(points) is None


# --- Bars -----------------------------------------------------------------------------------------------------------


def days(*amounts):
    return [(date(2026, 11, number), settled, held) for number, (settled, held) in enumerate(amounts, start=1)]


def test_bars_stand_on_zero_and_what_is_held_stands_on_what_is_settled():
    chart = day_bars(days((1_000_000, 0), (500_000, 500_000)))

    first, second = chart.bars
    assert (first.settled_y, first.settled_height, first.held_height) == (0, HEIGHT, 0)
    assert (second.settled_y, second.settled_height, second.held_y, second.held_height) == (HEIGHT / 2, HEIGHT / 2, 0, HEIGHT / 2)
    assert (chart.y_ticks[0], chart.y_ticks[-1]) == (1_000_000, 0)


def test_money_that_comes_back_hangs_below_zero():
    chart = day_bars(days((1_000_000, 0), (-1_000_000, 0)))

    assert (chart.bars[1].settled_y, chart.bars[1].settled_height) == (HEIGHT / 2, HEIGHT / 2)


def test_without_money_there_is_no_chart():
    assert day_bars(days((0, 0), (0, 0))) is None


@pytest.mark.parametrize(("count", "named"), [(1, [1]), (2, [1, 2]), (7, [1, 3, 5, 7]), (9, [1, 3, 5, 7, 9]), (30, [1, 8, 15, 23, 30])])
def test_the_first_and_the_last_day_are_named_and_few_between(count, named):
    assert [day.day for day in day_bars(days(*[(1, 0)] * count)).x_ticks] == named
