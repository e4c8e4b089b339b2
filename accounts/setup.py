"""The first administrator of a new installation."""

from dataclasses import dataclass

from allauth.account.models import EmailAddress
from django.db import connection, transaction

from accounts import audit, teams
from accounts.errors import Conflict
from accounts.models import Team, User

# Any number will do that nobody else locks.
LOCK = 7_464_001


class SetupDone(Conflict):
    """There are people already: whoever wants in asks one of them."""

    code = "setup_done"


@dataclass(frozen=True)
class Founded:
    """What the first run made."""

    administrator: User
    team: Team


def is_needed() -> bool:
    """Whether nobody has an account yet."""
    return not User.objects.exists()


def done() -> SetupDone:
    """What whoever comes too late is told."""
    return SetupDone("This installation has its first administrator already.", hint="Ask an administrator for an account.")


def found(*, email: str, username: str, password: str, team_name: str, address: str, display_name: str = "") -> Founded:
    """Make the first administrator, and the first team with them as its owner. Of several at once one is the first.

    The password was checked by whoever asks. Raises SetupDone, InvalidInput.
    """
    with transaction.atomic():
        # There is no row yet that could be locked, so a lock without one decides who is first; the ORM knows none.
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        if not is_needed():
            raise done()
        administrator = User.objects.create_superuser(username=username, email=email, password=password, display_name=display_name)
        EmailAddress.objects.create(user=administrator, email=administrator.email, primary=True, verified=True)
        audit.record(
            team=None, event_type="user.created", action=f"Made the first administrator {username}", by=administrator, address=address,
            target_type="user", target_id=str(administrator.pk), after={"username": username, "is_staff": True},
        )  # fmt: skip
        team = teams.create(name=team_name, owner=administrator, address=address)
    return Founded(administrator=administrator, team=team)
