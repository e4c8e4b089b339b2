"""The page of a team's audit trail: who sees it, what it shows, and what it gives away as a file."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts import audit, exports
from accounts.chain import BEGINNING, link
from accounts.models import AuditHead, AuditLine
from accounts.roles import Role
from tests.accounts.test_audit import ids, tamper
from tests.factories import MembershipFactory, TeamFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def lead(client):
    lead = MembershipFactory(role=Role.LEAD)
    client.force_login(lead.user)
    return lead


@pytest.fixture
def team(lead):
    return lead.team


def address(team, name="audit", *args):
    return reverse(name, args=[team.slug, *args])


def note(team, event_type="config.changed", **more):
    return audit.record(team=team, event_type=event_type, action=more.pop("action", "x"), **more)


def shown(client, team, **query):
    answer = client.get(address(team), query)
    assert answer.status_code == 200
    return [line for line, _changes in answer.context["rows"]]


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.RESEARCHER, 403), (Role.LEAD, 200), (Role.OWNER, 200)])
def test_leads_and_owners_see_it_and_its_place_in_the_rail(client, role, status):
    member = MembershipFactory(role=role)
    client.force_login(member.user)

    pages = [address(member.team), address(member.team, "audit_verify"), address(member.team, "audit_export", "jsonl")]

    assert [client.get(page).status_code for page in pages] == [status] * 3
    rail = client.get(address(member.team, "members")).content.decode()
    assert (address(member.team) in rail) == (status == 200)


def test_a_foreign_team_does_not_exist(client, lead):
    foreign = TeamFactory()

    for page in (address(foreign), address(foreign, "audit_verify"), address(foreign, "audit_export", "csv")):
        assert client.get(page).status_code == 404


def test_a_line_shows_who_what_where_and_the_difference(client, lead, team):
    with time_machine.travel(datetime(2026, 7, 1, 22, 30, 15, tzinfo=UTC), tick=False):
        line = note(
            team, by=lead.user, address="192.0.2.1", target_type="config", target_id="flux-lora", reason="too small",
            before={"rank": 8, "steps": 100, "old": "gone"}, after={"rank": 16, "steps": 100, "note": "<b>new</b>"},
        )  # fmt: skip
    team.time_zone = "Europe/Madrid"
    team.save()

    html = client.get(address(team)).content.decode()

    for text in (
        lead.user.username,
        "192.0.2.1",
        "flux-lora",
        "too small",
        "config.changed",
        f"line {line.sequence}, id {line.pk}",
        "00:30:15 CEST",
    ):
        assert text in html
    for part in ("<del>8</del>", "<ins>16</ins>", "<del>gone</del>", "<ins>&lt;b&gt;new&lt;/b&gt;</ins>"):
        assert part in html
    assert "steps" not in html


def test_newest_come_first_and_pages_keep_the_filter(client, team):
    for number in range(60):
        note(team, "job.submitted", action=f"Job {number}")
    note(team, "token.saved")

    first = client.get(address(team), {"event": "job.submitted"})
    older = shown(client, team, event="job.submitted", page=2)

    assert next(line.action for line, _ in first.context["rows"]) == "Job 59"
    assert [line.action for line in older] == [f"Job {number}" for number in range(9, -1, -1)]
    assert f"{address(team)}?event=job.submitted&amp;page=2" in first.content.decode()


def test_filters_stand_in_the_address(client, lead, team):
    lines = {}
    for day, (event, by) in enumerate([("job.submitted", lead.user), ("webhook.rejected", None), ("token.saved", UserFactory())], start=1):
        with time_machine.travel(datetime(2026, 7, day, 22, 30, tzinfo=UTC), tick=False):
            lines[day] = note(team, event, by=by, target_type="thing", target_id=f"thing-{day}")
    team.time_zone = "Europe/Madrid"
    team.save()

    assert shown(client, team, event="webhook.rejected") == [lines[2]]
    assert shown(client, team, event="security") == [lines[2]]
    assert shown(client, team, person=lead.user.username.upper()) == [lines[1]]
    assert shown(client, team, target="THING-3") == [lines[3]]
    # Half past ten at night in UTC is the next day in Madrid.
    assert shown(client, team, since="2026-07-03", until="2026-07-03") == [lines[2]]
    assert shown(client, team, since="nonsense", event="unknown", page="x") == [lines[3], lines[2], lines[1]]
    assert "No line passes these filters." in client.get(address(team), {"person": "nobody"}).content.decode()


def test_a_page_costs_as_many_queries_with_many_lines_as_with_one(client, team, django_assert_num_queries):
    note(team)
    client.get(address(team))
    with CaptureQueriesContext(connection) as one:
        client.get(address(team))
    for _ in range(5):
        note(team)

    with django_assert_num_queries(len(one)):
        client.get(address(team))


def test_a_whole_chain_says_so_with_and_without_scripts(client, team):
    note(team)

    page = client.get(address(team, "audit_verify")).content.decode()
    part = client.get(address(team, "audit_verify"), headers={"HX-Request": "true"}).content.decode()

    for html in (page, part):
        assert "1 line was checked. Nothing was changed, removed or put in." in html
        assert team.audit_lines.get().hash in html
    assert ("<html" in page, "<html" in part) == (True, False)


def test_a_broken_chain_names_the_line(client, team):
    note(team)
    tamper("UPDATE accounts_auditline SET action = 'y' WHERE team_id = %s", team.pk)

    html = client.get(address(team, "audit_verify")).content.decode()

    assert "was tampered with" in html
    assert f"id {ids(team)[0]}: The line was changed" in html


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_download_proves_itself(client, team, form):
    note(team, action="=1")
    note(team)

    answer = client.get(address(team, "audit_export", form))

    text = b"".join(answer.streaming_content).decode()
    assert answer["Content-Disposition"] == f'attachment; filename="{team.slug}-audit.{form}"'
    assert exports.check(exports.read(text.splitlines(keepends=True), form)).checked == 2


def test_there_is_no_other_format(client, team):
    assert client.get(address(team, "audit_export", "xml")).status_code == 404


def test_a_suspended_teams_trail_can_still_be_read_and_verified(client, team):
    team.suspended_at = datetime(2026, 1, 1, tzinfo=UTC)
    team.save()

    assert client.get(address(team)).status_code == 200
    assert client.get(address(team, "audit_verify")).status_code == 200


# --- Size -------------------------------------------------------------------------------------------------

LINES = 20_000
# A process of its own, since a peak is never forgotten.
READER = """
import resource, sys
import django
django.setup()
from django.db import connection
from accounts import exports, trail
from accounts.models import Team
name, slug, form = sys.argv[1:]
connection.settings_dict["NAME"] = name
team = Team.objects.get(slug=slug)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

