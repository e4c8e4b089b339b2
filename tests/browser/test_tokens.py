"""A token is made in a real browser, shown once, and revoked."""

import pytest
from playwright.sync_api import expect

from accounts.models import APIToken
from tests.browser.pages import width
from tests.factories import PASSWORD, MembershipFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("scripts", [True, False], ids=["with_scripts", "without_scripts"])
def test_a_token_is_shown_once_and_revoked(browse, scripts):
    member = MembershipFactory()
    browser = browse(java_script_enabled=scripts, viewport={"width": 390, "height": 844}, locale="es-ES")
    page = browser.open(f"/t/{member.team.slug}/settings/tokens/new/")
    page.locator("[name=login]").fill(member.user.email)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("main form button").first.click()

    page.locator("[name=name]").fill("ci")
    page.get_by_role("button", name="Crear el token").click()
    header = page.locator("#token-header")
    expect(header).to_contain_text("Authorization: Bearer th_")
    plain = header.inner_text().split()[-1]
    page.get_by_role("link", name="Lo he guardado").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    assert plain not in page.content()
    page.get_by_role("link", name="Revocar…").click()
    page.get_by_role("button", name="Revocar el token").click()

    expect(page.get_by_role("status").first).to_contain_text("se ha revocado")
    expect(page.locator("tbody tr")).to_have_count(0)
    assert APIToken.objects.get().revoked_at is not None
    assert not scripts or width(page) == 390
    assert browser.troubles == []
