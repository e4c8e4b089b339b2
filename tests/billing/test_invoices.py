"""The provider's invoices: read strictly, taken in whole and once, compared line by line with the ledger, and adjusted to."""

import csv
import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.errors import InvalidInput
from accounts.models import AuditLine
from billing import invoice_files, invoices, ledger, reconciling, services, totals
from billing.invoice_files import UnreadableInvoice
from billing.invoices import InvoiceKnown
from billing.models import Hold, Invoice, InvoiceLine, LedgerLine
from billing.reconciling import Kind
from billing.services import NothingToAdjust
from tests.billing.factories import NOW, USD, SpendLimitFactory, hold, race, settle
from tests.factories import CredentialFactory, TeamFactory, UserFactory

HEAD = "Prediction ID,Hardware,Seconds,Amount USD,Date\n"
ACCOUNT = "acme"


def read(text, **options):
    return list(invoice_files.read(io.StringIO(text, newline=""), **options))


def problems_of(text, **options):
    with pytest.raises(UnreadableInvoice) as caught:
        read(text, **options)
    return caught.value.details["problems"]


# --- Reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "abc,gpu-l40s,1830.5,1.784738,2026-11-23\n",
        "\ufeff" + HEAD + "abc,gpu-l40s,1830.5,$1.784738,2026-11-23\n",
        "date;id;cost;predict_time;model\r\n2026-11-23T10:00:00Z;abc;1.784738;1830.5s;gpu-l40s\r\n",
        "created\tcompleted_at\tprediction\ttotal\tgpu_seconds\tsku\n1\t2026-11-23 23:59:59.5\tabc\t1.784738\t1830.5\tgpu-l40s\n",
        'x,Prediction-ID,"AMOUNT (USD)",Billed at,hardware,duration\n"a,b\nc",abc,1.784738,2026-11-24T01:00:00+09:00,gpu-l40s,1830.5\n\n',
    ],
)
def test_columns_have_many_names(text):
    [row] = read(text)

    assert (row.provider_reference, row.amount, row.billed_on) == ("abc", 1_784_738, date(2026, 11, 23))
    assert (row.hardware, row.seconds) == ("gpu-l40s", Decimal("1830.5"))


def test_a_column_that_nobody_foresaw_is_named():
    text = "run,bill,when\nabc,2,2026-11-23\n"

    [row] = read(text, columns={"provider_reference": "Run", "amount": "bill", "billed_on": "when"})

    assert (row.provider_reference, row.amount, row.seconds, row.hardware) == ("abc", 2 * USD, None, "")
    assert problems_of(text) == ["The first line of the file names no column for the prediction id. It names: run, bill, when."]
    assert problems_of(text, columns={"seconds": "length", "provider_reference": "run", "amount": "bill", "billed_on": "when"}) == [
        "The first line of the file names no column for the 'length'. It names: run, bill, when."
    ]
    with pytest.raises(InvalidInput, match="There is no column 'colour'"):
        read(text, columns={"colour": "run"})


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("abc,x,1,\"1,25\",2026-11-23", "the amount '1,25' is none like 12.345678"),
        ("abc,x,1,1e3,2026-11-23", "the amount '1e3' is none"),
        ("abc,x,1,NaN,2026-11-23", "the amount 'NaN' is none"),
        ("abc,x,1,,2026-11-23", "the amount '' is none"),
        ("abc,x,1,٣,2026-11-23", "the amount '٣' is none"),
        ("abc,x,1,9999999999,2026-11-23", "the amount '9999999999' is none"),
        ("abc,x,1,1,23/11/2026", "the date '23/11/2026' is none like 2026-11-30"),
        ("abc,x,1,1,2026-02-30", "the date '2026-02-30' is none"),
        ("abc,x,1,1,2026-11-23T99:00", "the date '2026-11-23T99:00' is none"),
        ("abc,x,1,1", "the date '' is none"),
        ("abc,x,-1,1,2026-11-23", "the seconds '-1' are none like 1830.5"),
        (",x,1,99,2026-11-23", "it has no prediction id. Leave rows out that add others up"),
        ("a" * 65 + ",x,1,1,2026-11-23", "the prediction id is longer than 64 characters"),
        ("a\x00b,x,1,1,2026-11-23", "it has a character that is none"),
    ],
)  # fmt: skip
def test_a_bad_row_names_its_line_and_what_is_wrong(row, says):
    [problem] = problems_of(HEAD + "fine,x,1,1,2026-11-23\n" + row + "\n")

    assert problem.startswith(f"Line 3: {says}")


