"""A new installation: its first page makes the first administrator and the first team, once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections
from django.urls import reverse

from accounts import audit, setup
from accounts.models import AuditLine, Membership, Team, User
from tests.factories import PASSWORD, TeamFactory, UserFactory

ASKED = {"email": "ada@example.com", "username": "ada", "password1": PASSWORD, "password2": PASSWORD, "team_name": "Atelier Nord"}


@pytest.mark.django_db
def test_whoever_opens_a_new_installation_is_led_to_its_first_page(client):
    response = client.get("/")

    assert response["Location"] == reverse("first_run")
    assert client.get(response["Location"]).status_code == 200


@pytest.mark.django_db
def test_the_first_administrator_owns_the_first_team_and_is_signed_in(client):
    response = client.post(reverse("first_run"), ASKED)

    administrator, team = User.objects.get(), Team.objects.get()
    assert response["Location"] == team.get_absolute_url() == "/t/atelier-nord/jobs/"
    assert (administrator.is_staff, administrator.is_superuser) == (True, True)
    assert Membership.objects.get(team=team, user=administrator).role == "owner"
    assert client.get(response["Location"]).status_code == 200
    assert client.get(reverse("admin:index")).status_code == 200
    # Typed this moment, so that the password is not asked for again.
    assert client.get(reverse("jobs:credential_save", args=[team.slug, "replicate"])).status_code == 200


@pytest.mark.django_db
def test_the_first_administrator_signs_in_again_by_e_mail(client):
    client.post(reverse("first_run"), ASKED)
    client.logout()

    response = client.post(reverse("account_login"), {"login": "ADA@example.com", "password": PASSWORD})

    assert response["Location"] == reverse("home")


@pytest.mark.django_db
def test_the_page_is_gone_when_there_is_somebody(client):
    UserFactory()

    assert client.get(reverse("first_run")).status_code == 404
    assert client.post(reverse("first_run"), ASKED).status_code == 404
    assert User.objects.count() == 1
    assert client.get("/")["Location"] == reverse("account_login")


@pytest.mark.django_db
def test_what_was_made_stands_in_the_audit_trail(client):
    client.post(reverse("first_run"), ASKED, REMOTE_ADDR="192.0.2.7")

    made = {line.event_type: (line.team, line.actor, line.address) for line in AuditLine.objects.all()}
    assert made == {
        "user.created": (None, "ada", "192.0.2.7"),
        "team.created": (Team.objects.get(), "ada", "192.0.2.7"),
        "auth.login.success": (None, "ada", "192.0.2.7"),
    }
    assert audit.verify(None).valid
    assert PASSWORD not in str(list(AuditLine.objects.values()))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"password2": "another"}, "password2"),
        ({"password1": "short", "password2": "short"}, "password1"),
        ({"password1": "ada@example.com", "password2": "ada@example.com"}, "password1"),
        ({"username": "a b"}, "username"),
        ({"username": "ad"}, "username"),
        ({"email": "nobody"}, "email"),
        ({"email": "a" * 300 + "@example.com"}, "email"),
        ({"team_name": "   "}, "team_name"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_nothing_is_made(client, change, field):
    response = client.post(reverse("first_run"), ASKED | change)

    assert response.status_code == 200
    assert list(response.context["form"].errors) == [field]
    assert not User.objects.exists()
    assert not Team.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "slug"), [("Atelier Nord", "atelier-nord-2"), ("…", "team"), ("Ñandú " * 16, "nandu-nandu-nandu-nandu-nandu-nandu-nandu-nand")]
)
def test_a_team_gets_an_address_of_its_name(name, slug):
    TeamFactory(slug="atelier-nord")

    founded = setup.found(email="ada@example.com", username="ada", password=PASSWORD, team_name=name, address="")

    assert founded.team.slug == slug


@pytest.mark.django_db(transaction=True)
def test_of_several_at_once_one_is_the_first():
    def found(number):
        try:
            return setup.found(email=f"{number}@example.com", username=f"person-{number}", password=PASSWORD, team_name="Team", address="")
        except setup.SetupDone:
            return None
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        founded = list(pool.map(found, range(8)))

    assert sum(one is not None for one in founded) == 1
    assert User.objects.count() == Team.objects.count() == 1
