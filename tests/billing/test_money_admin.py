"""Putting money right in the administration: reviews, adjustments and invoices, by superusers, while all staff may look."""

import io

import pytest
from django.urls import reverse

from accounts.models import AuditLine
from billing.models import Hold, Invoice, LedgerLine
from tests.billing.factories import USD, hold, settle
from tests.billing.test_invoices import ACCOUNT, HEAD, ran, row, taken
from tests.factories import TeamFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def superuser(client):
    user = UserFactory(username="ada", is_staff=True, is_superuser=True)
    client.force_login(user)
    return user


@pytest.fixture
def staff(client):
    user = UserFactory(is_staff=True)
    client.force_login(user)
    return user


@pytest.fixture
def flagged():
    held = hold(TeamFactory(), 4).hold
    settle(held, 4, flag="unknown_at_provider")
    return held


def of(name, *args):
    return reverse(f"admin:billing_{name}", args=args)


def file_of(text, name="november.csv"):
    file = io.BytesIO(text.encode())
    file.name = name
    return file


# --- Reviews and adjustments ------------------------------------------------------------------------------


def test_flagged_charges_are_listed(client, staff, flagged):
    settle(hold(TeamFactory(), 4).hold, 1)

    listed = client.get(of("hold_changelist"), {"needs_a_look": "yes"}).context["cl"].result_list

    assert list(listed) == [flagged]


def test_a_flagged_charge_is_settled_as_what_is_true(client, superuser, flagged):
    assert of("hold_settle_as", flagged.pk) in client.get(of("hold_change", flagged.pk)).content.decode()
    assert "unknown_at_provider" in client.get(of("hold_settle_as", flagged.pk)).content.decode()

    answer = client.post(of("hold_settle_as", flagged.pk), {"seconds": "600", "amount": "", "reason": "invoice 2026-11"})

    held = Hold.objects.get()
    assert (answer.status_code, answer.url) == (302, of("hold_change", flagged.pk))
    assert (held.charge, held.review, held.reviewed_by) == (585_000, "invoice 2026-11", superuser)
    assert LedgerLine.objects.get(kind="adjust").amount == 585_000 - 4 * USD
    assert AuditLine.objects.get(event_type="hold.reviewed").actor == "ada"


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"seconds": "1", "amount": "1", "reason": "x"}, "Say either the billed seconds or the amount."),
        ({"seconds": "", "amount": "", "reason": "x"}, "Say either the billed seconds or the amount."),
        ({"seconds": "1", "amount": "", "reason": ""}, "This field is required."),
        ({"seconds": "-1", "amount": "", "reason": "x"}, "greater than or equal to 0"),
    ],
)
def test_a_review_that_says_nothing_true_is_told_so(client, superuser, flagged, form, says):
    answer = client.post(of("hold_settle_as", flagged.pk), form)

    assert (answer.status_code, says in answer.content.decode()) == (200, True)
    assert Hold.objects.get().needs_a_look


def test_a_settled_hold_is_adjusted(client, superuser):
    held = hold(TeamFactory(), 4).hold
    settle(held, 1)
    client.get(of("hold_adjust", held.pk))

    client.post(of("hold_adjust", held.pk), {"amount": "-0.25", "reason": "a credit note"})
    refused = client.post(of("hold_adjust", held.pk), {"amount": "-9", "reason": "too much"})

    assert Hold.objects.get().charge == 750_000
    assert "no more than that can be given back" in refused.content.decode()


def test_a_team_is_adjusted_beside_its_holds(client, superuser):
    team = TeamFactory()
    client.get(of("ledgerline_adjust_team"))

    answer = client.post(of("ledgerline_adjust_team"), {"team": team.pk, "amount": "1.5", "reason": "a seat at the provider"})

    line = LedgerLine.objects.get()
    assert (answer.url, line.team, line.amount, line.made_by_id) == (of("ledgerline_change", line.pk), team, 1_500_000, superuser.pk)


# --- Invoices ---------------------------------------------------------------------------------------------


