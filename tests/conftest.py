"""What all tests share; fixtures that only one folder needs live there."""

import pytest
from django.db import connection

from accounts.roles import Role
from tests.calls import Calls
from tests.factories import MembershipFactory

TRUNCATE_TRIGGERS = """
SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal AND tgtype::int & 32 = 32
"""


@pytest.fixture(autouse=True)
def fast_passwords(settings):
    """Argon2 is slow on purpose."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """Let tables be emptied after tests with transactions of their own, append-only ones, too. Rows stay protected."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(TRUNCATE_TRIGGERS)
        for table, trigger in cursor.fetchall():
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")


@pytest.fixture
def call(db):
    return Calls()


@pytest.fixture
def owner(db):
    return MembershipFactory(role=Role.OWNER)


@pytest.fixture
def researcher(owner):
    return MembershipFactory(team=owner.team, role=Role.RESEARCHER)
