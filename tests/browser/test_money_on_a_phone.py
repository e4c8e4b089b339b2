"""What an owner sets about money and jobs is read on a phone: each row is a card, and nothing has to be pushed sideways."""

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import expect

from accounts.roles import Role
from billing.models import LimitAction
from jobs.models import JobQuota
from jobs.models.quotas import QuotaKind, QuotaScope
from tests.billing.factories import USD, SpendLimitFactory, hold
from tests.factories import PASSWORD
from tests.jobs.approvals import rule
from tests.jobs.conftest import no_provider  # noqa: F401 - a fixture
from tests.jobs.ready import make_ready

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PHONE = {"width": 390, "height": 844}
HIDDEN_SIDEWAYS = "Array.from(document.querySelectorAll('.table-scroll')).filter(box => box.scrollWidth > box.clientWidth).length"


@pytest.mark.parametrize("locale", ["en-US", "es-ES"])
def test_rules_quotas_and_limits_fit_a_phone(browse, no_provider, locale):  # noqa: F811
    ready = make_ready(role=Role.OWNER)
    rule(ready.team, "config_pattern", "portraits-of-the-whole-department-*", name="Ask about the portraits", exempt_roles=[Role.LEAD])
    JobQuota.objects.create(team=ready.team, scope=QuotaScope.EACH, kind=QuotaKind.JOBS_PER_MONTH, limit_value=2000)
    SpendLimitFactory(team=ready.team, amount=12_345 * USD, action=LimitAction.REQUIRE_APPROVAL)
    hold(ready.team, 12_345, now=timezone.now())
    browser = browse(viewport=PHONE, locale=locale)
    page = browser.open(reverse("jobs:quotas", args=[ready.team.slug]))
    page.locator("[name=login]").fill(ready.member.user.email)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("main form button").first.click()
    expect(page.locator(".fold-table")).to_have_count(2)

    for name, tables in (("jobs:quotas", 2), ("jobs:approval_rules", 1), ("billing:limits", 2)):
        browser.open(reverse(name, args=[ready.team.slug]))
        expect(page.locator(".fold-table")).to_have_count(tables)
        page.wait_for_load_state()
        assert page.evaluate(HIDDEN_SIDEWAYS) == 0, name
        assert page.evaluate("document.documentElement.scrollWidth") == 390, name
        unlabelled = page.locator(".fold-table td:not(.cell-name):not([data-label])")
        assert unlabelled.count() == 0, name
    assert browser.troubles == []
