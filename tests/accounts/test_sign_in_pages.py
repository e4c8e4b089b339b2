"""Signing in, where one lands, and out again."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AuditLine, Registration, User
from tests.factories import PASSWORD, MembershipFactory, UserFactory
from tests.signing_in import sign_in as fresh_sign_in

pytestmark = pytest.mark.django_db


def sign_in(client, email, password=PASSWORD, **extra):
    return client.post(reverse("account_login"), {"login": email, "password": password, **extra})


def test_a_person_of_one_team_lands_in_it(client):
    membership = MembershipFactory()

    response = sign_in(client, membership.user.email)

    assert response["Location"] == reverse("home")
    assert client.get(reverse("home"))["Location"] == membership.team.get_absolute_url()


def test_an_address_is_the_same_in_capitals(client):
    person = UserFactory(email="Ada@Example.com")

    sign_in(client, "aDa@example.COM")

    assert person.email == "ada@example.com"
    assert client.session["_auth_user_id"] == str(person.pk)


def test_a_person_of_several_teams_chooses(client):
    first = MembershipFactory()
    second = MembershipFactory(user=first.user, role="viewer")
    foreign = MembershipFactory()
    client.force_login(first.user)

    page = client.get(reverse("home")).content.decode()

    assert [f'href="{membership.team.get_absolute_url()}"' in page for membership in (first, second, foreign)] == [True, True, False]


def test_a_person_of_no_team_is_told_whom_to_ask(client):
    client.force_login(UserFactory())

    page = client.get(reverse("home")).content.decode()

    assert "You are in no team yet" in page
    assert reverse("admin:index") not in page


def test_whom_the_password_does_not_open_is_told_so_on_the_form(client):
    membership = MembershipFactory()

    response = sign_in(client, membership.user.email, "wrong password")

    assert response.status_code == 200
    assert 'role="alert"' in response.content.decode()
    assert client.get(reverse("home")).status_code == 302


def test_after_signing_in_one_is_where_one_wanted_to_be(client):
    membership = MembershipFactory()
    wanted = membership.team.get_absolute_url()
    page = client.get(wanted, follow=True).content.decode()

    response = sign_in(client, membership.user.email, next=wanted)

    assert f'<input type="hidden" name="next" value="{wanted}">' in page
    assert response["Location"] == wanted


def test_the_sign_in_page_leads_to_no_other_site(client):
    response = sign_in(client, MembershipFactory().user.email, next="https://elsewhere.example/")

    assert response["Location"] == reverse("home")


def test_where_staff_open_it_people_make_accounts_for_themselves_and_prove_their_address(client, mailoutbox, settings):
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"  # as where mail comes
    Registration.objects.create(is_open=True)
    asked = {"email": "a@example.com", "username": "abc", "password1": PASSWORD, "password2": PASSWORD}

    sign_in_page = client.get(reverse("account_login")).content.decode()
    form = client.get(reverse("account_signup")).content.decode()
    answer = client.post(reverse("account_signup"), asked)
    too_soon = sign_in(client, "a@example.com")
    link = re.search(r"http://testserver(/accounts/confirm-email/\S+)", mailoutbox[0].body)[1]
    client.post(link)
    sign_in(client, "a@example.com")

    assert (f'href="{reverse("account_signup")}"' in sign_in_page, "<h1>Make an account</h1>" in form) == (True, True)
    assert (answer["Location"], too_soon["Location"]) == (reverse("account_email_verification_sent"),) * 2
    assert "You are in no team yet" in client.get(reverse("home")).content.decode()


def test_nobody_makes_an_account_alone(client):
    assert reverse("account_signup") not in client.get(reverse("account_login")).content.decode()
    answer = client.post(
        reverse("account_signup"), {"email": "a@example.com", "username": "abc", "password1": PASSWORD, "password2": PASSWORD}
    )

    assert "_auth_user_id" not in client.session
    assert "<form" not in answer.content.decode().split("<footer")[0]


def test_the_language_is_chosen_before_signing_in(client):
    client.post(reverse("set_language"), {"language": "es", "next": reverse("account_login")})

    assert '<html lang="es">' in client.get(reverse("account_login")).content.decode()


LANGUAGE_OF_PAGES = re.compile(r'<html lang="(\w+)">')


def language_of(client):
    (found,) = LANGUAGE_OF_PAGES.findall(client.get(reverse("profile")).content.decode())
    return found


def test_the_language_in_which_somebody_first_signs_in_goes_with_them_to_other_browsers():
    person = MembershipFactory().user
    first, other = Client(headers={"Accept-Language": "es-MX,es;q=0.9"}), Client(headers={"Accept-Language": "en"})

    sign_in(first, person.email)
    sign_in(other, person.email)

    assert (User.objects.get().language, language_of(other)) == ("es", "es")
    assert not AuditLine.objects.filter(event_type="user.updated").exists()


def test_a_language_that_is_chosen_while_signed_in_is_kept_with_the_person(client):
    person = MembershipFactory(user__language="en").user
    client.force_login(person)

    client.post(reverse("set_language"), {"language": "es", "next": reverse("profile")})
    client.post(reverse("set_language"), {"language": "tlh", "next": reverse("profile")})

    other = Client()
    sign_in(other, person.email)
    assert (language_of(client), language_of(other)) == ("es", "es")
    line = AuditLine.objects.get(event_type="user.updated")
    assert (line.actor, line.before, line.after) == (person.username, {"language": "en"}, {"language": "es"})


def test_the_profile_names_the_language_and_changes_it(client):
    person = MembershipFactory(user__language="es").user
    client.force_login(person)

    before = client.get(reverse("profile")).content.decode()
    saved = client.post(reverse("profile"), {"display_name": "", "language": "en"}, follow=True).content.decode()
    client.logout()

    assert '<option value="es" selected>' in before
    assert '<label for="id_language">' in before
    assert ('<html lang="en">' in saved, "Your profile is saved." in saved) == (True, True)
    assert '<html lang="en">' in client.get(reverse("account_login")).content.decode()
    assert User.objects.get().language == "en"


def test_a_profile_in_no_language_of_ours_is_refused_at_its_field(client):
    client.force_login(MembershipFactory().user)

    response = client.post(reverse("profile"), {"display_name": "Ada", "language": "tlh"})

    assert (list(response.context["form"].errors), User.objects.get().display_name) == (["language"], "")


def test_the_api_speaks_english_to_a_spanish_reader_and_notes_no_language(client):
    person = MembershipFactory(user__language="es").user
    stranger = UserFactory(language="")
    client.force_login(person)
    other = Client(headers={"Accept-Language": "es"})

    refused = client.get("/api/cloud/jobs/nothing", headers={"Accept-Language": "en"}).json()["detail"]
    other.post("/api/auth/login", {"username": stranger.username, "password": PASSWORD}, content_type="application/json")

    assert refused == "Job not found: nothing"
    assert User.objects.get(pk=stranger.pk).language == ""


def test_an_address_that_is_too_long_to_keep_is_refused_at_its_field(client):
    person = UserFactory()
    fresh_sign_in(client, person)

    answer = client.post(reverse("account_email"), {"email": "a" * 300 + "@example.com", "action_add": "1"})

    assert (answer.status_code, list(answer.context["form"].errors)) == (200, ["email"])
    assert "at most 254 characters" in answer.content.decode()


def test_signing_out_takes_a_post(client):
    client.force_login(MembershipFactory().user)

    client.get(reverse("account_logout"))
    still_in = client.get(reverse("home"))
    client.post(reverse("account_logout"))
    out = client.get(reverse("home"))

    assert (still_in["Location"].startswith("/t/"), out["Location"].startswith(reverse("account_login"))) == (True, True)


@pytest.mark.parametrize(
    "name",
    [
        "account_change_password",
        "account_email",
        "account_logout",
        "account_reauthenticate",
        "mfa_activate_totp",
        "mfa_add_webauthn",
        "mfa_generate_recovery_codes",
        "mfa_index",
        "mfa_list_webauthn",
        "profile",
        "socialaccount_connections",
        "usersessions_list",
    ],
)
def test_the_pages_of_ones_account_look_like_the_rest(client, name):
    user = UserFactory()
    fresh_sign_in(client, user)

    page = client.get(reverse(name), follow=True).content.decode()

    assert "portal/base.css" in page
    assert "style=" not in page


@pytest.mark.parametrize(
    "name",
    [
        "account_login",
        "account_signup",
        "account_reset_password",
        "account_reset_password_done",
        "account_reset_password_from_key_done",
        "account_inactive",
        "account_email_verification_sent",
        "socialaccount_login_cancelled",
    ],
)
def test_the_pages_before_signing_in_ask_nobody_who_they_are(client, name):
    page = client.get(reverse(name)).content.decode()

    assert "portal/base.css" in page
    assert "menu-end" not in page
