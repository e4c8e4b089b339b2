"""What all tests share; fixtures that only one folder needs live there."""

import pytest
from django.db import connection
from hypothesis import settings as hypothesis_settings

from accounts.roles import Role
from tests.calls import Calls
from tests.factories import MembershipFactory
from tests.thoroughness import FULL

# However busy the machine is, an example may take as long as it takes. The same ones each time, unless others are looked for.
hypothesis_settings.register_profile("full", hypothesis_settings.get_profile("ci"), derandomize=False)
hypothesis_settings.load_profile("full" if FULL else "ci")

TRUNCATE_TRIGGERS = """
SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal AND tgtype::int & 32 = 32
"""


@pytest.fixture(autouse=True)
def fast_passwords(settings):
    """Argon2 is slow on purpose."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def patience_with_codes(settings):
    """A code of a second factor is good for half a minute, and a test may begin at the end of one."""
    settings.MFA_TOTP_TOLERANCE = 1


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
