"""Taking the provider's invoices in: each file once, each line once, all of it or nothing."""

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from itertools import islice
from typing import IO

import structlog
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit
from accounts.errors import Conflict, InvalidInput
from accounts.models import User
from billing import invoice_files
from billing.invoice_files import InvoiceRow
from billing.models import Invoice, InvoiceLine
from billing.prices import dollars

log = structlog.get_logger(__name__)

BATCH = 1000
PIECE_BYTES = 256 * 1024


class InvoiceKnown(Conflict):
    """The same file, or another one under the same name, was imported before."""


def import_invoice(
    file: IO[bytes],
    *,
    account: str,
    name: str,
    by: User | None,
    address: str = "",
    columns: Mapping[str, str] | None = None,
    first_on: date | None = None,
    last_on: date | None = None,
) -> Invoice:
    """Take an invoice of an account at the provider in, whole. Audited.

    `file` can be read twice. The days that it speaks of are those of its rows unless they are given, which matters for the
    runs that it leaves out. A row that an earlier invoice of the account has as well is kept and not counted again.

    Raises InvoiceKnown, UnreadableInvoice, InvalidInput.
    """
    account, name = account.strip(), name.strip()
    if not account or len(account) > 200:
        raise InvalidInput("Name the account at the provider, as its tokens do.", field="account")
    if not name or len(name) > 100:
        raise InvalidInput("Give the invoice a name of 1 to 100 characters, for example 2026-11.", field="name")
    sha256 = _sha256_of(file)
    if known := Invoice.objects.filter(sha256=sha256).first():
        raise InvoiceKnown(f"This file was imported before, as {known}.", field="file")
    if Invoice.objects.filter(account=account, name=name).exists():
        raise InvoiceKnown(f"There is an invoice {name} of {account}, from another file.", hint="Give this one another name.", field="name")
    try:
        with transaction.atomic():
            invoice = _take_in(file, account=account, name=name, sha256=sha256, by=by, columns=columns, first_on=first_on, last_on=last_on)
            audit.record(
                team=None, event_type="invoice.imported", action=f"Imported the invoice {invoice}, {dollars(invoice.total)}", by=by,
                address=address, target_type="invoice", target_id=str(invoice.pk), after={"sha256": sha256, "total": invoice.total},
            )  # fmt: skip
    except IntegrityError as error:
        raise InvoiceKnown("The same lines were imported at the same time by somebody else. Try again.", field="file") from error
    log.info("invoice.imported", account=account, name=name, total=invoice.total)
    return invoice


def named_columns(text: str) -> dict[str, str]:
    """Columns as people name them, one to a line: `amount = Line total`. Raises InvalidInput."""
    named = {}
    for line in filter(None, map(str.strip, re.split(r"[\r\n]+", text))):
        thing, sign, column = (part.strip() for part in line.partition("="))
        if not (thing and sign and column):
            raise InvalidInput(f"{line!r} names no column; write it like: amount = Line total", field="columns")
        named[thing] = column
    return named


def _sha256_of(file: IO[bytes]) -> str:
    sha256 = hashlib.sha256()
    file.seek(0)
    while piece := file.read(PIECE_BYTES):
        sha256.update(piece)
    return sha256.hexdigest()


def _take_in(
    file: IO[bytes],
    *,
    account: str,
    name: str,
    sha256: str,
    by: User | None,
    columns: Mapping[str, str] | None,
    first_on: date | None,
    last_on: date | None,
) -> Invoice:
    invoice = Invoice.objects.create(
        account=account, name=name, sha256=sha256, first_on=date.max, last_on=date.min, total=0, imported_at=timezone.now(), imported_by=by
    )
    total, days, seen = 0, (date.max, date.min), Counter[str]()
    found = _rows_of(file, columns)
    while rows := list(islice(found, BATCH)):
        total += sum(row.amount for row in rows)
        days = min(days[0], *(row.billed_on for row in rows)), max(days[1], *(row.billed_on for row in rows))
        _keep(invoice, rows, seen)
    invoice.total, invoice.first_on, invoice.last_on = total, first_on or days[0], last_on or days[1]
    if invoice.first_on > invoice.last_on:
        raise InvalidInput(f"The invoice would end on {invoice.last_on}, before it begins on {invoice.first_on}.", field="last_on")
    invoice.save(update_fields=["total", "first_on", "last_on"])
    return invoice


def _rows_of(file: IO[bytes], columns: Mapping[str, str] | None) -> Iterator[InvoiceRow]:
    file.seek(0)
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        yield from invoice_files.read(text, columns=columns)
    finally:
        # The file is its opener's to close.
        text.detach()


def _keep(invoice: Invoice, rows: list[InvoiceRow], seen: Counter[str]) -> None:
    lines = []
    for row in rows:
        digest = _digest(invoice.account, row)
        seen[digest] += 1
        lines.append(
            InvoiceLine(
                invoice=invoice, row=row.row, provider_reference=row.provider_reference, billed_on=row.billed_on, hardware=row.hardware,
                seconds=row.seconds, amount=row.amount, digest=digest, nth=seen[digest],
            )
        )  # fmt: skip
    before = InvoiceLine.objects.counted().filter(digest__in={line.digest for line in lines}).exclude(invoice=invoice)
    known = {(line.digest, line.nth): line for line in before}
    for line in lines:
        line.repeats = known.get((line.digest, line.nth))
    InvoiceLine.objects.bulk_create(lines)


def _digest(account: str, row: InvoiceRow) -> str:
    """What makes two lines of an account one."""
    said = [account, row.provider_reference, str(row.billed_on), row.amount, str(row.seconds), row.hardware]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
