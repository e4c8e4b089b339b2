"""Secrets of every kind go in by every door, and come out by none: pages, API, administration, errors, logs, audit, exports, database.

Where a secret is given to its owner, once (the page of a new token), is left out by name; every other text is searched.
"""

import html
import io
import json
import logging
import logging.config
import re
from unittest import mock

import pytest
import structlog
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.conf import settings as django_settings
from django.contrib import admin
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.urls import get_resolver, reverse
from drf_spectacular.generators import SchemaGenerator
from psycopg import sql

from accounts import audit, encryption
from accounts.models import APIToken, Credential, Team
from accounts.roles import Role
from accounts.sessionstore import SessionStore
from config import logs
from jobs.models import Job, StorageKey
from jobs.services import launching, polling, provider
from jobs.services.dispatch import dispatch
from tests.factories import MembershipFactory, UserFactory
from tests.jobs.conftest import account, provider_process  # noqa: F401 - fixtures
from tests.jobs.ready import NAMED, SUBMIT, make_ready

PASSWORD = "pLaNtEd pAsSwOrD of 12 words"
HUB = "hf_" + "pLaNtEdHuB" * 3 + "abcd"
S3 = "pLaNtEdS3sEcReT/0123456789+abcdefghijkl"
PROXY = "pLaNtEdPrOxY"
INSTALLATIONS = "r8_" + "pLaNtEdEnV" * 3 + "1234567"


class Heard:
    """Everything that the product said, text by text, with where it was said."""

    def __init__(self):
        self.texts = {}
        self.log = io.StringIO()

    def add(self, where, text):
        self.texts[f"{len(self.texts)} {where}"] = text

    def where(self, secret):
        """Where a secret can be read: as it is, escaped for HTML, JSON or an address, or as bytes in hex."""
        forms = {
            secret,
            html.escape(secret),
            json.dumps(secret)[1:-1],
            secret.replace("+", "%2B").replace("/", "%2F"),
            secret.encode().hex(),
        }
        return [where for where, text in [*self.texts.items(), ("log", self.log.getvalue())] if any(form in text for form in forms)]


class Listening(Client):
    """A client whose answers are all kept; an error of the server is an answer like any other."""

    def __init__(self, heard, **options):
        super().__init__(raise_request_exception=False, **options)
        self.heard = heard

    def request(self, **request):
        response = super().request(**request)
        headers = "\n".join(f"{name}: {value}" for name, value in response.items())
        body = b"".join(response.streaming_content) if response.streaming else response.content
        where = f"{request['REQUEST_METHOD']} {request['PATH_INFO']} {response.status_code}"
        self.heard.add(where, f"{headers}\n{body.decode(errors='replace')}")
        return response


@pytest.fixture
def heard():
    """What is said from now on; every logger says all that it knows, in the form in which an installation logs."""
    heard = Heard()
    handler = logging.StreamHandler(heard.log)
    root, level = logging.getLogger(), logging.getLogger().level
    handler.setFormatter(logging.config.DictConfigurator({}).configure_formatter(dict(django_settings.LOGGING["formatters"]["events"])))
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield heard
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def secrets(settings, db, account, heard):  # noqa: F811
    """All of them, by kind, after each went through the doors that are made for it."""
    settings.REPLICATE_BASE_URL = account.sandbox.url
    settings.REPLICATE_API_TOKEN = INSTALLATIONS
    settings.PUBLIC_URL = "http://127.0.0.1:9"
    account.rule(queue_seconds=1_000_000)
    ready = make_ready(token=account.token, role=Role.OWNER)
    ready.member.user.set_password(PASSWORD)
    ready.member.user.save()
    cache.clear()  # wrong passwords of the test before are counted there
    browser = Listening(heard)
    planted = {"password": PASSWORD, "installation's token": INSTALLATIONS, "Replicate token": account.token, "Hub token": HUB}

    browser.post(reverse("account_login"), {"login": ready.member.user.email, "password": PASSWORD})
    planted["session key"] = browser.cookies[settings.SESSION_COOKIE_NAME].value
    planted |= _tokens(browser, ready)
    planted |= _invite(browser, ready)
    console = _staff(heard)
    _credentials(browser, console, ready, account)
    planted |= {"S3 secret": S3, "proxy password": PROXY}
    planted |= _second_factor(ready)
    planted |= _job(browser, ready, planted["API token"])
    planted |= {"secret key": settings.SECRET_KEY, "encryption key": settings.ENCRYPTION_KEYS[0]}
    _mistakes(heard, browser, ready, planted)
    _look_at_everything(heard, browser, console, ready, planted)
    _dump(heard)
    return planted


def url(name, ready, *args):
    return reverse(name, args=[ready.team.slug, *args])


