"""Settings → Webhooks, as an owner meets it."""

import html

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts import audit
from accounts.models import AuditLine
from accounts.roles import Role
from jobs.models import ProviderSettings
from tests.factories import CredentialFactory, MembershipFactory
from tests.jobs.factories import JobFactory
from tests.pages import INLINE
from webhooks.models import Delivery

pytestmark = pytest.mark.django_db

FORM = {
    "webhook_url": "https://hooks.example.com/api/webhooks/replicate",
    "webhook_require_signature": "on",
    "webhook_allowed_ips": "192.0.2.1\n198.51.100.0/24",
    "webhook_sends_logs": "on",
    "webhook_rate_limit_max": "50",
    "webhook_rate_limit_window": "30",
}


@pytest.fixture
def owner(client, no_provider):
    member = MembershipFactory(role=Role.OWNER)
    client.force_login(member.user)
    return member


@pytest.fixture
def page(client, owner):
    url = reverse("webhooks:settings", args=[owner.team.slug])

    def show(data=None):
        response = client.get(url) if data is None else client.post(url, data)
        return response, " ".join(html.unescape(response.content.decode()).split())

    return show


def test_the_page_shows_the_address_the_visitors_own_and_the_line_to_try(page, owner, settings):
    settings.PUBLIC_URL = "https://tunehouse.example.com"

    _, text = page()

    assert "curl -X POST https://tunehouse.example.com/api/webhooks/replicate -d '{}'" in text
    assert "This server sees you at <code>127.0.0.1</code>" in text
    assert INLINE.findall(text) == []


def test_saving_is_the_apis_own_way(page, owner):
    response, _ = page(FORM)

    own = ProviderSettings.objects.get()
    assert (response.status_code, own.webhook_url, own.webhook_allowed_ips) == (
        302,
        "https://hooks.example.com",
        ["192.0.2.1", "198.51.100.0/24"],
    )
    assert (own.webhook_require_signature, own.webhook_sends_logs, own.webhook_sends_output) == (True, True, False)
    assert (own.webhook_rate_limit_max, own.webhook_rate_limit_window) == (50, 30)
    assert AuditLine.objects.get(event_type="provider.configured").actor == owner.user.username


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("webhook_allowed_ips", "somewhere", "'somewhere' is neither an address nor a network"),
        ("webhook_url", "https://hooks.example.com/elsewhere", "without a path"),
        ("webhook_rate_limit_max", "0", "greater than or equal to 1"),
    ],
)
def test_what_is_wrong_stands_at_its_field_and_nothing_is_saved(page, owner, field, value, words):
    response, text = page(FORM | {field: value})

    assert (response.status_code, bool(response.context["form"].errors[field]), words in text) == (200, True, True)
    assert not ProviderSettings.objects.filter(webhook_url__contains="hooks").exists()


def test_the_documented_ranges_are_filled_in_and_not_yet_saved(page, owner):
    response, _ = page(FORM | {"webhook_allowed_ips": "192.0.2.1, 34.82.0.0/16", "add_ranges": "1"})

    form = response.context["form"]
    assert form["webhook_allowed_ips"].value() == "192.0.2.1\n34.82.0.0/16\n35.185.0.0/16"
    assert form["webhook_url"].value() == FORM["webhook_url"]
    assert not ProviderSettings.objects.exists()


def test_the_test_button_says_how_it_went(client, page, owner, settings):
    settings.PUBLIC_URL = ""

    answer = client.post(reverse("webhooks:settings-test", args=[owner.team.slug]), follow=True)

    assert "No public address is set: name one as webhook_url" in html.unescape(answer.content.decode())


def test_the_test_from_outside_without_a_token_says_why_not(client, owner, settings):
    settings.PUBLIC_URL = "https://tunehouse.example.com"

    answer = client.post(reverse("webhooks:settings-test", args=[owner.team.slug]), {"outside": "1"}, follow=True)

    assert "The test could not be made: REPLICATE_API_TOKEN not set" in html.unescape(answer.content.decode())


def test_the_signing_secret_is_told_of_and_never_shown(page, owner):
    credential = CredentialFactory(team=owner.team)
    _, before = page()
    credential.signing_keys, credential.signing_keys_fetched_at = "whsec_pLaNtEd", timezone.now()
    credential.save()

    _, after = page()

    assert ("Not fetched yet." in before, "Fetched from the account" in after, "pLaNtEd" in after) == (True, True, False)


def test_the_last_deliveries_and_rejections_are_the_teams_own(page, owner):
    ours, theirs = JobFactory(team=owner.team), JobFactory()
    for job in (ours, theirs):
        fields = {
            "body_sha256": "0" * 64,
            "body_bytes": 2,
            "event": "canceled",
            "state": "dead",
            "reason": f"for {job.job_id}",
        }
        Delivery.objects.create(webhook_id=f"msg_{job.pk}", job=job, **fields)
        action = f"Rejected a delivery for {job.job_id}: address"
        audit.record(team=job.team, event_type="webhook.rejected", action=action, after={"address": "192.0.2.7"})

    _, text = page()

    assert (f"for {ours.job_id}" in text, "canceled" in text, "192.0.2.7" in text) == (True, True, True)
    assert theirs.job_id not in text


def test_the_page_asks_the_same_number_of_questions_for_any_number_of_deliveries(page, owner, django_assert_num_queries):
    def deliver(number):
        job = JobFactory(team=owner.team)
        Delivery.objects.create(webhook_id=f"msg_{number}", job=job, body_sha256=str(number), body_bytes=2)

    deliver(1)
    page()
    with CaptureQueriesContext(connection) as one:
        page()
    deliver(2)
    deliver(3)

    with django_assert_num_queries(len(one)):
        page()


@pytest.mark.parametrize("role", [Role.LEAD, Role.RESEARCHER, Role.VIEWER])
def test_only_those_who_manage_the_team_see_it(client, owner, role):
    client.force_login(MembershipFactory(team=owner.team, role=role).user)

    assert client.get(reverse("webhooks:settings", args=[owner.team.slug])).status_code == 403
    assert client.post(reverse("webhooks:settings-test", args=[owner.team.slug])).status_code == 403


def test_strangers_find_nothing(client, owner):
    client.force_login(MembershipFactory(role=Role.OWNER).user)

    assert client.get(reverse("webhooks:settings", args=[owner.team.slug])).status_code == 404
    assert client.post(reverse("webhooks:settings-test", args=[owner.team.slug])).status_code == 404
