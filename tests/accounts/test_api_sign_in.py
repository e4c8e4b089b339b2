"""Signing in by JSON: cookie, second factor, first administrator, registration and passwords."""

from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator
from django.conf import settings as django_settings
from django.core.cache import cache
from django.test import Client

from accounts.models import AuditLine, Registration, Team, User
from accounts.roles import Role
from tests.factories import PASSWORD, MembershipFactory, UserFactory

pytestmark = pytest.mark.django_db

AUTH = "/api/auth"
ACCOUNT = {"email": "ada@example.com", "username": "ada-l", "password": PASSWORD}
NEW_PASSWORD = "another long phrase of hers"


@pytest.fixture(autouse=True)
def no_failures_before():
    """django-allauth counts failed sign-ins in the cache."""
    cache.clear()


@pytest.fixture
def person(db):
    return MembershipFactory(user=UserFactory(username="ada-l", email="ada@example.com")).user


def post(client, path, body=None, **more):
    return client.post(f"{AUTH}/{path}", {} if body is None else body, content_type="application/json", **more)


def sign_in(client, name="ada-l", password=PASSWORD, **more):
    return post(client, "login", {"username": name, "password": password} | more)


def events():
    return [line.event_type for line in AuditLine.objects.order_by("pk")]


# --- Coming and going ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
@pytest.mark.parametrize("name", ["ada-l", "ada@example.com", " ADA@example.com "])
def test_somebody_signs_in_by_name_or_address(client, person, name, ending):
    answer = post(client, f"login{ending}", {"username": name, "password": PASSWORD})

    assert (answer.status_code, answer.json()["success"], answer.json()["user"]["id"]) == (200, True, person.pk)
    assert client.get(f"{AUTH}/check").json() == {"authenticated": True, "user_id": person.pk, "username": "ada-l", "is_admin": False}
    cookie = answer.cookies[django_settings.SESSION_COOKIE_NAME]
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Lax", timedelta(hours=24).total_seconds())
    assert events() == ["auth.login.success"]


def test_to_be_remembered_lasts_thirty_days(client, person):
    answer = sign_in(client, remember_me=True)

    assert answer.cookies[django_settings.SESSION_COOKIE_NAME]["max-age"] == timedelta(days=30).total_seconds()


@pytest.mark.parametrize("name", ["ada-l", "ada@example.com", "nobody", "nobody@example.com"])
def test_a_wrong_password_and_an_unknown_name_are_told_the_same(client, person, name):
    answer = sign_in(client, name, "wrong")

    assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (
        401, "invalid_credentials", "Invalid username or password",
    )  # fmt: skip
    assert (events(), client.get(f"{AUTH}/check").json()) == (["auth.login.failed"], {"authenticated": False})


def test_a_closed_account_is_told_the_same_as_a_wrong_password(client, person):
    User.objects.update(is_active=False)

    assert (sign_in(client).status_code, sign_in(client).json()["detail"]) == (401, "Invalid username or password")


@pytest.mark.parametrize("name", ["ada-l", "nobody"])
def test_five_failures_lock_the_name_known_or_not(client, person, name):
    failures = [sign_in(client, name, "wrong").status_code for _ in range(5)]
    then = sign_in(client, name)

    assert (failures, then.status_code, then.json()["code"]) == ([401] * 5, 429, "rate_limit_exceeded")
    assert int(then.headers["Retry-After"]) > 0


def test_a_second_factor_is_asked_for_on_the_page_only(client, person):
    Authenticator.objects.create(user=person, type=Authenticator.Type.TOTP, data={"secret": "x"})

    right, wrong = sign_in(client), sign_in(client, password="wrong")

    assert (right.status_code, right.json()["code"], wrong.json()["code"]) == (401, "mfa_required", "invalid_credentials")
    assert (client.get(f"{AUTH}/check").json()["authenticated"], events()) == (False, ["auth.login.failed"] * 2)


@pytest.mark.parametrize("body", [{}, "", {"username": "ada-l"}, {"username": ["ada-l"], "password": PASSWORD}, "[1]"])
def test_a_sign_in_without_its_fields_is_told_which(client, person, body):
    answer = post(client, "login", body)

    assert (answer.status_code, type(answer.json()["detail"])) == (400, str)