def test_all_bad_rows_are_named_at_once_up_to_a_number():
    rows = "".join(f"abc,x,1,wrong{number},2026-11-23\n" for number in range(30))

    assert len(problems_of(HEAD + rows)) == invoice_files.MOST_PROBLEMS


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no column for the prediction id. It names: nothing."),
        (HEAD, "has no rows below"),
        (HEAD + "\n ,,\n", "has no rows below"),
        ("id,id,amount,date\n", "Two columns are called 'id'."),
        (HEAD + 'abc,"x\n', "The file is not CSV"),
    ],
)
def test_a_file_that_is_no_invoice_says_so(text, says):
    [problem] = problems_of(text)

    assert says in problem


@given(micros=st.integers(-(10**15), 10**15), more=st.text("0", max_size=6))
def test_every_amount_is_read_to_the_micro_dollar(micros, more):
    dollars = f"{Decimal(micros).scaleb(-6):f}"
    text = dollars + more if "." in dollars else dollars

    assert read(f"{HEAD}abc,,,{text},2026-11-23\n")[0].amount == micros


@given(text=st.text(max_size=12))
def test_no_text_is_read_as_money_that_it_is_not(text):
    file = io.StringIO(newline="")
    csv.writer(file).writerows([["id", "amount", "date"], ["abc", text, "2026-11-23"]])
    file.seek(0)

    try:
        [row] = invoice_files.read(file)
    except UnreadableInvoice:
        return
    plain = text.strip().replace("$", "", 1)
    assert row.amount == (Decimal(plain) * USD).to_integral_value() == round(float(plain) * USD)


# --- Taking in --------------------------------------------------------------------------------------------


def taken(text, **options):
    return invoices.import_invoice(io.BytesIO(text.encode()), **{"account": ACCOUNT, "name": "2026-11", "by": None, **options})


def test_an_invoice_is_taken_in_whole_and_audited(db):
    staff = UserFactory(username="ada")

    invoice = taken(HEAD + "a,x,1,1.5,2026-11-03\nb,x,1,-0.25,2026-11-01\n", by=staff, address="192.0.2.7")

    assert (invoice.total, invoice.first_on, invoice.last_on) == (1_250_000, date(2026, 11, 1), date(2026, 11, 3))
    assert list(invoice.lines.values_list("row", "provider_reference", "amount")) == [(2, "a", 1_500_000), (3, "b", -250_000)]
    line = AuditLine.objects.get(event_type="invoice.imported")
    assert (line.team, line.actor, line.address, line.target_id) == (None, "ada", "192.0.2.7", str(invoice.pk))


def test_a_bad_row_leaves_nothing_behind(db, monkeypatch):
    monkeypatch.setattr(invoices, "BATCH", 2)
    rows = "".join(f"run-{number},x,1,1,2026-11-03\n" for number in range(5))

    with pytest.raises(UnreadableInvoice, match="Line 7: the amount 'x' is none"):
        taken(HEAD + rows + "bad,x,1,x,2026-11-03\n")

    assert (Invoice.objects.count(), InvoiceLine.objects.count(), AuditLine.objects.count()) == (0, 0, 0)


def test_the_same_file_is_refused(db):
    text = HEAD + "a,x,1,1,2026-11-03\n"
    taken(text)

    with pytest.raises(InvoiceKnown, match=r"This file was imported before, as 2026-11 \(acme\)."):
        taken(text, name="again")
    with pytest.raises(InvoiceKnown, match="from another file"):
        taken(text + "b,x,1,1,2026-11-03\n")


