"""Who looks after the people of all teams."""

import pytest

from tests.factories import UserFactory


@pytest.fixture
def staff(db):
    """An administrator of the platform who is in no team."""
    return UserFactory(is_staff=True, is_superuser=True)
