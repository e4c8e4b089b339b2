"""People of a team and of the platform, and calls of the API by them."""

import pytest

from accounts.roles import Role
from tests.calls import Calls
from tests.factories import MembershipFactory, UserFactory


@pytest.fixture
def call(db):
    return Calls()


@pytest.fixture
def owner(db):
    return MembershipFactory(role=Role.OWNER)


@pytest.fixture
def researcher(owner):
    return MembershipFactory(team=owner.team, role=Role.RESEARCHER)


@pytest.fixture
def staff(db):
    """An administrator of the platform who is in no team."""
    return UserFactory(is_staff=True, is_superuser=True)
