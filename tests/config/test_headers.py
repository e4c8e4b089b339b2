"""What every answer tells the browser: found by following all links, as a stranger and as somebody who may see everything."""

import re
from html import unescape

import pytest
from django.test import Client
from django.urls import reverse
from structlog.testing import capture_logs

from tests.billing.factories import SpendLimitFactory
from tests.factories import PASSWORD, MembershipFactory, UserFactory, make_token
from tests.jobs.factories import JobFactory
from tests.signing_in import sign_in

pytestmark = pytest.mark.django_db

LINK = re.compile(r'<a\b[^>]*?href="(/[^"#]*)')
# Answers of these are no pages, or end the visit.
PASSED_BY = ("/static/", "/accounts/logout/", "/admin/logout/")
STRICT = {
    "base-uri 'self'", "default-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "img-src 'self' data:", "object-src 'none'",
}  # fmt: skip
ADMINS = STRICT | {"script-src 'self' 'unsafe-inline' 'unsafe-eval'", "style-src 'self' 'unsafe-inline'"}
ALIKE = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def crawl(client, *starts):
    """Every answer that can be reached by links, by its address without the query."""
    waiting, found = list(starts), {}
    while waiting:
        path = waiting.pop()
        if path.partition("?")[0] in found or path.startswith(PASSED_BY):
            continue
        answer = client.get(path)
        found[path.partition("?")[0]] = answer
        if answer.get("Location", "").startswith("/"):
            waiting.append(answer["Location"])
        if not answer.streaming and answer.get("Content-Type", "").startswith("text/html"):
            waiting += [unescape(link) for link in LINK.findall(answer.content.decode())]
    return found


def wrong_headers(path, answer):
    policy = set(answer.get("Content-Security-Policy", "").split("; "))
    expected = ADMINS if path.startswith("/admin/") else STRICT
    wrong = [f"{path}: {name} is {answer.get(name)}" for name, value in ALIKE.items() if answer.get(name) != value]
    # The API's reference draws pictures of its own.
    if policy != expected and path != "/api/docs":
        wrong.append(f"{path}: the policy is {sorted(policy)}")
    if "camera=()" not in answer.get("Permissions-Policy", ""):
        wrong.append(f"{path}: no Permissions-Policy")
    return wrong


def test_every_answer_carries_the_headers_for_strangers():
    UserFactory()

    found = crawl(
        Client(), "/", "/admin/", "/accounts/password/reset/", "/t/nowhere/", "/api/jobs", "/api/cloud/jobs", "/api/cloud/health/live"
    )

    assert {reverse("account_login"), reverse("account_reset_password"), "/t/nowhere/"} <= found.keys()
    assert [line for path, answer in found.items() for line in wrong_headers(path, answer)] == []


def test_every_answer_carries_the_headers_for_whoever_may_see_everything():
    owner = UserFactory(is_staff=True, is_superuser=True)
    membership = MembershipFactory(user=owner)
    make_token(membership)
    SpendLimitFactory(team=membership.team)
    JobFactory(team=membership.team, submitted_by=owner)
    client = Client()
    sign_in(client, owner)

    found = crawl(client, "/", "/admin/", "/accounts/2fa/webauthn/", "/accounts/3rdparty/", "/api/docs")

    assert len(found) > 60
    assert [(path, answer.status_code) for path, answer in found.items() if answer.status_code >= 500] == []
    assert [line for path, answer in found.items() for line in wrong_headers(path, answer)] == []


def test_cookies_are_told_to_no_script_and_no_other_site(client, settings):
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    person = UserFactory()

    client.get(reverse("account_login"))
    client.post(reverse("account_login"), {"login": person.email, "password": PASSWORD})

    session, csrf = client.cookies["sessionid"], client.cookies["csrftoken"]
    assert (session["httponly"], session["secure"], session["samesite"]) == (True, True, "Lax")
    assert (csrf["secure"], csrf["samesite"]) == (True, "Lax")


def test_a_form_from_another_site_is_refused():
    strict = Client(enforce_csrf_checks=True)
    person = UserFactory()

    answer = strict.post(reverse("account_login"), {"login": person.email, "password": PASSWORD})

    assert answer.status_code == 403


def test_browsers_are_told_to_come_back_by_https(client, settings):
    settings.SECURE_HSTS_SECONDS = 31_536_000
    # Read once, by the middleware of a new client.
    answer = Client().get(reverse("account_login"), secure=True)

    assert answer["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.parametrize(("trusted", "hints"), [([], 1), (["127.0.0.1"], 0)], ids=["not named", "named"])
def test_a_proxy_that_is_not_believed_is_told_to_the_operator_once(settings, trusted, hints):
    settings.TRUSTED_PROXIES = trusted
    client = Client(headers={"x-forwarded-for": "192.0.2.1"})

    with capture_logs() as logs:
        client.get(reverse("account_login"))
        client.get(reverse("account_login"))

    assert [line["event"] for line in logs].count("proxy.not_trusted") == hints
