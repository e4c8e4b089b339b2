"""From an empty installation to a downloaded LoRA, as a person does it: the whole product behind a real browser."""

import hashlib
import json
import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import redrawn
from tests.end_to_end.house import CONFIG, House
from tests.factories import PASSWORD
from tests.jobs.sandbox.servers import picture

pytestmark = pytest.mark.browser

GOOD = "r8_Sandbox0Sandbox0Sandbox0Sandbox0Team1"
UNKNOWN = "r8_Sandbox0Sandbox0Sandbox0Sandbox0Nobody"
ENGLISH = {
    "blank": "has a blank",
    "unknown": "not good as it stands",
    "good": "Replicate accepts the token",
    "completed": "Completed",
    "refused": "$0.41 are left",
    "member": "Researcher",
}
SPANISH = {
    "blank": "has a blank",
    "unknown": "El token no sirve",
    "good": "Replicate acepta el token",
    "completed": "Completado",
    "refused": "quedan 0,41 US$",
    "member": "Investigador",
}


@pytest.fixture
def house(tmp_path):
    """An installation of its own where nobody has an account yet."""
    house = House(tmp_path)
    try:
        house.start_empty()
        yield house
        house.stop()
    finally:
        house.kill()


@pytest.mark.parametrize(("locale", "words"), [("en-GB", ENGLISH), ("es-ES", SPANISH)], ids=["english", "spanish"])
def test_from_an_empty_installation_to_a_downloaded_lora(browse_at, house, tmp_path, locale, words):
    browser = browse_at(house.url, locale=locale)
    page = browser.open("/")

    found_the_installation(page)
    save_a_token(page, house, words)
    upload_a_dataset(page)
    submit_with_consent(page)
    watch_it_to_its_end(page, words)
    take_its_result_home(page, house, tmp_path)
    set_a_limit_that_refuses(page, words)
    add_a_member(page, words)
    make_an_api_token(page, house)

    assert browser.troubles == []


def press(page: Page) -> None:
    """The button of the page's form."""
    page.locator("main form .button-primary").first.click()


def rail(page: Page, section: str) -> None:
    page.locator(f"#rail a[href$='/{section}/']").click()


def found_the_installation(page: Page) -> None:
    expect(page).to_have_url(re.compile("/setup/$"))
    page.locator("[name=email]").fill("ada@example.com")
    page.locator("[name=username]").fill("ada")
    page.locator("[name=password1]").fill(PASSWORD)
    page.locator("[name=password2]").fill(PASSWORD)
    page.locator("[name=team_name]").fill("Atelier Nord")
    press(page)
    expect(page).to_have_url(re.compile("/t/atelier-nord/jobs/$"))


def save_a_token(page: Page, house: House, words: dict[str, str]) -> None:
    """With a blank it is refused at its field, an unknown one is kept and called what it is, a good one is good."""
    page.goto(f"{house.url}/t/atelier-nord/settings/credentials/replicate/save/")
    page.locator("[name=secret]").fill(f"{GOOD} ")
    press(page)
    expect(page.locator(".errorlist")).to_contain_text(words["blank"])
    page.locator("[name=secret]").fill(UNKNOWN)
    press(page)
    expect(page.locator(".note-error")).to_contain_text(words["unknown"])
    page.goto(f"{house.url}/t/atelier-nord/settings/credentials/replicate/save/")
    page.locator("[name=secret]").fill(GOOD)
    press(page)
    expect(page.locator(".note-success")).to_contain_text(words["good"])
    assert GOOD not in page.content()


def upload_a_dataset(page: Page) -> None:
    rail(page, "datasets")
    page.locator("a[href$='/datasets/new/']").first.click()
    page.locator("[name=name]").fill("squares")
    caption = {"name": "a.txt", "mimeType": "text/plain", "buffer": b"a red square"}
    page.locator("[name=files]").set_input_files([{"name": "a.jpg", "mimeType": "image/jpeg", "buffer": picture()}, caption])
    press(page)
    expect(page.locator("h1")).to_have_text("squares")