def test_a_page_of_another_site_signs_nobody_in(client, person):
    foreign = post(client, "login", {"username": "ada-l", "password": PASSWORD}, headers={"Origin": "https://evil.example"})
    own = post(client, "login", {"username": "ada-l", "password": PASSWORD}, headers={"Origin": "http://testserver"})

    assert (foreign.status_code, own.status_code) == (403, 200)


def test_writes_by_cookie_need_the_token_that_signing_in_gives(person):
    client = Client(enforce_csrf_checks=True)
    sign_in(client)

    without = client.post(f"{AUTH}/logout")
    token = client.cookies["csrftoken"].value
    signed_out = client.post(f"{AUTH}/logout/", headers={"X-CSRFToken": token})

    assert (without.status_code, signed_out.status_code, signed_out.json()) == (403, 200, {"success": True})
    assert client.get(f"{AUTH}/check/").json() == {"authenticated": False}
    assert events() == ["auth.login.success", "auth.logout"]


def test_signing_out_without_a_session_is_no_event(client, db):
    assert (post(client, "logout", "").json(), events()) == ({"success": True}, [])


def test_a_member_of_a_suspended_team_signs_out_all_the_same(client, person):
    sign_in(client)
    Team.objects.update(suspended_at="2026-01-01T00:00:00Z")

    assert (post(client, "logout").json(), client.get(f"{AUTH}/check").json()) == ({"success": True}, {"authenticated": False})


def test_the_pace_of_signing_in_is_five_a_minute(client, person, settings):
    settings.RATE_LIMIT_CALLS = 100

    answers = [sign_in(client).status_code for _ in range(6)]

    assert answers == [200] * 5 + [429]


# --- The first administrator --------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_the_first_administrator_is_made_once(client, db, ending):
    before = client.get(f"{AUTH}/setup/status{ending}").json()
    made = post(client, f"setup/first-admin{ending}", ACCOUNT | {"display_name": "Ada", "team_name": "Pictures"})
    after = client.get(f"{AUTH}/setup/status{ending}").json()
    late = post(Client(), f"setup/first-admin{ending}", ACCOUNT | {"username": "eve", "email": "eve@example.com"})

    assert before == {"needs_setup": True, "has_admin": False, "user_count": 0, "registration_enabled": False}
    assert after == {"needs_setup": False, "has_admin": True, "user_count": 1, "registration_enabled": False}
    assert (made.status_code, made.json()["success"], type(made.json()["message"])) == (200, True, str)
    assert {name: made.json()["user"][name] for name in ("username", "email", "is_admin", "display_name")} == {
        "username": "ada-l", "email": "ada@example.com", "is_admin": True, "display_name": "Ada",
    }  # fmt: skip
    assert made.cookies[django_settings.SESSION_COOKIE_NAME]["max-age"] == timedelta(days=30).total_seconds()
    assert (late.status_code, late.json()["code"], User.objects.count()) == (409, "setup_done", 1)
    assert Team.objects.get().memberships.get().role == Role.OWNER
    assert events()[:2] == ["user.created", "team.created"]
    assert client.get(f"{AUTH}/me").json()["is_admin"] is True


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"password": "short"}, "password"),
        ({"password": "password123"}, "password"),
        ({"username": "a b"}, "username"),
        ({"email": "x"}, "email"),
    ],
)
def test_a_first_administrator_that_cannot_be_leaves_nothing(client, db, wrong, field):
    answer = post(client, "setup/first-admin", ACCOUNT | wrong)

    assert (answer.status_code, answer.json()["field"], User.objects.count(), Team.objects.count()) == (400, field, 0, 0)


def test_refusals_are_in_english_whatever_the_language(client, db):
    answer = post(client, "setup/first-admin", ACCOUNT | {"password": "short"}, headers={"Accept-Language": "es"})

    assert answer.json()["detail"].startswith("This password is too short.")


def test_auth_status_is_open_to_everybody(client, person):
    answer = client.get("/api/users/meta/auth-status/")

    assert answer.json() == {"in_use": True, "user_count": 1, "has_external_providers": False}


