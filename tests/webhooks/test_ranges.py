"""A cloud's published networks: read in both forms, by region, shown as what changes, and saved when somebody has seen it."""

import contextlib
import html
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from accounts.models import AuditLine
from accounts.roles import Role
from jobs.models import ProviderSettings
from tests.factories import MembershipFactory
from tests.pages import INLINE
from webhooks import range_files, ranges
from webhooks.ranges import BadFile, Difference

GOOGLE = {
    "syncToken": "1764072000000",
    "creationTime": "2026-11-25T04:00:00.000000",
    "prefixes": [
        {"ipv4Prefix": "34.82.0.0/16", "service": "Google Cloud", "scope": "us-west1"},
        {"ipv4Prefix": "34.83.0.0/16", "service": "Google Cloud", "scope": "us-west1"},
        {"ipv6Prefix": "2600:1900:4040::/44", "service": "Google Cloud", "scope": "us-west1"},
        {"ipv4Prefix": "34.1.208.0/20", "service": "Google Cloud", "scope": "africa-south1"},
    ],
}
AWS = {
    "syncToken": "1",
    "createDate": "2026-11-25-04-00-00",
    "prefixes": [{"ip_prefix": "3.5.140.0/22", "region": "ap-northeast-2", "service": "EC2", "network_border_group": "x"}],
    "ipv6_prefixes": [{"ipv6_prefix": "2600:1f00::/24", "region": "us-west-2", "service": "AMAZON"}],
}


def as_file(said):
    return json.dumps(said).encode()


# --- Reading ----------------------------------------------------------------------------------------------


def test_googles_file_is_read_by_region_and_said_in_as_few_networks_as_will_do():
    file = ranges.read(as_file(GOOGLE))

    assert (list(file.by_region), file.made) == (["africa-south1", "us-west1"], "2026-11-25T04:00:00.000000")
    assert file.networks(["us-west1"]) == ["34.82.0.0/15", "2600:1900:4040::/44"]
    assert file.networks(["us-west1", "africa-south1"]) == ["34.1.208.0/20", "34.82.0.0/15", "2600:1900:4040::/44"]


def test_awss_file_is_read_too():
    file = ranges.read(as_file(AWS))

    assert dict(file.by_region) == {"ap-northeast-2": ["3.5.140.0/22"], "us-west-2": ["2600:1f00::/24"]}


def test_networks_without_a_region_are_everywhere():
    assert dict(ranges.read(as_file({"prefixes": [{"ipv4Prefix": "8.8.4.0/24"}]})).by_region) == {"global": ["8.8.4.0/24"]}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<html>", "The file is not JSON."),
        (b"\xff\xfe", "The file is not JSON."),
        (b"[" * 100_000, "The file is not JSON."),
        (b"[]", "The file has no list of networks"),
        (b"{}", "The file has no list of networks"),
        (as_file({"prefixes": []}), "The file has no list of networks"),
        (as_file({"prefixes": [5]}), "Entry 1 of the file is not an object."),
        (as_file({"prefixes": [{"scope": "x"}]}), "Entry 1 of the file names no network"),
        (as_file({"prefixes": [*GOOGLE["prefixes"], {"ipv4Prefix": "34.82.0.0/99"}]}), "Entry 5 of the file names '34.82.0.0/99'"),
        (as_file({"prefixes": [{"ip_prefix": "0.0.0.0/0"}]}), "Entry 1 of the file names 0.0.0.0/0, which is every address there is."),
        (b" " * (ranges.MOST_BYTES + 1), "The file is larger than 8 MiB"),
    ],
)
def test_a_bad_file_is_refused_with_a_sentence(content, sentence):
    with pytest.raises(BadFile, match="^" + sentence.replace("(", r"\(")):
        ranges.read(content)


def test_what_changes_is_what_is_added_removed_and_kept():
    assert ranges.difference(["a", "b"], ["b", "c"]) == Difference(added=["c"], removed=["a"], kept=["b"])


