"""Settings → Network, as an owner meets it."""

import html

import pytest
from django.urls import reverse

from accounts.roles import Role
from jobs.models import ProviderSettings
from tests.factories import CredentialFactory, MembershipFactory
from tests.jobs.proxies import PASSWORD, proxying
from tests.pages import INLINE
from tests.signing_in import sign_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(client, no_provider):
    member = MembershipFactory(role=Role.OWNER)
    sign_in(client, member.user)
    return member


@pytest.fixture
def page(client, owner):
    url = reverse("jobs:network", args=[owner.team.slug])

    def show(data=None):
        response = client.get(url) if data is None else client.post(url, data)
        return response, html.unescape(response.content.decode())

    return show


def try_it(client, owner):
    response = client.post(reverse("jobs:network_try", args=[owner.team.slug]), follow=True)
    return html.unescape(response.content.decode())


def test_the_settings_are_saved_and_the_proxys_password_is_kept_but_never_shown(page, owner):
    given = {"proxy_url": f"http://me:{PASSWORD}@proxy.example.com:3128", "ssl_verify": "on", "ssl_ca_bundle": "", "http_timeout": "12.5"}
    given |= {"retries_platform_faults": "2"}
    saved, _ = page(given)
    _, shown = page()
    page(given | {"proxy_url": "http://me:***@proxy.example.com:3128", "http_timeout": ""})

    own = ProviderSettings.objects.get()
    assert (saved.status_code, own.proxy_url, own.ssl_verify, own.http_timeout) == (302, given["proxy_url"], True, None)
    assert own.retries_platform_faults == 2
    assert ("http://me:***@proxy.example.com:3128" in shown, PASSWORD in shown, INLINE.findall(shown)) == (True, False, [])


@pytest.mark.parametrize(
    ("field", "value"),
    [("proxy_url", "ftp://proxy"), ("ssl_ca_bundle", "/etc/passwd"), ("http_timeout", "601"), ("retries_platform_faults", "4")],
)
def test_what_is_wrong_stands_at_its_field(page, field, value):
    response, _ = page({"ssl_verify": "on", field: value})

    assert (response.status_code, bool(response.context["form"].errors[field])) == (200, True)
    assert not ProviderSettings.objects.exists()


def test_the_environment_is_told_without_its_password(page, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@proxy.example.com:3128")
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "inside.example.com")

    _, shown = page()

    assert ("http://me:***@proxy.example.com:3128" in shown, "inside.example.com" in shown, PASSWORD in shown) == (True, True, False)


def test_trying_it_says_whose_account_answers_and_what_the_proxy_refuses(client, owner, account, settings):
    settings.REPLICATE_BASE_URL = account.sandbox.url
    CredentialFactory(team=owner.team, secret=account.token)
    with proxying() as proxy:
        own = ProviderSettings.objects.create(team=owner.team, proxy_url=proxy.url_with_login)
        good = try_it(client, owner)
        proxy.needs_login = True
        own.proxy_url = proxy.url
        own.save()
        refused = try_it(client, owner)

    assert f"It belongs to {account.name}." in good
    assert f"The proxy 127.0.0.1:{proxy.port} does not accept the user name or the password (407)." in refused


def test_whoever_signed_in_long_ago_confirms_it_first(client, owner):
    sign_in(client, owner.user, seconds_ago=100_000)

    response = client.get(reverse("jobs:network", args=[owner.team.slug]))

    assert (response.status_code, response["Location"].split("?")[0]) == (302, reverse("account_reauthenticate"))


def test_only_those_who_manage_the_team_see_it(client, owner):
    sign_in(client, MembershipFactory(team=owner.team, role=Role.LEAD).user)
    assert client.get(reverse("jobs:network", args=[owner.team.slug])).status_code == 403

    sign_in(client, MembershipFactory(role=Role.OWNER).user)
    assert client.post(reverse("jobs:network_try", args=[owner.team.slug])).status_code == 404