def test_a_line_of_an_earlier_invoice_counts_once(db):
    first = taken(HEAD + "a,x,1,1,2026-11-03\nb,x,1,2,2026-11-03\n")

    second = taken(HEAD + "b,x,1,2,2026-11-03\nb,x,1,2,2026-11-03\nc,x,1,3,2026-11-04\n", name="later")
    other = taken(HEAD + "a,x,1,1,2026-11-03\n" + "\n", account="another account")

    assert list(second.lines.values_list("provider_reference", "nth", "repeats__invoice")) == [
        ("b", 1, first.pk),
        ("b", 2, None),
        ("c", 1, None),
    ]
    assert other.lines.counted().count() == 1
    assert reconciling.report(second).repeated_lines == 1


@pytest.mark.parametrize("said", [{"account": " "}, {"name": ""}, {"first_on": date(2027, 1, 1)}, {"account": "x" * 201}])
def test_an_invoice_has_an_account_a_name_and_days(db, said):
    with pytest.raises(InvalidInput):
        taken(HEAD + "a,x,1,1,2026-11-03\n", **said)

    assert Invoice.objects.count() == 0


def test_a_file_that_is_no_text_is_told(db):
    with pytest.raises(UnreadableInvoice, match="not text in UTF-8"):
        invoices.import_invoice(io.BytesIO(HEAD.encode() + b"\xff\xfe"), account=ACCOUNT, name="x", by=None)


# --- Comparing --------------------------------------------------------------------------------------------


def ran(name, usd, *, team=None, at=NOW, account=ACCOUNT, flag="", **options):
    """A settled run that the provider calls `name`."""
    held = hold(team or TeamFactory(), 4, now=at, **options).hold
    services.identify(held, provider_reference=name, provider_account=account)
    settle(held, usd, now=at, flag=flag)
    held.refresh_from_db()
    return held


def found_in(invoice):
    return {found.provider_reference or found.hold.reference: found for found in reconciling.findings(invoice)}


def row(name, usd, day="2026-11-23"):
    return f"{name},gpu-test,,{Decimal(str(usd)):f},{day}\n"


def test_each_run_is_found_equal_different_or_on_one_side_only(db):
    team = TeamFactory()
    for name, usd in (("equal", 1), ("more", 1), ("less", 2), ("ours", 3), ("twice", 1)):
        ran(name, usd, team=team)
    waiting = hold(team, 4).hold
    services.identify(waiting, provider_reference="waits", provider_account=ACCOUNT)
    lost = ran("", 4, team=team, flag="unknown_at_provider")

    invoice = taken(
        HEAD + row("equal", 1) + row("more", 1.000001) + row("less", 0.5) + row("theirs", 7) + row("twice", 1) * 2 + row("waits", 1)
    )

    found = found_in(invoice)
    assert {name: (each.kind, each.difference) for name, each in found.items()} == {
        "equal": (Kind.EQUAL, 0),
        "more": (Kind.DIFFERENT, 1),
        "less": (Kind.DIFFERENT, -1_500_000),
        "theirs": (Kind.ONLY_INVOICE, 7 * USD),
        "twice": (Kind.DIFFERENT, USD),
        "waits": (Kind.NOT_SETTLED, USD),
        "ours": (Kind.ONLY_LEDGER, -3 * USD),
        lost.reference: (Kind.ONLY_LEDGER, -4 * USD),
    }
    assert (found["twice"].rows, found["twice"].doubled) == ([6, 7], 1)
    report = reconciling.report(invoice)
    assert (report.all.count, report.all.invoiced, report.all.charged, report.doubled_lines) == (8, invoice.total, 12 * USD, 1)
    assert report.all.difference == report.all.invoiced - report.all.charged == sum(each.difference for each in found.values())
    assert len(report.shown) == 7


def test_only_what_the_account_paid_in_the_invoices_days_is_missing_from_it(db):
    of_the_account, unknown = TeamFactory(), TeamFactory()
    CredentialFactory(team=of_the_account, account_username=ACCOUNT)
    ran("in time", 1, at=datetime(2026, 11, 23, 23, 59, 59, tzinfo=UTC))
    ran("too late", 1, at=datetime(2026, 11, 24, tzinfo=UTC))
    ran("too early", 1, at=datetime(2026, 11, 21, 23, 59, tzinfo=UTC))
    ran("another's", 1, account="globex")
    ran("by its token", 1, team=of_the_account, account="")
    ran("nobody knows", 1, team=unknown, account="")
    ran("free", 0)
    ran("rehearsed", 1, is_rehearsal=True)
    ran("billed before", 1)
    taken(HEAD + row("billed before", 1, day="2026-10-31"), name="2026-10")

    invoice = taken(HEAD + row("a", 1, "2026-11-22") + row("b", 1, "2026-11-23"))

    only_ours = [each.provider_reference for each in reconciling.findings(invoice) if each.kind == Kind.ONLY_LEDGER]
    assert sorted(only_ours) == ["by its token", "in time"]