# --- Fetching ---------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere():
    """A web server with a file, a page, a redirect and something endless."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status = {"/moved": 302, "/gone": 404}.get(self.path, 200)
            self.send_response(status)
            if self.path == "/moved":
                self.send_header("Location", "/cloud.json")
            self.end_headers()
            if self.path == "/cloud.json":
                self.wfile.write(as_file(GOOGLE))
            while self.path == "/endless":
                self.wfile.write(b" " * 65536)

        def handle(self):
            with contextlib.suppress(ConnectionError):  # the other side has had enough
                super().handle()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.django_db
def test_a_file_is_fetched_from_where_it_lies(elsewhere, owner, settings):
    settings.ALLOW_PRIVATE_HOSTS = True

    assert range_files.fetch(owner.team, f"{elsewhere}/cloud.json") == as_file(GOOGLE)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "sentence"),
    [("/moved", "leads on to another one"), ("/gone", "answered 404"), ("/endless", "larger than 8 MiB")],
)
def test_what_is_no_file_is_told(elsewhere, owner, settings, path, sentence):
    settings.ALLOW_PRIVATE_HOSTS = True

    with pytest.raises(BadFile, match=sentence):
        range_files.fetch(owner.team, elsewhere + path)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://example.com/cloud.json", "must begin with https"),
        ("https://127.0.0.1/cloud.json", "private host"),
        ("https://169.254.169.254/latest/meta-data", "private host"),
        ("ftp://example.com/x", "not an http or https address"),
        ("https://me:pass@example.com/x", "without a user name"),
    ],
)
def test_only_public_addresses_are_called(owner, settings, url, sentence):
    settings.ALLOW_PRIVATE_HOSTS = False

    with pytest.raises(BadFile, match=sentence):
        range_files.fetch(owner.team, url)


# --- The page ---------------------------------------------------------------------------------------------


@pytest.fixture
def owner(client, db, no_provider):
    member = MembershipFactory(role=Role.OWNER)
    client.force_login(member.user)
    ProviderSettings.objects.create(team=member.team, webhook_allowed_ips=["35.185.0.0/16", "34.1.208.0/20"])
    return member


@pytest.fixture
def page(client, owner):
    url = reverse("webhooks:ranges", args=[owner.team.slug])

    def show(data=None):
        response = client.get(url) if data is None else client.post(url, data)
        return response, " ".join(html.unescape(response.content.decode()).split())

    return show


def uploaded(page, said=GOOGLE):
    response, _ = page({"file": SimpleUploadedFile("cloud.json", as_file(said))})
    form = response.context["regions_form"]
    return {"ranges": form["ranges"].value(), "before": form["before"].value()}


def listed():
    return ProviderSettings.objects.get().webhook_allowed_ips


def test_the_way_from_a_file_to_the_list(page):
    _, first = page()
    hidden = uploaded(page)
    chosen = hidden | {"regions": ["us-west1", "africa-south1"]}
    shown, text = page(chosen)
    before = listed()
    saved, _ = page(chosen | {"save": "1"})

    assert (INLINE.findall(first), INLINE.findall(text)) == ([], [])
    assert shown.context["difference"] == Difference(
        added=["34.82.0.0/15", "2600:1900:4040::/44"], removed=["35.185.0.0/16"], kept=["34.1.208.0/20"]
    )
    assert before == ["35.185.0.0/16", "34.1.208.0/20"]
    assert (saved.status_code, listed()) == (302, ["34.1.208.0/20", "34.82.0.0/15", "2600:1900:4040::/44"])
    assert AuditLine.objects.get(event_type="provider.configured").after["webhook_allowed_ips"] == listed()


def test_what_else_is_on_the_list_may_stay(page):
    page(uploaded(page) | {"regions": ["us-west1"], "keeps_others": "on", "save": "1"})

    assert listed() == ["35.185.0.0/16", "34.1.208.0/20", "34.82.0.0/15", "2600:1900:4040::/44"]


def test_a_list_that_was_changed_meanwhile_is_shown_anew_before_it_is_saved(page):
    chosen = uploaded(page) | {"regions": ["us-west1"], "save": "1"}
    ProviderSettings.objects.update(webhook_allowed_ips=["192.0.2.1"])

    shown, text = page(chosen)
    again, _ = page(chosen | {"before": shown.context["regions_form"]["before"].value()})

    assert ("changed meanwhile" in text, shown.context["difference"].removed) == (True, ["192.0.2.1"])
    assert (again.status_code, listed()) == (302, ["34.82.0.0/15", "2600:1900:4040::/44"])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "Choose a file, or name an address"),
        ({"url": "https://127.0.0.1/x"}, "private host"),
        ({"url": "nonsense"}, "Enter a valid URL"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_saved(page, settings, data, words):
    settings.ALLOW_PRIVATE_HOSTS = False

    response, text = page({"go": "1", **data})

    assert (response.status_code, words in text) == (200, True)
    assert listed() == ["35.185.0.0/16", "34.1.208.0/20"]


def test_a_file_that_is_none_is_told_on_the_page(page):
    response, text = page({"file": SimpleUploadedFile("x.json", b"<html>")})

    assert (response.status_code, "The file is not JSON." in text) == (200, True)


def test_without_a_region_and_with_another_file_nothing_is_saved(page):
    hidden = uploaded(page)

    none, _ = page(hidden | {"save": "1"})
    foreign, _ = page(hidden | {"regions": ["mars"], "save": "1"})
    broken, _ = page({"ranges": "x", "regions": ["us-west1"], "save": "1"})

    assert [answer.status_code for answer in (none, foreign, broken)] == [200, 200, 302]
    assert listed() == ["35.185.0.0/16", "34.1.208.0/20"]


def test_more_networks_than_a_list_may_have_are_refused_with_what_to_do(page):
    many = {"prefixes": [{"ipv4Prefix": f"34.{number // 128}.{2 * (number % 128)}.0/24", "scope": "all"} for number in range(501)]}

    response, text = page(uploaded(page, many) | {"regions": ["all"], "save": "1"})

    assert (response.status_code, "at most 500 addresses" in text) == (200, True)
