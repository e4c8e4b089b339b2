"""A dataset goes up in a real browser and is looked at."""

import pytest
from playwright.sync_api import expect

from tests.factories import PASSWORD, MembershipFactory
from tests.jobs.sandbox.servers import picture

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("scripts", [True, False], ids=["with_scripts", "without_scripts"])
def test_files_go_up_and_their_pictures_are_seen(browse, scripts):
    member = MembershipFactory()
    browser = browse(java_script_enabled=scripts, viewport={"width": 390, "height": 844})
    page = browser.open(f"/t/{member.team.slug}/datasets/new/")
    page.locator("[name=login]").fill(member.user.email)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("main form button").first.click()

    page.locator("[name=name]").fill("boats")
    captioned = {"name": "a.txt", "mimeType": "text/plain", "buffer": b"a boat"}
    page.locator("[name=files]").set_input_files([{"name": "a.jpg", "mimeType": "image/jpeg", "buffer": picture()}, captioned])
    with page.expect_response(lambda response: response.url.endswith(".jpg")) as drawn:
        page.get_by_role("button", name="Upload").click()

    expect(page.locator("h1")).to_have_text("boats")
    expect(page.get_by_role("img", name="a boat")).to_be_visible()
    assert (drawn.value.status, drawn.value.headers["content-type"]) == (200, "image/jpeg")
    assert browser.troubles == []