# --- Registering --------------------------------------------------------------------------------------------


def test_nobody_registers_where_it_is_closed(client, person):
    answer = post(client, "register", ACCOUNT)

    assert (answer.status_code, answer.json()["code"], User.objects.count()) == (403, "permission_denied", 1)


def test_where_it_is_open_an_account_is_made_in_no_team(client, db):
    Registration.objects.create(is_open=True)

    made = post(client, "register/", ACCOUNT)

    assert (made.status_code, made.json()["user"]["username"], made.json()["user"]["levels"]) == (200, "ada-l", [])
    assert (User.objects.get().memberships.count(), User.objects.get().is_staff) == (0, False)
    assert client.get(f"{AUTH}/check").json()["authenticated"] is True
    assert events() == ["user.created", "auth.login.success"]


@pytest.mark.parametrize("taken", [{"username": "other"}, {"email": "other@example.com"}])
def test_who_has_an_account_is_not_told_to_who_registers(client, person, taken):
    Registration.objects.create(is_open=True)

    answer = post(client, "register", ACCOUNT | taken)

    assert (answer.status_code, answer.json()["detail"]) == (400, "This user name or e-mail address cannot be used.")
    assert User.objects.count() == 1


# --- Passwords ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), [("post", f"{AUTH}/change-password"), ("put", "/api/users/me/password/")])
def test_a_new_password_ends_the_other_sessions_and_keeps_this_one(client, person, method, path):
    elsewhere = Client()
    sign_in(client)
    sign_in(elsewhere)

    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    changed = getattr(client, method)(path, body, content_type="application/json")

    assert (changed.status_code, changed.json()) == (200, {"success": True})
    still = [one.get(f"{AUTH}/check").json()["authenticated"] for one in (client, elsewhere)]
    assert (still, User.objects.get().check_password(NEW_PASSWORD), events()[-1]) == ([True, False], True, "user.password.changed")


def test_a_wrong_or_weak_password_changes_nothing(client, person):
    sign_in(client)

    wrong = post(client, "change-password", {"current_password": "wrong", "new_password": NEW_PASSWORD})
    weak = post(client, "change-password", {"current_password": PASSWORD, "new_password": "12345678"})

    assert (wrong.status_code, wrong.json()["field"], weak.status_code, weak.json()["field"]) == (
        401,
        "current_password",
        400,
        "new_password",
    )
    assert User.objects.get().check_password(PASSWORD)


def test_a_token_changes_no_password(call, owner):
    answer = call(owner, "post", f"{AUTH}/change-password", {"current_password": PASSWORD, "new_password": NEW_PASSWORD})

    assert (answer.status_code, User.objects.get().check_password(PASSWORD)) == (403, True)
    assert call(None, "post", f"{AUTH}/change-password").status_code == 401


# --- Other ways in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [f"{AUTH}/external", "/api/cloud/external-auth"])
def test_other_ways_to_sign_in_are_listed_and_set_up_elsewhere(client, db, prefix, settings):
    none = client.get(f"{prefix}/available").json()
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [{"provider_id": "corp", "name": "Corp"}]}}
    settings.AUTHENTICATION_BACKENDS = [*settings.AUTHENTICATION_BACKENDS, "accounts.ldap.Backend"]
    some = client.get(f"{prefix}/available/").json()
    others = [
        client.get(f"{prefix}/providers"),
        client.post(f"{prefix}/providers", {}, content_type="application/json"),
        client.patch(f"{prefix}/providers/corp", {}, content_type="application/json"),
        client.delete(f"{prefix}/providers/corp"),
        client.post(f"{prefix}/providers/corp/test"),
        client.get(f"{prefix}/oidc/start"),
        client.get(f"{prefix}/oidc/corp/callback"),
        client.post(f"{prefix}/ldap/login", {}, content_type="application/json"),
    ]

    assert none == {"providers": []}
    assert some == {"providers": [{"name": "corp", "type": "oidc"}, {"name": "ldap", "type": "ldap"}]}
    assert [(answer.status_code, answer.json()["code"]) for answer in others] == [(501, "not_offered")] * len(others)