def test_days_can_be_given_where_the_rows_do_not_reach(db):
    ran("at the end", 1, at=datetime(2026, 11, 30, 12, tzinfo=UTC))

    invoice = taken(HEAD + row("a", 1, "2026-11-02"), first_on=date(2026, 11, 1), last_on=date(2026, 11, 30))

    assert found_in(invoice)["at the end"].kind == Kind.ONLY_LEDGER


def test_a_run_over_the_end_of_a_month_stands_on_two_invoices(db):
    ran("long", 3)
    taken(HEAD + row("long", 1, "2026-10-31"), name="2026-10")

    found = found_in(taken(HEAD + row("long", 2, "2026-11-01")))["long"]

    assert (found.kind, found.invoiced, found.elsewhere) == (Kind.EQUAL, 2 * USD, USD)


@pytest.mark.django_db
@settings(max_examples=20, deadline=None)
@given(runs=st.lists(st.tuples(st.integers(0, 4 * USD), st.integers(0, 3), st.integers(-2, 2)), max_size=5))
def test_the_report_shows_every_micro_dollar_of_difference(runs):
    with transaction.atomic():
        rows = []
        for number, (charge, times, off) in enumerate(runs):
            ran(f"run-{number}", charge / USD)
            # The provider may ask for a run in several lines, and for something else than we charged.
            parts = [max(0, charge + off), *range(1, times)] if times else []
            rows += [row(f"run-{number}", Decimal(part).scaleb(-6)) for part in parts]
        if rows:
            invoice = taken(HEAD + "".join(rows), first_on=date(2026, 11, 1), last_on=date(2026, 11, 30))
            report = reconciling.report(invoice)
            ours = sum(charge for charge, *_ in runs)
            assert report.all.invoiced == invoice.total
            assert report.all.charged == ours
            assert report.all.difference == invoice.total - ours == sum(found.difference for found in report.shown)
            assert all(found.difference or found.kind != Kind.DIFFERENT for found in report.shown)
            for found in report.shown:
                if found.can_be_adjusted:
                    reconciling.adjust(invoice, found.hold, by=None, now=NOW)
            assert [found for found in reconciling.findings(invoice) if found.difference] == []
            assert totals.differences() == []
        transaction.set_rollback(True)


def test_the_report_is_a_file_without_formulas(db):
    held = ran("=1+1", 1)

    text = b"".join(reconciling.as_csv(taken(HEAD + row("=1+1", 1.25) + row("theirs", 2)))).decode()

    first, second = csv.DictReader(io.StringIO(text))
    assert (first["finding"], first["provider_reference"], first["lines"], first["difference_usd"]) == (
        "different",
        "'=1+1",
        "2",
        "0.250000",
    )
    assert (first["team"], first["reference"], first["invoiced_usd"], first["charged_usd"]) == (
        held.team.slug, held.reference, "1.250000", "1.000000",
    )  # fmt: skip
    assert (second["finding"], second["reference"]) == ("only_on_invoice", "")


def test_a_report_asks_as_often_for_many_lines_as_for_one(db, django_assert_num_queries):
    invoice = taken(HEAD + "".join(row(f"run-{number}", 1) for number in range(20)))
    for number in range(10):
        ran(f"run-{number}", 1)

    with django_assert_num_queries(5):
        reconciling.report(invoice)


# --- Adjusting --------------------------------------------------------------------------------------------


