from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.contextvars import bound_contextvars

from accounts.chain import link
from billing import ledger
from billing.models import Hold, LedgerHead, LedgerLine, LineKind
from tests.billing.factories import NOW, USD, PriceLineFactory, hold, settle
from tests.factories import TeamFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def team():
    """A team with nine lines: three holds, each settled."""
    team = TeamFactory()
    for usd in (1, 2, 3):
        settle(hold(team, 4).hold, usd)
    return team


class Unlocked:
    """A forger who owns the database: the triggers are off inside."""

    def __enter__(self):
        # Keys are checked at the end of a transaction, and no table is altered before that.
        self.run("SET CONSTRAINTS ALL IMMEDIATE", "ALTER TABLE billing_ledgerline DISABLE TRIGGER ledger_lines_stay")

    def __exit__(self, *exc):
        self.run("ALTER TABLE billing_ledgerline ENABLE TRIGGER ledger_lines_stay")

    def run(self, *statements):
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def line_at(team, sequence):
    return LedgerLine.objects.get(team=team, sequence=sequence)


def test_an_untouched_chain_is_valid(team):
    verification = ledger.verify(team)

    assert (verification.valid, verification.checked, verification.broken) == (True, 9, [])


def test_a_team_without_lines_has_a_valid_chain():
    assert ledger.verify(TeamFactory()).valid


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 1},
        {"at": NOW + timedelta(microseconds=1)},
        {"kind": LineKind.ADJUST},
        {"reference": "job:j-another"},
        {"reason": "because"},
        {"is_rehearsal": True},
        {"made_by_id": 7},
        {"correlation_id": "x"},
        {"price_line": None},
        {"hash": "f" * 64},
    ],
)
def test_a_changed_line_is_found(team, change):
    line = line_at(team, 4)

    with Unlocked():
        LedgerLine.objects.filter(pk=line.pk).update(**change)

    assert line.sequence in dict(ledger.verify(team).broken)


@pytest.mark.parametrize("sequence", [1, 5, 9])
def test_a_removed_line_is_found(team, sequence):
    with Unlocked():
        line_at(team, sequence).delete()

    assert ledger.verify(team).valid is False


def test_a_ledger_that_was_emptied_is_found(team):
    with Unlocked():
        LedgerLine.objects.filter(team=team).delete()

    assert ledger.verify(team).broken == [(0, "The chain ends here, and 9 lines after it are missing.")]


def test_swapped_lines_are_found(team):
    first, second = line_at(team, 2), line_at(team, 5)

    with Unlocked():
        LedgerLine.objects.filter(pk=first.pk).update(sequence=99)
        LedgerLine.objects.filter(pk=second.pk).update(sequence=2)
        LedgerLine.objects.filter(pk=first.pk).update(sequence=5)

    assert {2, 5} <= set(dict(ledger.verify(team).broken))


def test_a_line_that_was_put_in_is_found_however_well_it_is_forged(team):
    last = line_at(team, 9)
    forged = LedgerLine(team=team, sequence=10, at=NOW, kind=LineKind.ADJUST, amount=-5 * USD, reason="refund", previous_hash=last.hash)
    forged.hash = link(last.hash, forged.chained_fields())
    forged.save()

    assert ledger.verify(team).broken == [(10, "The line stands behind the end of the chain.")]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_forged_figure_in_any_line_is_found(data):
    team = TeamFactory()
    for usd in data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4)):
        settle(hold(team, 4).hold, usd)
    line = line_at(team, data.draw(st.integers(1, team.ledger_lines.count())))
    amount = data.draw(st.integers(0, 5 * USD).filter(lambda amount: amount != line.amount))

    with Unlocked():
        LedgerLine.objects.filter(pk=line.pk).update(amount=amount)

    assert [key for key, _ in ledger.verify(team).broken] == [line.sequence]


