"""Who gets in where: every route by everybody who may come, for the own team and a foreign one, against the table of rights."""

import pytest

from tests.matrix import cells, rows
from tests.matrix.routes import ROUTES

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def untouched(world):
    """How the rows stand before anybody came."""
    return rows.standing()


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_a_route_lets_in_who_may_and_nobody_else(world, untouched, route):
    wrong = [problem for cell in cells.of(route, world) if (problem := cells.wrong_with(cell, world, untouched))]

    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
