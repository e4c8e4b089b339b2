"""Benchmarks print ratios within one run and assert on nothing absolute, since no two machines are alike."""

import time
from collections.abc import Callable
from statistics import median

import pytest


@pytest.fixture
def median_seconds():
    """The median of several runs of a function, after one that is not counted."""

    def measure(function: Callable[[], object], *, runs: int = 15) -> float:
        function()
        taken = []
        for _ in range(runs):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
        return median(taken)

    return measure
