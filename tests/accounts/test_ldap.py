"""Sign-in by LDAP against a real slapd, and the roles that its groups give."""

import environ
import pytest
from django.urls import reverse

from accounts.models import AuditLine, Membership, Origin, User
from config import directory
from tests.accounts import slapd
from tests.accounts.slapd import PASSWORD as DIRECTORY_PASSWORD
from tests.accounts.test_sign_in_safety import errors_of, is_in, sign_in
from tests.factories import PASSWORD, MembershipFactory, TeamFactory, UserFactory

pytestmark = [pytest.mark.ldap, pytest.mark.django_db]


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    with slapd.directory(tmp_path_factory.mktemp("slapd")) as address:
        yield address


def point_to(address, settings, **more):
    environment = environ.Env()
    environment.ENVIRON = {
        "TUNEHOUSE_LDAP_BIND_DN": "cn=tunehouse,ou=services,dc=example,dc=com",
        "TUNEHOUSE_LDAP_BIND_PASSWORD": DIRECTORY_PASSWORD,
        "TUNEHOUSE_LDAP_PEOPLE": "ou=people,dc=example,dc=com",
        "TUNEHOUSE_LDAP_GROUPS": "ou=groups,dc=example,dc=com",
    }
    settings.AUTHENTICATION_BACKENDS = ["accounts.backends.PasswordBackend", "accounts.ldap.LDAPBackend"]
    settings.LDAP_URL, settings.LDAP_SIGN_UP = address, True
    for name, value in (directory.ldap_settings(environment, url=address, start_tls=False) | more).items():
        setattr(settings, name, value)


@pytest.fixture
def connected(company, settings):
    point_to(company, settings)
    return company


def test_who_is_new_comes_in_where_the_operator_says_so(client, connected):
    sign_in(client, "ada@example.com", DIRECTORY_PASSWORD)

    person = User.objects.get()
    assert is_in(client)
    assert (person.email, person.username, person.display_name, person.has_usable_password()) == ("ada@example.com", "ada", "Ada L.", False)
    assert AuditLine.objects.filter(event_type="user.created", target_id=str(person.pk)).count() == 1


def test_who_is_new_stays_out_otherwise(client, connected, settings):
    settings.LDAP_SIGN_UP = False

    sign_in(client, "ada@example.com", DIRECTORY_PASSWORD)

    assert (is_in(client), User.objects.count()) == (False, 0)


@pytest.mark.parametrize("password", ["wrong", "", PASSWORD], ids=["wrong", "empty", "that of another"])
def test_the_directory_says_whether_a_password_is_right(client, connected, password):
    sign_in(client, "ada@example.com", password)

    assert (is_in(client), User.objects.count()) == (False, 0)


@pytest.mark.parametrize("email", ["*@example.com", "ada@example.com)(uid=*", "a*"])
def test_an_address_is_no_pattern(client, connected, email):
    sign_in(client, email, DIRECTORY_PASSWORD)

    assert (is_in(client), User.objects.count()) == (False, 0)


def test_a_password_of_our_own_opens_as_well_and_none_is_left_when_switched_off(client, connected, settings):
    person = UserFactory(email="local@example.com")
    sign_in(client, person.email)
    before = is_in(client)
    client.post(reverse("account_logout"))
    settings.ALLOW_PASSWORDS = False

    sign_in(client, person.email)
    local = is_in(client)
    sign_in(client, "ada@example.com", DIRECTORY_PASSWORD)

    assert (before, local, is_in(client)) == (True, False, True)


def test_a_deactivated_person_stays_out_and_is_out_at_once(client, connected):
    sign_in(client, "ada@example.com", DIRECTORY_PASSWORD)
    before = is_in(client)
    person = User.objects.get()
    person.is_active = False
    person.save()

    at_once = is_in(client)
    sign_in(client, "ada@example.com", DIRECTORY_PASSWORD)

    assert (before, at_once, is_in(client)) == (True, False, False)


def test_a_directory_that_is_away_is_no_fault_of_ours(client, settings):
    point_to("ldap://127.0.0.1:1", settings)
    local = UserFactory()

    refused = sign_in(client, "ada@example.com", DIRECTORY_PASSWORD)
    sign_in(client, local.email)

    assert (refused.status_code, errors_of(refused) != "") == (200, True)
    assert is_in(client)


def test_guesses_at_the_directory_are_counted(client, connected):
    for number in range(5):
        sign_in(client, "ada@example.com", "wrong", address=f"192.0.2.{number}")

    refused = sign_in(client, "ada@example.com", DIRECTORY_PASSWORD)

    assert "Too many failed login attempts" in refused.content.decode()


def test_groups_give_a_role_and_take_it_away(client, connected, settings):
    settings.LDAP_ROLES = directory.roles("ml-leads=atelier:lead", name="TUNEHOUSE_LDAP_ROLES")
    team = TeamFactory(slug="atelier")
    MembershipFactory(team=team)
    mine = Membership.objects.filter(team=team, user__email="bob@example.com")

    sign_in(client, "bob@example.com", DIRECTORY_PASSWORD)
    given = list(mine.values_list("role", "origin"))
    slapd.leave_group(connected, "ml-leads", "bob")
    client.post(reverse("account_logout"))
    sign_in(client, "bob@example.com", DIRECTORY_PASSWORD)

    assert given == [("lead", Origin.LDAP)]
    assert not mine.exists()
    assert is_in(client)
