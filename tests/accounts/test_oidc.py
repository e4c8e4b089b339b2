"""Sign-in by the company's OpenID Connect provider, and the roles that its groups give."""

from urllib.parse import urlsplit

import httpx
import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AuditLine, Membership, Origin, User
from config.directory import GroupRole, roles
from tests.accounts.oidc import CLIENT_ID, CLIENT_SECRET, provider
from tests.accounts.test_sign_in_safety import code_now, is_in, sign_in, with_second_factor
from tests.factories import MembershipFactory, TeamFactory, UserFactory

pytestmark = pytest.mark.django_db

ADA = {"sub": "42", "email": "ada@example.com", "email_verified": True, "name": "Ada L.", "preferred_username": "ada.l"}


@pytest.fixture
def company(settings):
    with provider() as running:
        settings.OIDC_ISSUER = running.issuer
        settings.OIDC_SIGN_UP = True
        settings.SOCIALACCOUNT_PROVIDERS = {
            "openid_connect": {
                "OAUTH_PKCE_ENABLED": True,
                "APPS": [
                    {
                        "provider_id": "company",
                        "name": "Example Inc.",
                        "client_id": CLIENT_ID,
                        "secret": CLIENT_SECRET,
                        "settings": {"server_url": running.issuer, "verified_email": False},
                    }
                ],
            }
        }
        running.person = dict(ADA)
        yield running


def come_in(client):
    """Follow the link of the sign-in page to the provider and back; the last answer."""
    start = client.get(reverse("openid_connect_login", args=["company"]))
    assert start.status_code == 302
    back = httpx.get(start["Location"], trust_env=False).headers["Location"]
    parts = urlsplit(back)
    return client.get(f"{parts.path}?{parts.query}")


def test_who_is_new_comes_in_where_the_operator_says_so(client, company):
    page = client.get(reverse("account_login")).content.decode()

    answer = come_in(client)

    person = User.objects.get()
    assert f'href="{reverse("openid_connect_login", args=["company"])}?process=login"' in page
    assert "Sign in with Example Inc." in page
    assert answer["Location"] == reverse("home")
    assert is_in(client)
    assert (person.email, person.username, person.display_name, person.has_usable_password()) == ("ada@example.com", "ada", "Ada L.", False)


def test_who_is_new_stays_out_otherwise(client, company, settings):
    settings.OIDC_SIGN_UP = False

    answer = come_in(client)

    assert "You are invited by an owner of your team" in answer.content.decode()
    assert (is_in(client), User.objects.count()) == (False, 0)


def test_who_has_an_account_comes_into_it_by_a_verified_address(client, company, settings):
    settings.OIDC_SIGN_UP = False
    person = UserFactory(email="Ada@example.com")

    come_in(client)

    assert is_in(client)
    assert int(client.session["_auth_user_id"]) == person.pk


def test_an_address_that_the_provider_did_not_verify_opens_nobodys_account(client, company):
    UserFactory(email="ada@example.com")
    company.person["email_verified"] = False

    come_in(client)

    assert (is_in(client), User.objects.count()) == (False, 1)


def test_the_second_factor_is_asked_for_all_the_same(client, company):
    person = UserFactory(email="ada@example.com")
    secret = with_second_factor(person)

    half_way = come_in(client)
    before = is_in(client)
    client.post(reverse("mfa_authenticate"), {"code": code_now(secret)})

    assert half_way["Location"] == reverse("mfa_authenticate")
    assert (before, is_in(client)) == (False, True)


def test_a_deactivated_person_stays_out(client, company):
    UserFactory(email="ada@example.com", is_active=False)

    come_in(client)

    assert not is_in(client)


@pytest.mark.parametrize("fault", ["refuses", "audience", "state"])
def test_what_goes_wrong_at_the_provider_is_said_on_a_page_of_ours(client, company, fault):
    company.refuses = fault == "refuses"
    company.audience = "another client" if fault == "audience" else CLIENT_ID
    if fault == "state":
        answer = client.get(reverse("openid_connect_callback", args=["company"]), {"code": "guessed", "state": "guessed"})
    else:
        answer = come_in(client)

    page = (client.get(answer["Location"]) if answer.status_code == 302 else answer).content.decode()
    assert "portal/base.css" in page
    assert not is_in(client)