def _tokens(browser, ready):
    """Two tokens as their pages give them away, which are the only texts that may show them."""
    made = browser.post(
        url("token_new", ready), {"name": "planted", "scopes": ["read", "submit", "datasets"], "expires_in": "90", "amount": "50"}
    )
    token = APIToken.objects.get(name="planted")
    rotated = browser.post(url("token_rotate", ready, token.pk), {"overlap": "7"})
    for where in [where for where in browser.heard.texts if where.endswith((" POST /t/", "/new/ 200", "/rotate/ 200")) and "POST" in where]:
        del browser.heard.texts[where]
    plain = [re.search(r"Bearer (th_\w+)", page.content.decode())[1] for page in (made, rotated)]
    return {"API token": plain[0], "rotated API token": plain[1]}


def _invite(browser, ready):
    """A link as its page gives it away where no mail is sent; who opens it has it already."""
    made = browser.post(url("member_invite", ready), {"email": "newcomer@example.com", "role": "viewer", "days": "7"})
    link = re.search(r"/invites/([^/\s]+)/", made.content.decode())
    Listening(browser.heard).get(link[0])
    for where in [where for where in browser.heard.texts if "/invite" in where]:
        del browser.heard.texts[where]
    return {"invite": link[1]}


def _staff(heard):
    """The administration's door."""
    staff = UserFactory(is_staff=True, is_superuser=True)
    staff.set_password(PASSWORD)
    staff.save()
    console = Listening(heard)
    console.post(reverse("account_login"), {"login": staff.email, "password": PASSWORD})
    return console


def _credentials(browser, console, ready, account):  # noqa: F811
    browser.post(url("jobs:credential_save", ready, "replicate"), {"secret": account.token}, follow=True)
    browser.post(url("jobs:own_credential_save", ready, "replicate"), {"secret": account.token}, follow=True)
    browser.post(url("jobs:credential_save", ready, "huggingface"), {"secret": HUB}, follow=True)
    added = {"team": ready.team.pk, "kind": "s3", "name": "bucket", "new_secret": S3}
    console.post(reverse("admin:accounts_credential_add"), added, follow=True)
    assert Credential.objects.get(kind="s3").reveal() == S3
    browser.put("/api/cloud/providers/replicate/config", {"proxy_url": f"http://me:{PROXY}@127.0.0.1:9"}, content_type="application/json")
    assert provider.settings_of(ready.team).proxy_url.endswith("@127.0.0.1:9")
    browser.put("/api/cloud/providers/replicate/config", {"proxy_url": None}, content_type="application/json")
    browser.put("/api/cloud/providers/replicate/token", {"api_token": account.token}, content_type="application/json")


def _second_factor(ready):
    person = MembershipFactory(team=ready.team).user
    secret = generate_totp_secret()
    TOTP.activate(person, secret)
    codes = RecoveryCodes.activate(person)
    return {
        "TOTP secret": secret,
        "recovery seed": encryption.decrypt(codes.instance.data["seed"]),
        "recovery code": codes.get_unused_codes()[0],
    }


def _job(browser, ready, token):
    """A job goes to the provider: with a key pair for its results, and the account's signing secret is asked for."""
    api = Listening(browser.heard, headers={"Authorization": f"Bearer {token}"})
    submitted = api.post(SUBMIT, {"config_name_to_load": NAMED, "config_name": NAMED}, content_type="application/json")
    job = Job.objects.get(job_id=submitted.json()["job_id"])
    assert dispatch() == [job]
    launching.launch(Job.objects.select_related("team", "credential").get(pk=job.pk))
    job = Job.objects.select_related("team", "credential").get(pk=job.pk)
    polling.poll(job)
    assert job.state == "queued"
    [signing, *_] = provider.signing_keys(team=job.team, credential=job.credential)
    return {"webhook signing secret": signing, "storage secret": StorageKey.objects.filter(job=job).first().secret}


def _mistakes(heard, browser, ready, planted):
    """Secrets at the wrong place, or spoiled: what was refused must not be read out."""
    nobody = Listening(heard)
    job_id = Job.objects.get().job_id
    for kind, secret in planted.items():
        nobody.post(reverse("account_login"), {"login": ready.member.user.email, "password": f"{secret}x"})
        nobody.get("/api/cloud/jobs", headers={"Authorization": f"Bearer {secret}"} if kind != "API token" else {"X-API-Key": f"{secret}x"})
        nobody.post(f"/api/webhooks/replicate?job={job_id}&callback={secret}"[:200], "{}", content_type="application/json")
        for page in ("jobs:credential_save", "jobs:own_credential_save"):
            browser.post(url(page, ready, "replicate"), {"secret": f"{secret} \n"})
        browser.put("/api/cloud/providers/replicate/token", {"api_token": f" {secret}"}, content_type="application/json")
        browser.put("/api/cloud/providers/replicate/token", f'{{"api_token": "{secret}"', content_type="application/json")
        browser.put("/api/cloud/providers/replicate/config", {"proxy_url": f"ftp://me:{secret}@nowhere"}, content_type="application/json")