def test_a_chain_is_each_teams_own(team):
    other = TeamFactory()
    hold(other, 4)

    assert list(other.ledger_lines.values_list("sequence", flat=True)) == [1]
    assert ledger.verify(team).checked == 9


def test_a_line_keeps_the_correlation_id_and_its_time_in_any_zone():
    team = TeamFactory()
    local = datetime(2026, 11, 23, 21, 0, 0, 123456, tzinfo=timezone(timedelta(hours=9)))

    with bound_contextvars(correlation_id="request-7"):
        ledger.append(team=team, kind=LineKind.ADJUST, amount=-USD, at=local, reason="refunded by the provider")

    line = team.ledger_lines.get()
    assert (line.correlation_id, line.at) == ("request-7", datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC))
    assert ledger.verify(team).valid
    assert LedgerHead.objects.get(team=team).charged == -USD


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billing_ledgerline SET amount = 0",
        "UPDATE billing_ledgerline SET reason = 'x' WHERE id = -1",
        "DELETE FROM billing_ledgerline",
        "DELETE FROM billing_ledgerline WHERE id = -1",
    ],
)
def test_the_database_refuses_to_change_lines(team, statement):
    with pytest.raises(IntegrityError, match="The ledger is append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)

    assert ledger.verify(team).valid


def test_the_database_refuses_to_empty_the_ledger(team):
    with connection.cursor() as cursor:
        # The suite switches this one trigger off, to empty its tables between tests.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE billing_ledgerline ENABLE TRIGGER ledger_is_never_emptied")

        with pytest.raises(IntegrityError, match="TRUNCATE is refused"), transaction.atomic():
            cursor.execute("TRUNCATE billing_ledgerline")

    assert ledger.verify(team).checked == 9


def test_django_refuses_to_delete_what_a_line_names(team):
    with pytest.raises(Exception, match="protected foreign keys"):
        Hold.objects.filter(team=team).delete()


def test_only_an_adjustment_is_negative():
    with pytest.raises(IntegrityError, match="only_an_adjustment_is_negative"), transaction.atomic():
        ledger.append(team=TeamFactory(), kind=LineKind.CHARGE, amount=-1, at=NOW)


def test_a_hold_is_charged_once():
    team = TeamFactory()
    held = hold(team, 4).hold
    settle(held, 1)

    with pytest.raises(IntegrityError, match="a_hold_is_charged_and_released_once"), transaction.atomic():
        ledger.append(team=team, kind=LineKind.CHARGE, amount=1, at=NOW, hold=held, price_line=PriceLineFactory())


def test_holds_whose_lines_do_not_add_up_are_named(team):
    _, wrong, reopened = Hold.objects.filter(team=team).order_by("pk")
    Hold.objects.filter(pk=wrong.pk).update(charge=3 * USD)
    Hold.objects.filter(pk=reopened.pk).update(charge=None, settled_at=None)
    longer = hold(team, 4).hold
    Hold.objects.filter(pk=longer.pk).update(amount=5 * USD)

    assert [key for key, _ in ledger.unbalanced_holds(team)] == [wrong.pk, reopened.pk, longer.pk]


def test_the_command_says_that_all_is_well(team, capsys):
    call_command("verify_ledger", team=team.slug)

    assert capsys.readouterr().out.splitlines()[-1] == f"{team.slug}: 9 lines, intact"


def test_the_command_fails_and_names_what_is_broken(team, capsys):
    line = line_at(team, 4)
    with Unlocked():
        LedgerLine.objects.filter(pk=line.pk).update(amount=1)

    with pytest.raises(CommandError, match="3 problems"):
        call_command("verify_ledger")

    shown = capsys.readouterr().out
    assert "line 4: The line was changed" in shown
    assert f"hold {line.hold_id}: {line.reference}" in shown


def test_the_command_knows_teams_only():
    with pytest.raises(CommandError, match="no team 'nobody'"):
        call_command("verify_ledger", team="nobody")
