"""Retention: old lines go, the rest still proves itself, and nobody but a cut can make a line go."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from accounts import audit, retention
from accounts.models import AuditAnchor, AuditHead, AuditLine
from tests.accounts.test_audit import tamper
from tests.factories import TeamFactory, UserFactory

pytestmark = pytest.mark.django_db

BEGIN = datetime(2026, 1, 1, 12, tzinfo=UTC)
CUT_HERE = datetime(2026, 1, 6, tzinfo=UTC)


def days(team, count=10):
    """A line a day at noon."""
    for day in range(count):
        with time_machine.travel(BEGIN + timedelta(days=day), tick=False):
            audit.record(team=team, event_type="config.changed", action=f"Day {day + 1}")


@pytest.fixture
def team():
    team = TeamFactory()
    days(team)
    return team


def sequences(team):
    return list(AuditLine.objects.filter(team=team).order_by("sequence").values_list("sequence", flat=True))


def test_a_cut_removes_what_is_older_and_says_so(team):
    last = team.audit_lines.get(sequence=5)
    by = UserFactory()

    removed = retention.cut(team, before=CUT_HERE, by=by)

    anchor, line = AuditAnchor.objects.get(), team.audit_lines.get(sequence=11)
    assert (removed, sequences(team)) == (5, [6, 7, 8, 9, 10, 11])
    assert (anchor.team, anchor.sequence, anchor.hash, anchor.made_by) == (team, 5, last.hash, by.username)
    assert (line.event_type, line.actor, line.after) == ("audit.cut", by.username, {"sequence": 5, "hash": last.hash})
    assert audit.verify(team) == audit.Verification(valid=True, checked=6, broken=[])


def test_the_chain_goes_on_and_can_be_cut_again(team):
    retention.cut(team, before=CUT_HERE)
    audit.record(team=team, event_type="config.changed", action="after")

    removed = retention.cut(team, before=CUT_HERE + timedelta(days=3))

    assert (removed, sequences(team)[0]) == (3, 9)
    assert audit.verify(team) == audit.Verification(valid=True, checked=5, broken=[])


def test_all_lines_may_be_old(team):
    removed = retention.cut(team, before=timezone.now() + timedelta(days=1))

    assert (removed, sequences(team)) == (10, [11])
    assert audit.verify(team).valid


def test_nothing_old_means_nothing_happens(team):
    assert retention.cut(team, before=BEGIN) == 0
    assert (AuditAnchor.objects.count(), len(sequences(team))) == (0, 10)


def test_another_chain_is_left_alone(team):
    other = TeamFactory()
    days(other, 6)
    days(None, 6)

    retention.cut(None, before=CUT_HERE)

    assert [len(sequences(each)) for each in (team, other, None)] == [10, 6, 2]
    assert all(audit.verify(each).valid for each in (team, other, None))


def test_a_removal_that_was_interrupted_is_finished_by_the_next(team, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(retention, "_remove_covered", lambda team: 0)
        retention.cut(team, before=CUT_HERE)
    assert sequences(team)[0] == 1
    assert audit.verify(team) == audit.Verification(valid=True, checked=6, broken=[])

    removed = retention.cut(team, before=CUT_HERE)

    assert (removed, sequences(team)[0], AuditAnchor.objects.count()) == (5, 6, 1)


def test_lines_go_in_batches(team, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)

    assert retention.cut(team, before=CUT_HERE) == 5
    assert sequences(team)[0] == 6


def test_a_clock_that_was_set_back_keeps_what_stands_behind_a_young_line():
    team = TeamFactory()
    for day in (1, 9, 2, 10):
        with time_machine.travel(datetime(2026, 1, day, tzinfo=UTC), tick=False):
            audit.record(team=team, event_type="config.changed", action=f"Day {day}")

    assert retention.cut(team, before=CUT_HERE) == 1
    assert sequences(team)[:3] == [2, 3, 4]


def test_a_broken_chain_is_not_cut(team):
    tamper("UPDATE accounts_auditline SET action = 'x' WHERE team_id = %s AND sequence = 2", team.pk)

    with pytest.raises(retention.ChainBroken, match="its hash does not fit"):
        retention.cut(team, before=CUT_HERE)

    assert (AuditAnchor.objects.count(), len(sequences(team))) == (0, 10)


@pytest.mark.django_db(transaction=True)
def test_cuts_and_writers_at_once_leave_one_whole_chain():
    team = TeamFactory()
    days(team)

    def work(number):
        try:
            if number % 4:
                return audit.record(team=team, event_type="config.changed", action="meanwhile").sequence
            return retention.cut(team, before=CUT_HERE)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(24)))

    assert AuditAnchor.objects.count() == 1
    assert sequences(team) == list(range(6, 30))
    assert audit.verify(team) == audit.Verification(valid=True, checked=24, broken=[])


# --- The database refuses ---------------------------------------------------------------------------------


@pytest.fixture
def cursor():
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        yield cursor


def test_only_covered_lines_can_be_deleted(team, monkeypatch):
    days(None, 3)
    monkeypatch.setattr(retention, "_remove_covered", lambda team: 0)
    retention.cut(team, before=CUT_HERE)

    for lines in (team.audit_lines.filter(sequence=6), AuditLine.objects.filter(team=None), AuditLine.objects.all()):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            lines.delete()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        team.audit_lines.filter(sequence=5).update(action="x")
    assert team.audit_lines.filter(sequence=5).delete()[0] == 1


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE accounts_auditanchor SET sequence = 9",
        "DELETE FROM accounts_auditanchor",
        "TRUNCATE accounts_auditanchor",
    ],
)
def test_an_anchor_stays_as_it_is(team, cursor, sql):
    retention.cut(team, before=CUT_HERE)
    # Off in the suite's database, so that tests can empty it; see conftest.py.
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    cursor.execute("ALTER TABLE accounts_auditanchor ENABLE TRIGGER audit_anchors_are_never_emptied")

    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        cursor.execute(sql)

    assert AuditAnchor.objects.get().sequence == 5


@pytest.mark.parametrize(("sequence", "own_hash"), [(99, True), (5, False)])
def test_an_anchor_names_a_line_that_is_there(team, sequence, own_hash):
    line = team.audit_lines.get(sequence=5)

    with pytest.raises(DatabaseError, match="must name a line"), transaction.atomic():
        AuditAnchor.objects.create(team=team, sequence=sequence, hash=line.hash if own_hash else "f" * 64, at=timezone.now())


def test_the_new_rules_can_be_taken_back_and_put_up_again(team, cursor):
    migration = import_module("accounts.migrations.0004_audit_retention")

    cursor.execute(migration.BACKWARDS)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        retention.cut(team, before=CUT_HERE)
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    cursor.execute(migration.FORWARDS)

    assert retention.cut(team, before=CUT_HERE) == 5


# --- What gets past it is found ---------------------------------------------------------------------------


def test_an_anchor_that_was_slipped_in_hides_nothing(team):
    fifth = team.audit_lines.get(sequence=5)

    AuditAnchor.objects.create(team=team, sequence=5, hash=fifth.hash, at=timezone.now())
    team.audit_lines.filter(sequence__lte=5).delete()

    sixth = team.audit_lines.get(sequence=6).pk
    assert audit.verify(team).broken == [(sixth, "Lines up to 5 were removed before this one, and no line tells of it.")]


def test_lines_removed_behind_a_cut_are_found(team):
    retention.cut(team, before=CUT_HERE)
    seventh = team.audit_lines.get(sequence=7).pk

    tamper("DELETE FROM accounts_auditline WHERE team_id = %s AND sequence = 6", team.pk)

    assert audit.verify(team).broken == [(seventh, "Lines 6 to 6 are missing before this one.")]


def test_a_chain_that_was_emptied_behind_a_cut_is_found(team):
    retention.cut(team, before=CUT_HERE)

    tamper("DELETE FROM accounts_auditline WHERE team_id = %s", team.pk)

    assert audit.verify(team).broken == [(0, "The chain ends here, and 6 lines after it are missing.")]


def test_an_anchor_that_was_removed_is_found(team):
    retention.cut(team, before=CUT_HERE)
    sixth = team.audit_lines.get(sequence=6).pk

    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE accounts_auditanchor DISABLE TRIGGER audit_anchors_stay")
        cursor.execute("DELETE FROM accounts_auditanchor")

    assert audit.verify(team).broken == [(sixth, "Lines 1 to 5 are missing before this one.")]


# --- The doors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kept_days", "left"), [(0, 10), (5, 6)])
def test_the_setting_cuts_all_chains_by_whole_days(settings, team, kept_days, left):
    settings.AUDIT_RETENTION_DAYS = kept_days
    days(None)
    now = datetime(2026, 1, 11, 15, tzinfo=UTC)

    with time_machine.travel(now, tick=False):
        retention.cut_due(now=now)
        retention.cut_due(now=now + timedelta(hours=8))

    assert [len(sequences(each)) for each in (team, None)] == [left, left]
    assert AuditAnchor.objects.count() == (2 if kept_days else 0)


def test_a_broken_chain_does_not_keep_the_others_from_being_cut(settings, team):
    settings.AUDIT_RETENTION_DAYS = 5
    other = TeamFactory()
    days(other)
    tamper("UPDATE accounts_auditline SET action = 'x' WHERE team_id = %s AND sequence = 2", team.pk)

    retention.cut_due(now=timezone.now())

    assert [len(sequences(each)) for each in (team, other)] == [10, 1]


def test_the_command_cuts_what_it_is_told(team, capsys):
    days(None)

    call_command("cut_audit", before="2026-01-06", team=team.slug)
    call_command("cut_audit", before="2026-01-03", team="platform")

    assert capsys.readouterr().out == f"{team.slug}: 5 lines removed\nplatform: 2 lines removed\n"
    assert AuditHead.objects.count() == 2


def test_the_command_goes_by_the_setting(settings, team):
    settings.AUDIT_RETENTION_DAYS = 5

    with time_machine.travel(datetime(2026, 1, 11, 15, tzinfo=UTC), tick=False):
        call_command("cut_audit")

    assert len(sequences(team)) == 6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"before": "yesterday"}, "'yesterday' is not a day"),
        ({"before": "2026-02-31"}, "'2026-02-31' is not a day"),
        ({"before": "2999-01-01"}, "2999-01-01 is in the future"),
        ({}, "Say --before DATE"),
        ({"before": "2026-01-01", "team": "nobody"}, "There is no team 'nobody'"),
    ],
)
def test_the_command_says_what_it_needs(options, says):
    with pytest.raises(CommandError, match=says):
        call_command("cut_audit", **options)


def test_the_command_refuses_a_broken_chain(team, capsys):
    tamper("UPDATE accounts_auditline SET action = 'x' WHERE team_id = %s AND sequence = 2", team.pk)

    with pytest.raises(CommandError, match="1 chains were left as they are"):
        call_command("cut_audit", before="2026-01-06")

    assert "does not verify" in capsys.readouterr().err
