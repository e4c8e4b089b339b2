"""A bucket is saved and tried, and a result in it is looked at again, in a real browser."""

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from jobs.models import Job, ResultDelivery
from tests.factories import PASSWORD, MembershipFactory
from tests.jobs import elsewhere
from tests.jobs.conftest import bucket  # noqa: F401
from tests.jobs.elsewhere import WEIGHTS, checked, ended_in

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def confirm(page):
    """Say the password, at sign-in or again before something secret."""
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("main form button").first.click()


@pytest.mark.parametrize("scripts", [True, False], ids=["with_scripts", "without_scripts"])
def test_a_bucket_is_saved_and_a_result_in_it_is_looked_at_again(browse, bucket, scripts):  # noqa: F811
    member = MembershipFactory()
    browser = browse(java_script_enabled=scripts, viewport={"width": 390, "height": 844})
    page = browser.open(reverse("jobs:results_settings", args=[member.team.slug]))
    page.locator("[name=login]").fill(member.user.email)
    confirm(page)

    page.get_by_role("link", name="Save a bucket").click()
    page.wait_for_load_state()
    if page.locator("[name=password]").count():
        confirm(page)
    for name, value in {"bucket": "results", "endpoint_url": bucket.url, "access_key_id": bucket.access_key}.items():
        page.locator(f"[name={name}]").fill(value)
    page.locator("[name=secret_access_key]").fill(bucket.secret_key)
    page.get_by_role("button", name="Save and test").click()
    expect(page.get_by_text("results can go to the bucket")).to_be_visible()

    job = ended_in(bucket)
    Job.objects.filter(pk=job.pk).update(team=member.team)
    assert checked(job).state == "failed"
    bucket.put(f"{job.job_id}/{WEIGHTS}", elsewhere.safetensors())
    browser.open(reverse("jobs:detail", args=[member.team.slug, job.job_id]))
    page.get_by_role("button", name="Check again").click()
    expect(page.get_by_text("The result is looked at again.")).to_be_visible()
    assert checked(job).state == "delivered"
    browser.open(reverse("jobs:results", args=[member.team.slug]))
    expect(page.get_by_text(ResultDelivery.objects.get().listing[0]["sha256"])).to_be_visible()
    assert browser.troubles == []
