"""The first pages in a real browser: sign in, find a job, watch it to its end, take its result home."""

import hashlib
import re

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import transaction
from django.utils import timezone
from playwright.sync_api import expect

from jobs.models import Job
from jobs.services import logs
from jobs.states import State
from tests.billing.factories import USD, SpendLimitFactory
from tests.browser.pages import width
from tests.factories import PASSWORD, MembershipFactory
from tests.jobs.factories import ArtifactFactory, JobFactory, hold_for

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

WEIGHTS = b"LoRA" * 100_000
ENGLISH = {
    "sign in": "Sign in",
    "running": "Running",
    "completed": "Completed",
    "held": "Held",
    "download": "Download",
    "cancel": "Cancel…",
    "amount": "$4.00",
    "sign out": "Sign out",
}
SPANISH = {
    "sign in": "Entrar",
    "running": "En marcha",
    "completed": "Completado",
    "held": "Retenido",
    "download": "Descargar",
    "cancel": "Cancelar…",
    "amount": "4,00 US$",
    "sign out": "Salir",
}


def progress_line(step):
    return f"Epoch 1/1, Steps: {step}%|#####     | {step}/100 [00:{step:02}<01:00, 1.2it/s, lr=0.0001, step_loss={1 / step:.4f}]\n"


def say(job, text):
    with transaction.atomic():
        logs.append(job, text)


@pytest.fixture
def job():
    membership = MembershipFactory()
    SpendLimitFactory(team=membership.team)
    job = JobFactory(team=membership.team, submitted_by=membership.user, started_at=timezone.now(), submitted_at=timezone.now())
    hold_for(job, micros=4 * USD)
    say(job, progress_line(1))
    return job


def sign_in(browser, job, words):
    page = browser.open("/")
    page.locator("[name=login]").fill(job.submitted_by.email)
    page.locator("[name=password]").fill(PASSWORD)
    page.get_by_role("button", name=words["sign in"], exact=True).click()
    expect(page.locator(".job-row")).to_have_count(1)
    page.wait_for_load_state()
    return page


@pytest.mark.parametrize(("locale", "words"), [("en-GB", ENGLISH), ("es-ES", SPANISH)], ids=["english", "spanish"])
def test_a_job_is_watched_to_its_end_and_its_result_taken_home(browse, job, locale, words, tmp_path):
    browser = browse(locale=locale)

    page = sign_in(browser, job, words)
    expect(page.locator("#money-bar")).to_contain_text(words["held"])
    expect(page.locator("#money-bar")).to_contain_text(re.compile(re.escape(words["amount"]).replace(r"\ ", r"\s")))
    expect(page.locator(".job-row .pill")).to_have_text(words["running"])
    page.get_by_role("link", name=job.run_name).click()

    log = page.locator("#log")
    expect(log).to_contain_text("| 1/100 ")
    said = progress_line(1)
    for step in (2, 3):
        said += progress_line(step)
        say(job, said)
        expect(log).to_contain_text(f"| {step}/100 ")
    expect(page.locator("#job-chart polyline")).to_have_count(2)
    # The bar is one line that is drawn again and again.
    assert log.inner_text().strip() == progress_line(3).strip()

    artifact = ArtifactFactory(job=job, size_bytes=len(WEIGHTS), sha256=hashlib.sha256(WEIGHTS).hexdigest())
    storages["artifacts"].save(artifact.stored_as, ContentFile(WEIGHTS))
    job.move_to(State.COMPLETED, cause="webhook", ended_at=timezone.now())
    expect(page.locator("#job-state .pill")).to_have_text(words["completed"])
    expect(page.locator("#announcement")).to_contain_text(words["completed"].lower())
    expect(page.get_by_role("link", name=words["cancel"])).to_have_count(0)
    Job.objects.filter(pk=job.pk).update(cleaned_up_at=timezone.now())
    # Nothing tells of the cleaning up, and while a stream is open the page asks every 15 seconds.
    expect(page.locator("#live[hx-get]")).to_have_count(0, timeout=60_000)

    with page.expect_download() as download:
        page.locator("#job-files").get_by_role("link", name=words["download"]).click()
    download.value.save_as(tmp_path / "weights")
    assert download.value.suggested_filename == artifact.key
    assert hashlib.sha256((tmp_path / "weights").read_bytes()).hexdigest() == artifact.sha256
    assert artifact.sha256 in page.locator("#job-files").inner_text()

    assert browser.troubles == []


def test_a_phone_shows_everything_without_scrolling_sideways(browse, job):
    browser = browse(viewport={"width": 390, "height": 844}, has_touch=True)

    page = sign_in(browser, job, ENGLISH)
    widths = []
    for path in (job.team.get_absolute_url(), job.get_absolute_url(), f"{job.get_absolute_url()}cancel/"):
        browser.open(path)
        widths.append(width(page))
    page.get_by_role("button", name="Menu", exact=True).click()
    page.get_by_role("navigation", name="Team").get_by_role("link", name="Jobs").click()

    expect(page.locator(".job-row")).to_have_count(1)
    assert widths == [390, 390, 390]
    assert browser.troubles == []


def test_the_keyboard_alone_reaches_the_content_the_menu_and_the_way_out(browse, job):
    browser = browse()
    page = sign_in(browser, job, ENGLISH)

    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    menu = page.locator("details.menu-end")
    menu.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(menu).to_have_attribute("open", "")
    page.keyboard.press("Escape")
    expect(menu).not_to_have_attribute("open", "")
    expect(page.locator("details.menu-end > summary")).to_be_focused()
    page.keyboard.press("Enter")
    menu.get_by_role("button", name="Sign out").focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
    assert browser.troubles == []


def test_without_scripts_a_job_is_read_and_cancelled(browse, job):
    browser = browse(java_script_enabled=False)
    page = sign_in(browser, job, ENGLISH)

    page.get_by_role("link", name=job.run_name).click()
    expect(page.locator("#log")).to_contain_text("| 1/100 ")
    page.get_by_role("link", name="Cancel…").click()
    page.get_by_role("button", name="Cancel the job").click()

    expect(page.get_by_role("status").first).to_contain_text("cancelled")
    assert Job.objects.get(pk=job.pk).state == State.CANCELLED
    assert browser.troubles == []


def test_a_chosen_theme_stays(browse, job):
    browser = browse(color_scheme="light")
    page = sign_in(browser, job, ENGLISH)
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)

    page.locator("details.menu-end > summary").click()
    page.get_by_role("button", name="Light or dark").click()
    dark = page.evaluate(background)
    page.reload()

    assert light != dark
    assert page.evaluate(background) == dark
    assert browser.troubles == []
