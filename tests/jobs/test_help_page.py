"""The help: this server's own addresses, and a line to try that answers as it says."""

import html
import re
from urllib.parse import urlsplit

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.roles import Role
from jobs.models import ProviderSettings, ProviderStatus
from tests.factories import MembershipFactory
from tests.pages import INLINE

pytestmark = pytest.mark.django_db


@pytest.fixture
def team(client):
    member = MembershipFactory(role=Role.VIEWER)
    client.force_login(member.user)
    return member.team


def page_of(client, team):
    response = client.get(reverse("jobs:help", args=[team.slug]))
    assert response.status_code == 200
    return html.unescape(response.content.decode())


def test_the_teams_own_public_address_is_filled_in(client, team, settings):
    settings.PUBLIC_URL = "https://everybody.example.com"
    ProviderSettings.objects.create(team=team, webhook_url="https://ours.example.com")

    page = page_of(client, team)

    assert "https://ours.example.com/api/webhooks/replicate" in page
    assert "https://ours.example.com/api/cloud/storage/" in page
    assert ["everybody.example.com" in page, "No public address is set." in page] == [False, False]


def test_without_a_public_address_the_help_says_what_that_means(client, team, settings):
    settings.PUBLIC_URL = ""

    assert "No public address is set." in page_of(client, team)


def test_the_line_to_try_answers_as_it_says(client, team):
    url = re.search(r"curl -i -X POST -H \"Content-Type: application/json\" -d '\{\}' (\S+?)<", page_of(client, team))[1]

    answer = Client().post(urlsplit(url).path, "{}", content_type="application/json")

    assert answer.status_code == 401


def test_the_hosts_that_are_called_are_those_of_the_settings(client, team, settings):
    settings.REPLICATE_BASE_URL = "https://replicate.test:8443"
    settings.STATUS_PAGE_URL = "https://status.test"
    settings.HF_ENDPOINT = "https://huggingface.co"
    ProviderSettings.objects.create(team=team, s3_delivery={"endpoint_url": "https://minio.test", "bucket": "b"})

    found = re.findall(r"<td><code>(\S+?)</code></td><td>(\d+)</td>", page_of(client, team))

    assert found == [("replicate.test", "8443"), ("status.test", "443"), ("huggingface.co", "443"), ("minio.test", "443")]


def test_a_team_at_replicate_itself_is_told_of_all_hosts_and_of_its_own(client, team, settings):
    settings.REPLICATE_BASE_URL = "https://api.replicate.com"
    settings.STATUS_PAGE_URL = "https://status.test"
    settings.HF_ENDPOINT = "https://huggingface.co"
    settings.PUBLIC_URL = "https://tunehouse.example.com"
    ProviderSettings.objects.create(team=team, s3_delivery={"region": "eu-west-1", "bucket": "b"})

    found = re.findall(r"<td><code>(\S+?)</code>", page_of(client, team))

    hub, bucket = "huggingface.co", "s3.eu-west-1.amazonaws.com"
    assert found == ["api.replicate.com", "*.replicate.delivery", "status.test", hub, bucket, "tunehouse.example.com"]


@pytest.mark.parametrize("anchor", ["token-not-set", "invalid-token", "stuck-in-queued", "out-of-memory", "webhook-silent", "proxy"])
def test_every_trouble_has_an_anchor(client, team, anchor):
    assert page_of(client, team).count(f'id="{anchor}"') == 1


def test_a_stuck_job_is_explained_by_the_status_pages_word(client, team, settings):
    settings.STATUS_PAGE_URL = "https://status.test"
    settings.HF_ENDPOINT = "https://huggingface.co"
    unknown = page_of(client, team)
    ProviderStatus.objects.create(source="https://status.test", page_url="https://status.test", word="degraded", read_at=timezone.now())

    known = page_of(client, team)

    assert ("<strong>unknown</strong>" in unknown, "<strong>degraded</strong>" in known) == (True, True)


def test_strangers_get_no_help_and_the_page_has_no_scripts(client, team):
    page = page_of(client, team)
    client.force_login(MembershipFactory().user)

    assert INLINE.findall(page) == []
    assert client.get(reverse("jobs:help", args=[team.slug])).status_code == 404