def test_an_invoice_is_uploaded_and_compared(client, superuser):
    ran("abc", 1)
    client.get(of("invoice_import_invoice"))

    answer = client.post(
        of("invoice_import_invoice"), {"file": file_of(HEAD + row("abc", 1.25)), "account": ACCOUNT, "name": "2026-11"}, follow=True
    )

    invoice = Invoice.objects.get()
    assert answer.redirect_chain == [(of("invoice_report", invoice.pk), 302)]
    page = answer.content.decode()
    assert ["$0.25" in page, "Adjust to the invoice" in page, "abc" in page] == [True, True, True]
    assert (invoice.imported_by, AuditLine.objects.get(event_type="invoice.imported").actor) == (superuser, "ada")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"file": HEAD + "abc,,,1;5,2026-11-23\n"}, "Line 2: the amount &#x27;1;5&#x27; is none like"),
        ({"columns": "amount"}, "names no column; write it like"),
        ({"columns": "amount = Total"}, "names no column for the &#x27;Total&#x27;"),
        ({"file": ""}, "The submitted file is empty."),
        ({"account": ""}, "This field is required."),
    ],
)
def test_an_upload_that_cannot_be_read_says_why_and_leaves_nothing(client, superuser, changed, says):
    form = {"file": HEAD + row("abc", 1), "account": ACCOUNT, "name": "2026-11", **changed}

    answer = client.post(of("invoice_import_invoice"), form | {"file": file_of(form["file"])})

    assert (answer.status_code, says in answer.content.decode()) == (200, True)
    assert Invoice.objects.count() == 0


def test_one_click_adjusts_to_the_invoice_and_a_second_one_changes_nothing(client, superuser):
    held = ran("abc", 1)
    invoice = taken(HEAD + row("abc", 1.25))

    first = client.post(of("invoice_report", invoice.pk), {"hold": held.pk}, follow=True)
    second = client.post(of("invoice_report", invoice.pk), {"hold": held.pk}, follow=True)

    line = LedgerLine.objects.get(kind="adjust")
    assert (line.amount, line.reason, line.made_by_id) == (250_000, "invoice 2026-11", superuser.pk)
    assert "nothing is missing" in first.content.decode()
    assert [str(message) for message in second.context["messages"]] == ["An adjustment of $0.00 changes nothing."]


@pytest.mark.parametrize("hold", ["", "x", "0", "99999999999999999999"])
def test_what_is_no_hold_is_not_adjusted(client, superuser, hold):
    invoice = taken(HEAD + row("abc", 1.25))

    assert client.post(of("invoice_report", invoice.pk), {"hold": hold}).status_code == 404


def test_the_comparison_is_a_file(client, staff):
    ran("abc", 1)
    invoice = taken(HEAD + row("abc", 1.25))

    answer = client.get(of("invoice_report_csv", invoice.pk))

    assert b"different,abc,2,0,1.250000," in b"".join(answer.streaming_content)
    assert client.get(of("invoice_report_csv", invoice.pk + 1)).status_code == 404


def test_staff_without_more_look_at_all_and_change_nothing(client, staff, flagged):
    held = ran("abc", 1)
    invoice = taken(HEAD + row("abc", 1.25))

    page = client.get(of("invoice_report", invoice.pk)).content.decode()
    answers = [
        client.post(of("invoice_report", invoice.pk), {"hold": held.pk}),
        client.post(of("invoice_import_invoice"), {"file": file_of(HEAD), "account": "x", "name": "x"}),
        client.post(of("hold_settle_as", flagged.pk), {"seconds": "1", "reason": "x"}),
        client.post(of("hold_adjust", held.pk), {"amount": "1", "reason": "x"}),
        client.post(of("ledgerline_adjust_team"), {"team": held.team_id, "amount": "1", "reason": "x"}),
    ]

    assert "$0.25" in page
    assert "Adjust to the invoice" not in page
    assert [answer.status_code for answer in answers] == [403] * 5
    assert LedgerLine.objects.filter(kind="adjust").count() == 0
