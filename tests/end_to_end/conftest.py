"""One installation a test process, shared by all tests of it: they run one after another, each with jobs of its own."""

import pytest

from tests.end_to_end.house import House


@pytest.fixture(scope="session")
def shared_house(tmp_path_factory):
    house = House(tmp_path_factory.mktemp("house"))
    try:
        house.start()
        yield house
        house.assert_no_secret_was_said()
        house.assert_books_are_right()
        house.stop()
    finally:
        house.kill()


@pytest.fixture
def house(shared_house):
    """The shared installation with a sandbox that behaves."""
    yield shared_house
    shared_house.lift_rules()
