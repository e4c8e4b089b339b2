"""The readable reference of the API in a real browser."""

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_the_reference_opens_without_a_trouble_and_without_another_host(browse):
    browser = browse()

    page = browser.open("/api/docs")

    expect(page.get_by_role("heading", name="Tunehouse API")).to_be_visible()
    submit = page.locator("#operations-jobs-post_cloud_jobs_submit")
    # Of a long list the program draws what is in view.
    for _ in range(100):
        if submit.count():
            break
        page.mouse.wheel(0, 400)
        page.wait_for_function("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(() => drawn(true))))")
    submit.get_by_text("Admit a job").first.click()
    expect(submit.get_by_text("idempotency_key").first).to_be_visible()
    assert browser.troubles == []
