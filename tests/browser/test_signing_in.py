"""Signing in and the pages of one's account in a real browser, with everything that it is unhappy about."""

import re
from urllib.parse import urlsplit

import pytest
from django.core.cache import cache
from django.urls import reverse
from playwright.sync_api import expect

from accounts.models import User
from tests.accounts.test_sign_in_safety import code_now
from tests.browser.pages import width
from tests.factories import PASSWORD, MembershipFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

NEW_PASSWORD = "staple battery horse correct"
PHONE = {"width": 390, "height": 844}


@pytest.fixture(autouse=True)
def no_counts_of_other_tests(transactional_db):
    cache.clear()


@pytest.fixture
def person():
    return MembershipFactory().user


def sign_in(browser, person, password=PASSWORD):
    page = browser.open(reverse("account_login"))
    page.locator("[name=login]").fill(person.email)
    page.locator("[name=password]").fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.locator("[name=password]")).to_have_count(0)
    page.wait_for_load_state()
    return page


def sign_out(page):
    page.locator("details.menu-end > summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("[name=login]")).to_be_visible()
    page.wait_for_load_state()


def confirm(page):
    """Give the password again where a page asks for it."""
    if page.get_by_role("heading", name="Confirm Access").count():
        page.locator("[name=password]").fill(PASSWORD)
        page.get_by_role("button", name="Confirm").click()
        expect(page.get_by_role("heading", name="Confirm Access")).to_have_count(0)
        page.wait_for_load_state()


def key_of(page):
    """A virtual key that answers for its owner, as a phone or a laptop does. Source: DevTools protocol, domain WebAuthn."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def test_a_passkey_is_made_and_signs_in_alone(browse, person):
    browser = browse()
    page = browser.page
    key_of(page)
    sign_in(browser, person)
    expect(page.locator("details.menu-end")).to_be_visible()

    browser.open(reverse("mfa_add_webauthn"))
    confirm(page)
    page.get_by_label("Name").fill("My laptop")
    page.get_by_label(re.compile("Passwordless")).check()
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("heading", name="Recovery Codes")).to_be_visible()
    browser.open(reverse("mfa_list_webauthn"))
    expect(page.locator("main")).to_contain_text("My laptop")
    sign_out(page)
    page.get_by_role("button", name="Sign in with a passkey").click()

    expect(page.locator("details.menu-end")).to_be_visible()
    browser.open(reverse("profile"))
    expect(page.locator("main")).to_contain_text(person.email)

    # And it is asked for after the password.
    sign_out(page)
    sign_in(browser, person)
    page.get_by_role("button", name="Use a security key").click()
    expect(page.locator("details.menu-end")).to_be_visible()
    assert browser.troubles == []


def test_a_passkey_that_is_not_there_is_said_in_words(live_server, browse_at, person):
    # Passkeys belong to names, never to bare addresses.
    browser = browse_at(f"http://127.0.0.1:{urlsplit(live_server.url).port}")
    page = browser.open(reverse("account_login"))

    page.get_by_role("button", name="Sign in with a passkey").click()

    expect(page.get_by_role("alert")).to_contain_text("they need https")


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_a_second_factor_is_set_up_and_asked_for(browse, person, scripts):
    browser = browse(java_script_enabled=scripts, viewport=PHONE)
    page = sign_in(browser, person)

    browser.open(reverse("mfa_activate_totp"))
    confirm(page)
    secret = page.locator("#authenticator_secret").input_value()
    page.locator("[name=code]").fill(code_now(secret))
    page.get_by_role("button", name="Activate").click()
    codes = page.locator("#recovery_codes").input_value().split()
    browser.open(reverse("account_logout"))
    page.locator("main").get_by_role("button", name="Sign Out").click()
    expect(page.locator("[name=login]")).to_be_visible()
    sign_in(browser, person)
    page.locator("[name=code]").fill(codes[0])
    page.get_by_role("button", name="Sign In", exact=True).click()
    expect(page.locator("details.menu-end")).to_be_visible()

    browser.open(reverse("profile"))
    expect(page.locator("main")).to_contain_text(person.email)
    assert len(codes) == 10
    assert browser.troubles == []


def test_a_forgotten_password_is_set_anew_by_mail(browse, person, mailoutbox):
    browser = browse()
    page = browser.open(reverse("account_login"))

    page.get_by_role("link", name="Forgot your password?").click()
    page.locator("[name=email]").fill(person.email)
    page.locator("main").get_by_role("button").click()
    expect(page).to_have_url(re.compile(reverse("account_reset_password_done")))
    browser.open(re.search(r"(/accounts/password/reset/key/\S+)", mailoutbox[0].body)[1])
    page.locator("[name=password1]").fill(NEW_PASSWORD)
    page.locator("[name=password2]").fill(NEW_PASSWORD)
    page.get_by_role("button", name="Change Password").click()
    expect(page).to_have_url(re.compile(reverse("account_reset_password_from_key_done")))
    sign_in(browser, person, NEW_PASSWORD)

    expect(page.locator("details.menu-end")).to_be_visible()
    assert browser.troubles == []


def test_every_page_of_an_account_fits_a_phone_and_breaks_no_policy(browse, person):
    browser = browse(viewport=PHONE)
    page = sign_in(browser, person)
    browser.open(reverse("mfa_generate_recovery_codes"))
    confirm(page)
    names = [
        "account_change_password",
        "account_email",
        "account_logout",
        "account_reauthenticate",
        "mfa_activate_totp",
        "mfa_add_webauthn",
        "mfa_index",
        "mfa_list_webauthn",
        "profile",
        "socialaccount_connections",
        "usersessions_list",
    ]

    widths = {}
    for name in names:
        browser.open(reverse(name))
        expect(page.locator("main h1, main h2").first).to_be_visible()
        widths[name] = width(page)

    assert widths == dict.fromkeys(names, 390)
    assert browser.troubles == []


def test_the_administration_keeps_to_its_policy(browse, person):
    User.objects.filter(pk=person.pk).update(is_staff=True, is_superuser=True)
    browser = browse()
    page = sign_in(browser, person)

    for path in (
        reverse("admin:index"),
        reverse("admin:accounts_user_changelist"),
        reverse("admin:accounts_user_change", args=[person.pk]),
    ):
        browser.open(path)
        expect(page.get_by_role("link", name="Tunehouse").first).to_be_attached()

    assert [trouble for trouble in browser.troubles if "CSP" in trouble or "Content Security" in trouble] == []