def submit_with_consent(page: Page) -> None:
    """Without consent nothing is submitted; where the data goes stands beside the question."""
    rail(page, "jobs")
    page.locator("a[href$='/jobs/new/']").first.click()
    choose(page)
    with redrawn(page):
        page.locator("[name=run_name]").fill("first light")
    submit = page.locator("#quote .button-primary")
    expect(submit).to_be_enabled()
    submit.click()
    expect(page.locator("#id_agrees_error, .field-check .errorlist").first).to_be_visible()
    with redrawn(page):
        page.locator("[name=agrees]").check()
    expect(submit).to_be_enabled()
    submit.click()
    expect(page.locator("h1")).to_have_text("first light")


def choose(page: Page) -> None:
    """What is to be trained, in the form of a submission."""
    expect(page.locator("#quote")).to_be_visible()
    with redrawn(page):
        page.locator("[name=config_json]").fill(json.dumps(CONFIG))
    with redrawn(page):
        page.locator("[name=dataset]").select_option("squares@1")


def watch_it_to_its_end(page: Page, words: dict[str, str]) -> None:
    expect(page.locator("#job-state .pill").first).to_have_text(words["completed"], timeout=90_000)
    expect(page.locator("#log")).to_contain_text("60/60")
    expect(page.locator("#job-chart polyline").first).to_be_visible()
    expect(page.locator("#job-files .pill-green")).to_be_visible(timeout=30_000)


def take_its_result_home(page: Page, house: House, tmp_path) -> None:
    """What is downloaded is byte by byte what the trainer wrote."""
    [prediction] = httpx.get(f"{house.sandbox_url}/control/predictions", trust_env=False).json()
    written = {file["key"].rpartition("/")[2]: file["sha256"] for file in house.evidence(prediction["id"])["files"]}
    weights = page.locator("#job-files .file", has_text="pytorch_lora_weights.safetensors").last
    with page.expect_download() as download:
        weights.locator("a.button").click()
    download.value.save_as(tmp_path / "weights")
    taken = hashlib.sha256((tmp_path / "weights").read_bytes()).hexdigest()
    assert taken == written["pytorch_lora_weights.safetensors"]
    expect(weights).to_contain_text(taken)


def set_a_limit_that_refuses(page: Page, words: dict[str, str]) -> None:
    rail(page, "settings")
    page.locator("nav .chip[href$='/limits/']").click()
    page.locator("a[href$='/limits/new/']").first.click()
    page.locator("[name=amount]").fill("0.50")
    press(page)
    expect(page.locator("[name=amount]")).to_have_count(0)
    rail(page, "jobs")
    page.locator("a[href$='/jobs/new/']").first.click()
    choose(page)
    expect(page.locator("#quote .note-error")).to_contain_text(words["refused"])
    expect(page.locator("#quote .button-primary")).to_be_disabled()


def add_a_member(page: Page, words: dict[str, str]) -> None:
    """She is invited by a link, since this server sends no mail, and makes her account with it."""
    rail(page, "members")
    page.locator("a[href$='/members/invite/']").first.click()
    page.locator("[name=email]").fill("grace@example.com")
    page.locator("[name=role]").select_option("researcher")
    press(page)
    link = page.locator("#invite-link").inner_text()
    accept_as_newcomer(page, link)
    page.locator("main .button-primary").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("tbody tr", has_text="grace")).to_contain_text(words["member"])


def accept_as_newcomer(page: Page, link: str) -> None:
    """In a browser of her own."""
    context = page.context.browser.new_context()
    hers = context.new_page()
    hers.goto(link)
    hers.locator("[name=display_name]").fill("Grace")
    hers.locator("[name=username]").fill("grace")
    hers.locator("[name=password1]").fill(PASSWORD)
    hers.locator("[name=password2]").fill(PASSWORD)
    press(hers)
    expect(hers).to_have_url(re.compile("/t/atelier-nord/jobs/$"))
    context.close()


def make_an_api_token(page: Page, house: House) -> None:
    """It is shown once, and it works."""
    rail(page, "settings")
    page.locator("a[href$='/tokens/new/']").first.click()
    page.locator("[name=name]").fill("ci")
    press(page)
    header = page.locator("#token-header").inner_text()
    page.locator("main .button-primary").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    assert header.split()[-1] not in page.content()
    name, _, value = header.partition(": ")
    listed = httpx.get(f"{house.url}/api/cloud/jobs", headers={name: value}, trust_env=False).json()
    assert [job["status"] for job in listed["jobs"]] == ["completed"]
