"""The provider's status: read once a minute into a row, by one asker at a time, and shown where it matters."""

import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.roles import Role
from jobs import tasks
from jobs.models import ProviderStatus
from jobs.services import statuspage
from tests.factories import MembershipFactory, UserFactory
from tests.jobs.proxies import proxying

pytestmark = pytest.mark.django_db

INCIDENT = {"ongoing_incidents": [{"name": "GPUs are scarce"}], "page_url": "https://status.example"}


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"ongoing_incidents": [{"name": "GPUs are scarce"}]}, "degraded"),
        ({"in_progress_maintenances": [{"name": "Upgrade"}]}, "maintenance"),
        ({"scheduled_maintenances": [{"name": "Upgrade"}]}, "operational"),
        ({"ongoing_incidents": "many"}, "unknown"),
        ({"ongoing_incidents": ["one"]}, "unknown"),
        ([], "unknown"),
        ("<html>", "unknown"),
        (None, "unknown"),
    ],
)
def test_what_the_page_says_becomes_one_word(page_that_says, settings, said, word):
    settings.STATUS_PAGE_URL = page_that_says(said)

    found = statuspage.read()

    assert (found.word, bool(found.error)) == (word, word == "unknown")


@pytest.fixture
def page_that_says():
    """A status page that answers one thing: JSON, text as it is, or a fault for None."""
    servers = []

    def serve(said):
        class Page(BaseHTTPRequestHandler):
            def do_GET(self):
                serve.asked.append(self.path)
                self.send_response(500 if said is None else 200)
                self.end_headers()
                self.wfile.write(said.encode() if isinstance(said, str) else json.dumps(said).encode())

            def log_message(self, *_):
                """The suite's output is for failures."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    serve.asked = []
    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_bell_reads_the_page_and_a_second_one_right_after_does_not(page_that_says, settings):
    settings.STATUS_PAGE_URL = page_that_says(INCIDENT)

    tasks.read_status_page()
    first = ProviderStatus.objects.get()
    tasks.read_status_page()

    assert (first.word, first.page_url, first.headline) == ("degraded", "https://status.example", "GPUs are scarce")
    assert page_that_says.asked == ["/api/v1/summary"]


def test_what_was_read_within_a_minute_is_answered_without_asking(page_that_says, settings):
    settings.STATUS_PAGE_URL = page_that_says(INCIDENT)
    statuspage.read()
    ProviderStatus.objects.update(asked_at=timezone.now() - timedelta(seconds=45))
    kept = statuspage.read()
    ProviderStatus.objects.update(asked_at=timezone.now() - timedelta(seconds=61))
    statuspage.read()

    assert (kept.word, len(page_that_says.asked)) == ("degraded", 2)


def test_while_one_asks_another_gets_what_is_known_at_once(page_that_says, settings):
    settings.STATUS_PAGE_URL = page_that_says(INCIDENT)
    statuspage.read()
    ProviderStatus.objects.update(asked_at=timezone.now())

    assert (statuspage.read().word, len(page_that_says.asked)) == ("degraded", 1)


def test_an_answer_that_another_asker_has_overtaken_is_dropped(page_that_says, settings, monkeypatch):
    settings.STATUS_PAGE_URL = page_that_says(INCIDENT)
    ask = statuspage._ask

    def slow(url):
        ProviderStatus.objects.update(asked_at=timezone.now(), word="operational")
        return ask(url)

    monkeypatch.setattr(statuspage, "_ask", slow)
    statuspage.refresh()

    assert ProviderStatus.objects.get().word == "operational"


def test_old_news_is_unknown(page_that_says, settings):
    settings.STATUS_PAGE_URL = page_that_says(INCIDENT)
    statuspage.read()

    found = statuspage.standing(now=timezone.now() + timedelta(minutes=6))

    assert (found.word, found.page_url, found.error[:46]) == (
        "unknown",
        "https://status.example",
        "The provider's status page was last read at 20",
    )


def test_the_page_is_asked_through_the_proxy_of_the_environment(page_that_says, settings, monkeypatch):
    settings.STATUS_PAGE_URL = page_that_says(INCIDENT).replace("127.0.0.1", "status.invalid")

    with proxying() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        found = statuspage.read()

    assert (found.word, proxy.asked) == ("degraded", [f"GET {settings.STATUS_PAGE_URL}/api/v1/summary"])


# --- On the pages -----------------------------------------------------------------------------------------


@pytest.fixture
def page(client, settings):
    """A team's page as a member sees it, while the status page says a word."""
    settings.STATUS_PAGE_URL = "https://status.test"
    member = MembershipFactory(role=Role.VIEWER)
    client.force_login(member.user)

    def seen(word, read_at=None, **lists):
        fields = {"page_url": "https://status.example", "read_at": read_at or timezone.now(), "word": word}
        lists = {"ongoing_incidents": [], "in_progress_maintenances": [], "scheduled_maintenances": [], **lists}
        ProviderStatus.objects.update_or_create(source=settings.STATUS_PAGE_URL, defaults={**fields, "lists": lists})
        return client.get(reverse("jobs:list", args=[member.team.slug])).content.decode()

    return seen


def test_an_incident_stands_on_every_page_of_a_team_with_its_name_and_the_page(page):
    shown = page("degraded", ongoing_incidents=[{"name": "GPUs <are> scarce"}])

    assert "Replicate reports troubles: GPUs &lt;are&gt; scarce." in " ".join(shown.split())
    assert 'href="https://status.example"' in shown


def test_a_maintenance_is_told_also_without_a_name(page):
    assert "Replicate is being maintained." in " ".join(page("maintenance", in_progress_maintenances=[{}]).split())


@pytest.mark.parametrize("word", ["operational", "unknown"])
def test_there_is_no_banner_where_all_is_well_or_nobody_knows(page, word):
    assert "https://status.example" not in page(word)


def test_there_is_no_banner_of_an_incident_that_was_read_long_ago(page):
    assert "https://status.example" not in page("degraded", read_at=timezone.now() - timedelta(minutes=6))


def test_the_administration_begins_with_it(client, settings, page):
    page("degraded", ongoing_incidents=[{"name": "GPUs are scarce"}])
    client.force_login(UserFactory(is_staff=True, is_superuser=True))

    shown = client.get(reverse("admin:index")).content.decode()

    assert "Replicate reports troubles: GPUs are scarce." in " ".join(shown.split())
