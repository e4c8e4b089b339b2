"""The help: this server's own addresses, and a line to try that answers as it says."""

import html
import re
from urllib.parse import urlsplit

import pytest
from django.test import Client
from django.urls import reverse

from accounts.roles import Role
from jobs.models import ProviderSettings
from tests.factories import MembershipFactory
from tests.jobs.test_pages import INLINE

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
    ProviderSettings.objects.create(team=team, s3_delivery={"endpoint_url": "https://minio.test", "bucket": "b"})

    found = re.findall(r"<dt><code>(\S+?)</code>", page_of(client, team))

    assert found == ["replicate.test:8443", "status.test", "minio.test"]


def test_strangers_get_no_help_and_the_page_has_no_scripts(client, team):
    page = page_of(client, team)
    client.force_login(MembershipFactory().user)

    assert INLINE.findall(page) == []
    assert client.get(reverse("jobs:help", args=[team.slug])).status_code == 404
