"""A job is approved in a real browser: behind the link in a mail, whose form a strict browser must be able to send, and on its page."""

import pytest
from django.core import mail
from django.urls import reverse
from playwright.sync_api import expect

from accounts import tasks
from accounts.models import Team
from accounts.roles import Role
from jobs.models import ApprovalRequest
from tests.browser.pages import width
from tests.factories import PASSWORD
from tests.jobs.approvals import blocked, member
from tests.jobs.conftest import no_provider  # noqa: F401 - a fixture
from tests.jobs.ready import make_ready
from tests.mail import link_in

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PHONE = {"width": 390, "height": 844}


@pytest.mark.parametrize("scripts", [True, False], ids=["with_scripts", "without_scripts"])
def test_the_link_in_a_mail_approves_once(browse, live_server, settings, no_provider, scripts):  # noqa: F811
    settings.EMAIL_BACKEND = "tests.mail.EmailBackend"
    ready = make_ready()
    settings.PUBLIC_URL = live_server.url
    member(ready, Role.LEAD)
    asked = blocked(ready, max_seconds=3600)
    tasks.send_mail()
    link = link_in(mail.outbox[-1]).removeprefix(live_server.url)
    browser = browse(java_script_enabled=scripts, viewport=PHONE)

    page = browser.open(link)
    assert not scripts or width(page) == 390
    page.locator("[name=notes]").fill("Go on")
    page.get_by_role("button", name="Approve for at most $3.57").click()
    expect(page.get_by_role("heading", name="The job is approved")).to_be_visible()

    asked.refresh_from_db()
    assert (asked.state, asked.review_notes) == ("approved", "Go on")
    assert browser.troubles == []
    browser.open(link)
    expect(page.get_by_role("heading", name="This link is not open any more")).to_be_visible()


def test_a_lead_finds_what_waits_in_the_rail_and_rejects_it(browse, no_provider):  # noqa: F811
    ready = make_ready()
    lead = member(ready, Role.LEAD)
    blocked(ready, max_seconds=3600, run_name="spring")
    browser = browse(viewport=PHONE, locale="es-ES")
    page = browser.open(reverse("jobs:approvals", args=[ready.team.slug]))
    page.locator("[name=login]").fill(lead.user.email)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("main form button").first.click()

    expect(page.get_by_role("heading", name="Aprobaciones")).to_be_visible()
    assert width(page) == 390
    page.get_by_role("link", name="spring").click()
    expect(page.get_by_role("heading", name="spring")).to_be_visible()
    assert width(page) == 390
    page.get_by_role("button", name="Rechazar").click()
    expect(page.get_by_role("status").first).to_contain_text("El trabajo está rechazado")
    browser.open(reverse("jobs:approval_rules", args=[ready.team.slug]))

    assert width(page) == 390
    assert ApprovalRequest.objects.get().state == "rejected"
    assert browser.troubles == []


def test_a_long_name_of_a_team_leaves_one_line_for_the_head_of_the_page_on_a_phone(browse, no_provider):  # noqa: F811
    ready = make_ready(role=Role.OWNER)
    Team.objects.update(name="Computer Vision and Graphics, the second floor")
    browser = browse(viewport=PHONE)
    page = browser.open(reverse("jobs:approval_rules", args=[ready.team.slug]))
    page.locator("[name=login]").fill(ready.member.user.email)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("main form button").first.click()
    expect(page.get_by_role("heading", name="Approval rules")).to_be_visible()

    brand, menu = (page.locator(mark).bounding_box() for mark in (".brand", ".top .menu-end"))
    assert abs(brand["y"] + brand["height"] / 2 - menu["y"] - menu["height"] / 2) < 8
    assert page.evaluate("document.documentElement.scrollWidth") == 390
