"""New lines of the audit trail arrive where they are pushed to: in order, each at least once, and nowhere else."""

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from accounts import audit, retention
from accounts import forwarding as settings_of
from accounts.chain import Link, Point, Walk
from accounts.models import AuditForwarding, AuditHead
from tests.factories import TeamFactory
from tests.jobs.sandbox.servers import free_port, receiving
from webhooks import forwarding

pytestmark = pytest.mark.django_db


@pytest.fixture
def receiver():
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def team(receiver):
    """A team with a line from before pushing began, which nobody needs again."""
    team = TeamFactory()
    note(team, "old")
    settings_of.configure(team, caller=None, staff=None, asked={"webhook_url": receiver.url, "auth_token": "s3cret"})
    forwarding.push_due()
    receiver.all()
    return team


def note(team, action, event_type="job.submitted"):
    return audit.record(team=team, event_type=event_type, action=action, after={"naïve": 1})


def arrived(receiver):
    return [entry["action"] for delivery in receiver.all() for entry in delivery.json["entries"]]


def kept(team):
    return AuditForwarding.objects.get(team=team)


def test_only_lines_from_then_on_are_pushed(receiver):
    team = TeamFactory()
    note(team, "old")

    settings_of.configure(team, caller=None, staff=None, asked={"webhook_url": receiver.url})
    forwarding.push_due()

    assert arrived(receiver) == ["Changed where the audit trail is pushed to"]


def test_new_lines_come_in_order_with_all_that_proves_them(team, receiver):
    lines = [note(team, f"Job {number}") for number in range(3)]

    assert forwarding.push_due() == 3

    (delivery,) = receiver.all()
    walk = Walk(Point(lines[0].sequence - 1, lines[0].previous_hash))
    for entry in delivery.json["entries"]:
        fields = {name: value for name, value in entry.items() if name not in ("kind", "id", "previous_hash", "hash")}
        walk.step(Link(entry["id"], entry["sequence"], entry["previous_hash"], entry["hash"], fields))
    assert (delivery.json["chain"], walk.end(None).valid, walk.end(None).checked) == (team.slug, True, 3)
    assert (delivery.headers["Authorization"], delivery.headers["Content-Type"]) == ("Bearer s3cret", "application/json")
    assert (kept(team).sent_sequence, kept(team).last_error) == (lines[2].sequence, "")


def test_what_has_arrived_is_not_pushed_again(team, receiver):
    note(team, "once")

    assert [forwarding.push_due(), forwarding.push_due()] == [1, 0]
    assert arrived(receiver) == ["once"]


def test_many_lines_come_in_batches(team, receiver, monkeypatch):
    monkeypatch.setattr(forwarding, "BATCH", 2)
    for number in range(5):
        note(team, f"Job {number}")

    forwarding.push_due()

    assert [len(delivery.json["entries"]) for delivery in receiver.all()] == [2, 2, 1]


def test_a_receiver_that_fails_is_asked_again_later_and_misses_nothing(team, receiver):
    note(team, "first")
    receiver.answers[:] = [500, 302]

    now = timezone.now()
    forwarding.push_due()
    assert (kept(team).failures, kept(team).last_error) == (1, "The receiver answered 500.")
    assert forwarding.push_due() == 0
    with time_machine.travel(now + timedelta(minutes=2), tick=False):
        forwarding.push_due()
    assert kept(team).last_error == "The receiver answered 302."
    note(team, "second")
    with time_machine.travel(now + timedelta(minutes=10), tick=False):
        forwarding.push_due()

    assert arrived(receiver) == ["first", "first", "first", "second"]
    assert (kept(team).failures, kept(team).last_error, kept(team).try_after) == (0, "", None)


def test_waiting_grows_and_has_an_end(team, receiver):
    note(team, "first")
    waits, now = [], timezone.now()
    receiver.answers[:] = [503] * 9
    for _ in range(9):
        with time_machine.travel(now, tick=False):
            forwarding.push_due()
            waits.append((kept(team).try_after - now).total_seconds() / 60)
        now = kept(team).try_after

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_receiver_that_is_not_there_says_so_without_the_address(team):
    settings_of.configure(team, caller=None, staff=None, asked={"webhook_url": f"http://127.0.0.1:{free_port()}/s3cret-path"})

    assert forwarding.push_due() == 0

    assert kept(team).last_error.startswith("The receiver cannot be reached: 127.0.0.1 refused the connection")