def _look_at_everything(heard, browser, console, ready, planted):
    """Each page of the team and of the administration, each answer of the API that needs no more than its address, and an error."""
    for route in _routes():
        browser.get("/" + route.replace("<slug:team>", ready.team.slug))
    browser.get(Job.objects.get().get_absolute_url())
    for token in APIToken.objects.all():
        browser.get(url("token", ready, token.pk))
    api = Listening(heard, headers={"Authorization": f"Bearer {planted['rotated API token']}"})
    for path in SchemaGenerator().get_schema(request=None, public=True)["paths"]:
        # What waits for events says nothing else than the timeline.
        if "{" not in path and not path.endswith(("/events", "/stream", "/broadcast")):
            api.get(path)
            browser.get(path)
    for path in ("", "/logs", "/artifacts"):
        api.get(f"/api/cloud/jobs/{Job.objects.get().job_id}{path}")
    for model in admin.site._registry:
        for name, args in (("changelist", []), ("change", [_last(model)]), ("history", [_last(model)])):
            if not args or args[0] is not None:
                console.get(reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args))
    for form in ("jsonl", "csv"):
        browser.get(url("audit_export", ready, form))
    broken = Listening(heard)
    broken.get("/t/%00/")
    with mock.patch("accounts.credentials.save", side_effect=RuntimeError("planted fault")):
        browser.post(url("jobs:credential_save", ready, "huggingface"), {"secret": HUB})
    browser.get("/nowhere/")


def _routes(patterns=None, before=""):
    """Every address that has no other part than a team."""
    for pattern in patterns if patterns is not None else get_resolver().url_patterns:
        route = before + getattr(pattern.pattern, "_route", "<re>")
        if hasattr(pattern, "url_patterns"):
            yield from _routes(pattern.url_patterns, route)
        elif "<" not in route.replace("<slug:team>", "") and not route.startswith(("admin/", "api/", "accounts/")):
            yield route


def _last(model):
    row = model._default_manager.order_by("-pk").first()
    return row.pk if row else None


def _dump(heard):
    """Every row of every table as text, and what sessions hold, which the table has packed."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table)))
            heard.add(f"table {table}", "\n".join(row for (row,) in cursor.fetchall()))
    heard.add("sessions", "\n".join(str(SessionStore().decode(row.session_data)) for row in Session.objects.all()))


def test_no_secret_can_be_read_anywhere(secrets, heard):
    assert {kind: heard.where(secret) for kind, secret in secrets.items() if heard.where(secret)} == {}
    assert len(set(secrets.values())) == len(secrets) >= 12
    assert all(len(secret) >= 8 for secret in secrets.values())


def test_what_was_searched_is_what_the_product_says(secrets, heard):
    """Else the search would prove nothing: pages with their content, answers, errors, logs, audit lines and tables are there."""
    statuses = {where.rpartition(" ")[2] for where in heard.texts}
    everything = "\n".join(heard.texts.values())

    assert {"200", "302", "400", "401", "403", "404", "500"} <= statuses
    assert {"table accounts_credential", "table accounts_auditline", "table django_session"} <= {
        where.partition(" ")[2] for where in heard.texts
    }
    assert sum("/admin/" in where and where.endswith(" 200") for where in heard.texts) > 60
    assert sum("GET /t/" in where and where.endswith(" 200") for where in heard.texts) > 15
    assert sum("GET /api/" in where and where.endswith(" 200") for where in heard.texts) > 25
    for word in (secrets["API token"][:11], secrets["Replicate token"][-4:], "token.saved", "api_key.rotated", "Sequence,"):
        assert word.lower() in everything.lower(), word
    assert "job.submitted" in heard.log.getvalue()


def test_a_secret_that_is_said_anywhere_is_found(secrets, heard):
    """The negative control: each kind, said on purpose by a page, a table, an audit line, a log line and a session."""
    team = Team.objects.get(api_tokens__name="planted", api_tokens__replaces=None)
    browser = Listening(heard)
    browser.force_login(team.members.first())
    for kind, secret in secrets.items():
        Team.objects.filter(pk=team.pk).update(name=secret)
        audit.record(team=team, event_type="x", action=f"Said {secret}")
        structlog.get_logger("planted").info("said", plain=secret)
        store = SessionStore()
        store["said"] = secret
        store.save()

        browser.get(team.get_absolute_url())
        _dump(heard)

        found = {where.partition(" ")[2] or where for where in heard.where(secret)}
        said = {f"GET {team.get_absolute_url()} 200", "table accounts_team", "table accounts_auditline", "sessions"}
        # What looks like a secret is struck out of logs, whoever writes it.
        assert found >= (said | {"log"} if logs.scrub(secret) == secret else said), kind