def test_a_provider_that_is_away_is_no_fault_of_ours(client, company):
    start = client.get(reverse("openid_connect_login", args=["company"]))
    company.issuer = "http://127.0.0.1:1"
    back = httpx.get(start["Location"], trust_env=False).headers["Location"]

    answer = client.get(urlsplit(back).path + "?" + urlsplit(back).query)

    assert answer.status_code == 401
    assert "portal/base.css" in answer.content.decode()


def test_without_passwords_only_the_company_lets_people_in(client, company, settings):
    settings.ALLOW_PASSWORDS = False
    person = UserFactory(email="ada@example.com")

    page = client.get(reverse("account_login")).content.decode()
    sign_in(client, person.email)
    by_password = is_in(client)
    come_in(client)

    assert 'name="password"' not in page
    assert (by_password, is_in(client)) == (False, True)


def test_who_comes_from_the_company_gets_no_password_here(client, company, mailoutbox):
    come_in(client)

    page = client.get(reverse("account_change_password"), follow=True).content.decode()
    Client().post(reverse("account_reset_password"), {"email": "ada@example.com"})

    assert "no password of yours here" in page
    assert ["/password/reset/key/" in mail.body for mail in mailoutbox] == [False]


def test_without_an_issuer_there_is_no_such_door(client):
    assert client.get(reverse("openid_connect_login", args=["company"])).status_code == 404
    assert "Sign in with" not in client.get(reverse("account_login")).content.decode().replace("Sign in with a passkey", "")


# --- Groups and roles -------------------------------------------------------------------------------------------


@pytest.fixture
def atelier(settings):
    settings.OIDC_ROLES = roles("ml-leads=atelier:lead, ml-all=atelier:researcher, bosses=atelier:owner", name="TUNEHOUSE_OIDC_ROLES")
    return TeamFactory(slug="atelier")


def roles_of_ada():
    return list(Membership.objects.filter(user__email="ada@example.com").values_list("team__slug", "role", "origin"))


def test_groups_give_change_and_take_away_a_role(client, company, atelier):
    MembershipFactory(team=atelier)
    seen = []

    for groups in (["ml-all", "ml-leads", "others"], ["ml-all"], [], "ml-leads"):
        company.person["groups"] = groups
        come_in(client)
        seen.append(roles_of_ada())

    assert seen == [
        [("atelier", "lead", Origin.OIDC)],
        [("atelier", "researcher", Origin.OIDC)],
        [],
        [("atelier", "lead", Origin.OIDC)],
    ]
    told = AuditLine.objects.filter(team=atelier).order_by("sequence").values_list("event_type", "before", "after")
    assert list(told) == [
        ("member.added", {}, {"role": "lead"}),
        ("user.level.changed", {"role": "lead"}, {"role": "researcher"}),
        ("member.removed", {"role": "researcher"}, {}),
        ("member.added", {}, {"role": "lead"}),
    ]


def test_what_people_gave_by_hand_stays(client, company, atelier):
    person = UserFactory(email="ada@example.com")
    MembershipFactory(team=atelier, user=person, role="viewer")
    company.person["groups"] = ["bosses"]

    come_in(client)
    company.person["groups"] = []
    come_in(client)

    assert roles_of_ada() == [("atelier", "viewer", Origin.HAND)]


def test_the_last_owner_stays_one(client, company, atelier):
    company.person["groups"] = ["bosses"]
    come_in(client)
    company.person["groups"] = ["ml-all"]

    come_in(client)
    alone = roles_of_ada()
    MembershipFactory(team=atelier)
    come_in(client)

    assert alone == [("atelier", "owner", Origin.OIDC)]
    assert roles_of_ada() == [("atelier", "researcher", Origin.OIDC)]
    assert AuditLine.objects.filter(team=atelier, event_type="member.kept").count() == 1


def test_a_mapping_that_was_taken_away_takes_its_roles_along_and_none_at_all_touches_nothing(client, company, atelier, settings):
    MembershipFactory(team=atelier)
    company.person["groups"] = ["ml-all"]
    come_in(client)
    all_roles, settings.OIDC_ROLES = settings.OIDC_ROLES, ()

    come_in(client)
    untouched = roles_of_ada()
    settings.OIDC_ROLES = (GroupRole("ml-all", "another-team", "viewer"),)
    come_in(client)

    assert len(all_roles) == 3
    assert untouched == [("atelier", "researcher", Origin.OIDC)]
    assert roles_of_ada() == []
