"""Submitting a job in a real browser: the panel follows the form, and the button does what it says."""

import pytest
from playwright.sync_api import expect

from jobs.models import Consent, Job
from tests.billing.factories import USD, SpendLimitFactory
from tests.browser.pages import redrawn, width
from tests.factories import PASSWORD
from tests.jobs.conftest import no_provider, ready  # noqa: F401
from tests.jobs.ready import NAMED

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def team(ready, settings):  # noqa: F811
    ready.member.user.set_password(PASSWORD)
    ready.member.user.save()
    SpendLimitFactory(team=ready.team, amount=10 * USD)
    return ready.team


def sign_in(browser, team, path):
    page = browser.open(f"/t/{team.slug}/{path}")
    page.locator("[name=login]").fill(team.members.get().email)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("main form button").first.click()
    expect(page.locator("#quote")).to_be_visible()
    page.wait_for_load_state()
    return page


@pytest.mark.parametrize(
    ("locale", "words"),
    [
        (
            "en-GB",
            {
                "submit": "Submit for at most $",
                "left": "monthly limit has left",
                "only": "$10.00 are left until it resets",
                "pending": "Waiting",
            },
        ),
        ("es-ES", {"submit": "Enviar por ", "left": "que le quedan", "only": "hasta que", "pending": "En espera"}),
    ],
    ids=["english", "spanish"],
)
def test_the_panel_follows_the_form_and_the_button_submits_what_it_says(browse, team, locale, words):
    browser = browse(locale=locale)
    page = sign_in(browser, team, "jobs/new/")
    panel = page.locator("#quote")

    expect(panel).to_contain_text(words["left"])
    first = panel.locator("[name=agreed]").input_value()
    with redrawn(page):
        page.locator("[name=max_minutes]").fill("300")
    expect(panel).to_contain_text(words["only"])
    expect(panel.locator("button").first).to_be_disabled()
    with redrawn(page):
        page.locator("[name=max_minutes]").fill("60")
    expect(panel.locator("button").first).to_be_enabled()
    assert int(panel.locator("[name=agreed]").input_value()) > int(first)
    with redrawn(page):
        page.locator("[name=run_name]").fill("spring")
    with redrawn(page):
        page.locator("[name=agrees]").check()
    panel.locator("button", has_text=words["submit"]).click()

    expect(page.locator("h1")).to_have_text("spring")
    expect(page.locator("#job-state .pill")).to_have_text(words["pending"])
    assert (Job.objects.get().ceiling_seconds, Consent.objects.count()) == (3600, 1)
    assert browser.troubles == []


def test_without_scripts_the_form_is_checked_and_submitted(browse, team):
    browser = browse(java_script_enabled=False)
    page = sign_in(browser, team, "jobs/new/")

    page.locator("[name=config_name]").select_option(NAMED)
    page.locator("[name=max_minutes]").fill("60")
    page.locator("[name=agrees]").check()
    page.get_by_role("button", name="Check").click()
    page.get_by_role("button", name="Submit for at most $3.57").click()

    expect(page.locator("#job-state .pill")).to_have_text("Waiting")
    assert Job.objects.get().hold.amount == 3_568_500
    assert browser.troubles == []


def test_a_phone_shows_the_form_without_scrolling_sideways(browse, team):
    browser = browse(viewport={"width": 390, "height": 844})
    page = sign_in(browser, team, "jobs/new/")

    assert width(page) == 390
    assert browser.troubles == []