pieces = exports.write(trail.records(team), form)
written = sum(len(next(pieces)) for _ in range(5000))
before = peak()
written += sum(map(len, pieces))
print(written, peak() - before)
"""


def many(team, count):
    """A long chain, written at once."""
    at, lines = BEGINNING, []
    for sequence in range(1, count + 1):
        line = AuditLine(
            team=team, sequence=sequence, at=timezone.now(), event_type="config.changed", action="x", previous_hash=at,
            before={"config": "x" * 1000}, after={"config": "y" * 1000},
        )  # fmt: skip
        line.hash = at = link(at, line.chained_fields())
        lines.append(line)
    AuditLine.objects.bulk_create(lines, batch_size=2000)
    AuditHead.objects.create(team=team, sequence=count, hash=at)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_twenty_thousand_lines_are_exported_in_constant_memory(form):
    team = TeamFactory()
    many(team, LINES)

    said = subprocess.run(
        [sys.executable, "-c", READER, connection.settings_dict["NAME"], team.slug, form],
        cwd=Path(__file__).parents[2], env=os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    written, grown = map(int, said.stdout.split())
    assert audit.verify(team) == audit.Verification(valid=True, checked=LINES, broken=[])
    assert written > 40_000_000
    # What comes after the first quarter, 30 MB and more, needs no room of its own.
    assert grown < 4_000_000
