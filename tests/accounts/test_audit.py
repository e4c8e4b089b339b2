"""The audit trail: what it says, that it cannot be changed, and that a change past that is found."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module

import pytest
import structlog
from django.db import DatabaseError, connection, transaction

from accounts import audit
from accounts.callers import Caller
from accounts.chain import BEGINNING, link
from accounts.models import AuditHead, AuditLine
from tests.factories import MembershipFactory, TeamFactory, UserFactory, make_token

pytestmark = pytest.mark.django_db


@pytest.fixture
def chain():
    """A team with five lines."""
    team = TeamFactory()
    for number in range(1, 6):
        audit.record(team=team, event_type="config.changed", action=f"Change {number}", after={"number": number})
    return team


def tamper(sql, *values):
    """What somebody could do who owns the database."""
    with connection.cursor() as cursor:
        # A table is not altered while keys of this transaction are still to be checked.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE accounts_auditline DISABLE TRIGGER audit_lines_stay")
        cursor.execute(sql, values)
        assert cursor.rowcount > 0
        cursor.execute("ALTER TABLE accounts_auditline ENABLE TRIGGER audit_lines_stay")


def ids(team):
    return list(team.audit_lines.order_by("sequence").values_list("pk", flat=True))


def test_a_line_says_who_did_what_from_where():
    token, _ = make_token(MembershipFactory())
    caller = Caller(team=token.team, user=token.made_by, role=token.role, rights=token.rights, token=token, address="192.0.2.1")
    structlog.contextvars.bind_contextvars(correlation_id="abc-1")

    try:
        made = audit.record(
            team=token.team, event_type="config.changed", action="Changed the config", caller=caller, target_type="config",
            target_id="flux", before={"rank": 8}, after={"rank": 16}, reason="too small",
        )  # fmt: skip
    finally:
        structlog.contextvars.clear_contextvars()

    line = AuditLine.objects.get(pk=made.pk)
    assert (line.actor_id, line.actor, line.token_prefix, line.address, line.correlation_id) == (
        token.made_by.pk, token.made_by.username, token.key_prefix, "192.0.2.1", "abc-1",
    )  # fmt: skip
    assert (line.event_type, line.action, line.target_type, line.target_id) == ("config.changed", "Changed the config", "config", "flux")
    assert (line.before, line.after, line.reason) == ({"rank": 8}, {"rank": 16}, "too small")


def test_without_a_caller_the_actor_is_a_person_or_nobody():
    user = UserFactory()

    by_person = audit.record(team=None, event_type="user.updated", action="x", by=user, address="192.0.2.1")
    by_system = audit.record(team=None, event_type="job.expired", action="x")

    assert (by_person.actor_id, by_person.actor, by_person.address) == (user.pk, user.username, "192.0.2.1")
    assert (by_system.actor_id, by_system.actor, by_system.address) == (None, "", "")


def test_secrets_are_masked_by_their_names_at_any_depth():
    told = {
        "api_token": "planted", "hf_token": "planted", "webhook_secret_current": "planted", "password": "planted",
        "access_key": "planted", "s3": [{"secret_access_key": "planted", "bucket": "b"}], "tokens": ["planted"],
        "has_token": True, "token": "", "key_prefix": "th_12345678", "last_four": "abcd", "max_tokens_per_job": 3,
    }  # fmt: skip

    line = audit.record(team=None, event_type="config.changed", action="x", before=told, after=told)

    assert "planted" not in f"{line.before}{line.after}"
    assert line.after == {
        "api_token": "***", "hf_token": "***", "webhook_secret_current": "***", "password": "***",
        "access_key": "***", "s3": [{"secret_access_key": "***", "bucket": "b"}], "tokens": "***",
        "has_token": True, "token": "", "key_prefix": "th_12345678", "last_four": "abcd", "max_tokens_per_job": 3,
    }  # fmt: skip


def test_any_value_is_kept_so_that_it_reads_back_as_it_was_hashed(chain):
    odd = {
        "float": 1e16, "decimal": Decimal("4.00"), "time": datetime(2026, 11, 23, tzinfo=UTC), "text": "naïve \x00 \u2028 \ud800",
        "set": {3}, "none": None, 7: True, "team": chain, "big": 2**80,
    }  # fmt: skip

    audit.record(team=chain, event_type="e" * 60, action="a" * 400, target_id="t" * 200, after=odd, reason="r\x00" * 400)

    assert audit.verify(chain) == audit.Verification(valid=True, checked=6, broken=[])
    assert AuditLine.objects.latest("pk").after["float"] == "1e+16"


def test_teams_and_the_platform_have_chains_of_their_own(chain):
    other = TeamFactory()

    lines = [audit.record(team=team, event_type="user.updated", action="x") for team in (other, None, chain, other)]

    assert [line.sequence for line in lines] == [1, 1, 6, 2]
    assert [audit.verify(team).checked for team in (other, None, chain)] == [2, 1, 6]
    assert lines[0].previous_hash == BEGINNING


def test_a_chain_that_has_not_begun_is_whole():
    assert audit.verify(TeamFactory()) == audit.Verification(valid=True, checked=0, broken=[])


def test_a_line_is_undone_with_what_it_tells_of(chain):
    with transaction.atomic():
        audit.record(team=chain, event_type="config.changed", action="never happened")
        transaction.set_rollback(True)

    assert audit.verify(chain) == audit.Verification(valid=True, checked=5, broken=[])


# The database refuses


@pytest.mark.parametrize(
    "sql",
    ["UPDATE accounts_auditline SET action = 'other'", "DELETE FROM accounts_auditline", "TRUNCATE accounts_auditline"],
    ids=["update", "delete", "truncate"],
)
def test_the_database_refuses_to_change_a_line(chain, sql):
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        # Off in the suite's database, so that tests can empty it; see conftest.py.
        cursor.execute("ALTER TABLE accounts_auditline ENABLE TRIGGER audit_is_never_emptied")
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            cursor.execute(sql)

    assert audit.verify(chain) == audit.Verification(valid=True, checked=5, broken=[])


def test_the_protection_can_be_taken_back_and_put_up_again(chain):
    migration = import_module("accounts.migrations.0002_audit_is_append_only")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

        cursor.execute(migration.BACKWARDS)
        chain.audit_lines.filter(sequence=1).update(reason="x")
        cursor.execute(migration.FORWARDS)

        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            chain.audit_lines.filter(sequence=1).update(reason="y")


def test_the_orm_is_refused_as_well(chain):
    line = chain.audit_lines.first()

    for change in (line.delete, line.save, chain.audit_lines.all().delete, lambda: chain.audit_lines.update(reason="x")):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            change()


# What gets past the database is found


@pytest.mark.parametrize(
    "change",
    [
        "at = at + interval '1 microsecond'", "event_type = 'x'", "actor_id = 99", "actor = 'x'", "token_prefix = 'x'", "address = 'x'",
        "target_type = 'x'", "target_id = 'x'", "action = 'x'", "before = '{\"x\": 1}'", "after = '{}'", "reason = 'x'",
        "correlation_id = 'x'",
    ],
)  # fmt: skip
def test_a_changed_field_is_found(chain, change):
    third = ids(chain)[2]

    tamper(f"UPDATE accounts_auditline SET {change} WHERE id = %s", third)  # noqa: S608 - our own list above

    assert audit.verify(chain).broken == [(third, "The line was changed: its hash does not fit what it says.")]


def test_a_changed_line_with_a_new_hash_breaks_the_next_one(chain):
    line = chain.audit_lines.get(sequence=3)
    line.action = "something else"

    tamper("UPDATE accounts_auditline SET action = %s, hash = %s WHERE id = %s",
           line.action, link(line.previous_hash, line.chained_fields()), line.pk)  # fmt: skip

    assert audit.verify(chain).broken == [(ids(chain)[3], "The line does not follow from the one before it.")]


@pytest.mark.parametrize("sequence", [1, 3])
def test_a_removed_row_is_found(chain, sequence):
    following = chain.audit_lines.get(sequence=sequence + 1).pk

    tamper("DELETE FROM accounts_auditline WHERE team_id = %s AND sequence = %s", chain.pk, sequence)

    found = audit.verify(chain)
    assert (found.valid, found.checked) == (False, 4)
    assert found.broken == [(following, f"Lines {sequence} to {sequence} are missing before this one.")]


def test_a_tail_that_was_cut_off_is_found(chain):
    third = ids(chain)[2]

    tamper("DELETE FROM accounts_auditline WHERE team_id = %s AND sequence > 3", chain.pk)

    assert audit.verify(chain).broken == [(third, "The chain ends here, and 2 lines after it are missing.")]


def test_a_chain_that_was_emptied_is_found(chain):
    tamper("DELETE FROM accounts_auditline WHERE team_id = %s", chain.pk)

    assert audit.verify(chain).broken == [(0, "The chain ends here, and 5 lines after it are missing.")]


def test_two_swapped_rows_are_found(chain):
    second, fourth = ids(chain)[1], ids(chain)[3]

    tamper("UPDATE accounts_auditline SET sequence = 99 WHERE id = %s", second)
    tamper("UPDATE accounts_auditline SET sequence = 2 WHERE id = %s", fourth)
    tamper("UPDATE accounts_auditline SET sequence = 4 WHERE id = %s", second)

    assert {second, fourth} <= {line for line, _reason in audit.verify(chain).broken}


def test_two_rows_that_swapped_all_but_their_ids_are_found(chain):
    second, fourth = ids(chain)[1], ids(chain)[3]

    tamper("UPDATE accounts_auditline SET id = -1 WHERE id = %s", second)
    tamper("UPDATE accounts_auditline SET id = %s WHERE id = %s", second, fourth)
    tamper("UPDATE accounts_auditline SET id = %s WHERE id = -1", fourth)

    assert audit.verify(chain).broken != []


def forge_after(line):
    """A line that follows from another as it should."""
    forged = AuditLine(
        team=line.team, sequence=line.sequence + 1, at=line.at, event_type="job.approved", action="Forged", previous_hash=line.hash
    )
    forged.hash = link(line.hash, forged.chained_fields())
    return forged


def test_a_row_that_was_inserted_between_others_is_found(chain):
    forged = forge_after(chain.audit_lines.get(sequence=2))
    third, fourth, fifth = ids(chain)[2:]
    for later in (fifth, fourth, third):
        tamper("UPDATE accounts_auditline SET sequence = sequence + 1 WHERE id = %s", later)

    forged.save()

    assert (third, "The line does not follow from the one before it.") in audit.verify(chain).broken


def test_a_row_that_was_inserted_at_the_end_is_found(chain):
    forged = forge_after(chain.audit_lines.get(sequence=5))

    forged.save()

    assert audit.verify(chain).broken == [(forged.pk, "The line stands behind the end of the chain.")]


def test_a_line_that_was_taken_over_into_another_teams_chain_is_found(chain):
    other = TeamFactory()
    audit.record(team=other, event_type="config.changed", action="x")
    assert audit.verify(other).valid

    tamper("UPDATE accounts_auditline SET team_id = %s WHERE team_id = %s AND sequence = 2", other.pk, chain.pk)

    assert not audit.verify(other).valid
    assert not audit.verify(chain).valid


def test_a_forged_head_is_found(chain):
    AuditHead.objects.filter(team=chain).update(hash="f" * 64)

    assert audit.verify(chain).broken == [(ids(chain)[4], "The line is not the one that the end of the chain was made of.")]


# Writers at once


@pytest.mark.django_db(transaction=True)
def test_writers_at_once_make_one_unbroken_chain():
    team = TeamFactory()

    def write(writer):
        try:
            for number in range(5):
                with transaction.atomic():
                    audit.record(team=team, event_type="config.changed", action=f"{writer}.{number}")
            return audit.verify(team).broken
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(write, range(8)))

    assert seen == [[]] * 8
    assert audit.verify(team) == audit.Verification(valid=True, checked=40, broken=[])
    times = list(team.audit_lines.order_by("sequence").values_list("at", flat=True))
    assert times == sorted(times)