def test_a_difference_is_adjusted_once(db):
    limit, staff = SpendLimitFactory(), UserFactory()
    held = ran("abc", 1, team=limit.team)
    invoice = taken(HEAD + row("abc", 1.25))

    reconciling.adjust(invoice, held, by=staff, now=NOW)

    line = LedgerLine.objects.get(kind="adjust")
    assert (line.amount, line.reason, line.made_by_id, Hold.objects.get().charge) == (250_000, "invoice 2026-11", staff.pk, 1_250_000)
    assert found_in(invoice)["abc"].kind == Kind.EQUAL
    assert (totals.differences(), ledger.unbalanced_holds(limit.team)) == ([], [])
    with pytest.raises(NothingToAdjust):
        reconciling.adjust(invoice, held, by=staff, now=NOW)
    assert LedgerLine.objects.filter(kind="adjust").count() == 1


def test_what_the_provider_never_billed_becomes_free_and_its_review_is_closed(db):
    held = ran("", 4, flag="unknown_at_provider")
    invoice = taken(HEAD + row("theirs", 1))

    reconciling.adjust(invoice, held, by=None, now=NOW)

    held = Hold.objects.get()
    assert (held.charge, held.needs_a_look, held.review) == (0, False, "invoice 2026-11")


def test_what_is_not_settled_is_not_adjusted(db):
    held = hold(TeamFactory(), 4).hold
    services.identify(held, provider_reference="abc", provider_account=ACCOUNT)

    with pytest.raises(NothingToAdjust, match="not settled yet"):
        reconciling.adjust(taken(HEAD + row("abc", 1)), held, by=None, now=NOW)


# --- The command ------------------------------------------------------------------------------------------


def test_the_command_imports_and_compares(db, tmp_path, capsys):
    ran("abc", 1)
    file, report = tmp_path / "november.csv", tmp_path / "report.csv"
    file.write_text("run,Line total,Date\nabc,1.25,2026-11-23\n")

    call_command("import_invoice", str(file), account=ACCOUNT, column=["amount=Line total", "provider_reference=run"], report=str(report))

    said = capsys.readouterr().out.splitlines()
    assert said[0] == "november (acme): $1.25, 2026-11-23 to 2026-11-23"
    assert "  different: 1 runs, invoiced $1.25, charged $1.00, difference $0.25" in said
    assert report.read_text().splitlines()[1].startswith("different,abc,2,0,1.250000,0.000000,1.000000,0.250000,")


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot be read"), ("a\n", "names no column for the prediction id"), (HEAD + "a,,,x,y\n", "Line 2: the date")],
)
def test_the_command_says_what_is_wrong_with_a_file(db, tmp_path, content, says):
    file = tmp_path / "x.csv"
    if content is not None:
        file.write_text(content)

    with pytest.raises(CommandError, match=says):
        call_command("import_invoice", str(file), account=ACCOUNT)

    assert Invoice.objects.count() == 0


def test_a_column_is_named_with_an_equals_sign(db, tmp_path):
    (tmp_path / "x.csv").write_text(HEAD)

    with pytest.raises(CommandError, match="write it like: amount = Line total"):
        call_command("import_invoice", str(tmp_path / "x.csv"), account=ACCOUNT, column=["amount"])


# --- At once ----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_many_who_press_the_button_at_once_adjust_once():
    limit = SpendLimitFactory()
    held = ran("abc", 1, team=limit.team)
    invoice = taken(HEAD + row("abc", 1.25))

    outcomes = race(lambda _: reconciling.adjust(invoice, held, by=None, now=NOW), times=6, threads=3)

    assert sum(isinstance(outcome, Hold) for outcome in outcomes) == 1
    assert [type(outcome) for outcome in outcomes if not isinstance(outcome, Hold)] == [NothingToAdjust] * 5
    assert LedgerLine.objects.filter(kind="adjust").count() == 1
    assert (totals.differences(), ledger.verify(limit.team).valid) == ([], True)


@pytest.mark.django_db(transaction=True)
def test_a_file_that_is_imported_many_times_at_once_is_taken_in_once():
    outcomes = race(lambda number: taken(HEAD + row("abc", 1), name=f"copy {number}"), times=4, threads=4)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Invoice", "InvoiceKnown", "InvoiceKnown", "InvoiceKnown"]
    assert InvoiceLine.objects.count() == 1