def test_security_only_leaves_the_others_out_and_goes_past_them(team, receiver):
    settings_of.configure(team, caller=None, staff=None, asked={"security_only": True})
    note(team, "a job")
    last = note(team, "too fast", "security.rate_limited")
    note(team, "another")

    forwarding.push_due()

    assert arrived(receiver) == ["too fast"]
    assert kept(team).sent_sequence == last.sequence + 1


def test_csv_is_pushed_as_an_export_writes_it(team, receiver):
    settings_of.configure(team, caller=None, staff=None, asked={"format": "csv"})
    note(team, "=1+1")

    forwarding.push_due()

    (delivery,) = receiver.all()
    rows = list(csv.DictReader(io.StringIO(delivery.body.decode(), newline="")))
    assert (delivery.headers["Content-Type"], rows[-1]["kind"], rows[-1]["action"]) == ("text/csv; charset=utf-8", "line", "'=1+1")


def test_every_chain_goes_its_own_way(team, receiver):
    other = TeamFactory()
    with receiving() as platforms, receiving() as others:
        settings_of.configure(None, caller=None, staff=None, asked={"webhook_url": platforms.url})
        settings_of.configure(other, caller=None, staff=None, asked={"webhook_url": others.url})
        others.answers[:] = [500]
        for each in (team, other, None):
            note(each, f"of {each}")

        forwarding.push_due()

        assert arrived(receiver) == [f"of {team}"]
        assert arrived(platforms)[-1] == "of None"
        assert kept(other).failures == 1


def test_turned_off_nothing_is_pushed(team, receiver):
    settings_of.configure(team, caller=None, staff=None, asked={"webhook_url": None})
    note(team, "unheard")

    assert forwarding.push_due() == 0
    assert receiver.all() == []


def test_an_address_that_may_not_be_called_any_more_is_not(team, receiver, settings):
    settings.ALLOW_PRIVATE_HOSTS = False
    note(team, "unheard")

    forwarding.push_due()

    assert receiver.all() == []
    assert kept(team).last_error == "The address must begin with https."


def test_a_name_that_leads_to_a_private_host_is_not_called(team, settings, monkeypatch):
    settings_of.configure(team, caller=None, staff=None, asked={"webhook_url": "https://siem.example.com/"})
    settings.ALLOW_PRIVATE_HOSTS = False
    # Names are not ours to make in a test.
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("10.0.0.7", 0))])

    forwarding.push_due()

    assert kept(team).last_error == "siem.example.com leads to a private host."


def test_a_name_that_leads_elsewhere_after_it_was_checked_is_not_called(team, receiver, settings, monkeypatch):
    port = urlsplit(receiver.url).port
    settings_of.configure(team, caller=None, staff=None, asked={"webhook_url": f"https://siem.example.com:{port}/"})
    settings.ALLOW_PRIVATE_HOSTS = False
    found = iter(["93.184.215.14"])  # public once, and at home from then on
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", (next(found, "127.0.0.1"), port))])

    forwarding.push_due()

    assert kept(team).last_error == (
        "The receiver cannot be reached: siem.example.com leads to the private address 127.0.0.1, which is not called."
    )


def test_lines_that_were_cut_away_do_not_stop_what_follows(team, receiver):
    receiver.answers[:] = [500]
    note(team, "too old")
    forwarding.push_due()
    retention.cut(team, before=timezone.now() + timedelta(seconds=1))
    note(team, "young")

    with time_machine.travel(timezone.now() + timedelta(minutes=5), tick=False):
        forwarding.push_due()

    assert arrived(receiver)[-1] == "young"


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_push_each_line_once():
    with receiving() as receiver:
        team = TeamFactory()
        settings_of.configure(team, caller=None, staff=None, asked={"webhook_url": receiver.url})
        for number in range(20):
            note(team, f"Job {number}")

        def push(_):
            try:
                return forwarding.push_due()
            finally:
                connection.close()

        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(push, range(6))) == 21
        assert arrived(receiver)[1:] == [f"Job {number}" for number in range(20)]
    assert kept(team).sent_sequence == AuditHead.objects.get(team=team).sequence


def test_a_worker_that_died_leaves_its_claim_to_the_next(team, receiver):
    AuditForwarding.objects.update(claimed_until=timezone.now() + forwarding.LEASE)
    note(team, "waited for")

    assert forwarding.push_due() == 0
    with time_machine.travel(timezone.now() + forwarding.LEASE, tick=False):
        assert forwarding.push_due() == 1
