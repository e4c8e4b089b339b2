"""An invoice of the provider's beside the ledger: what is the same, what differs and by how much, and putting it right.

Everything is worked out from rows each time that somebody asks, so that it is true after an adjustment as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from itertools import islice
from typing import Any

from django.contrib.postgres.aggregates import ArrayAgg
from django.db import models, transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Sum
from django.utils.translation import gettext_lazy as _

from accounts.exports import csv_row, harmless
from accounts.models import Credential, CredentialKind, User
from billing import reviews, services
from billing.models import Hold, Invoice, InvoiceLine
from billing.prices import as_number

BATCH = 500
# How many differences a page shows; the file has them all.
MOST_SHOWN = 200
COLUMNS = (
    *("finding", "provider_reference", "lines", "same_lines", "invoiced_usd", "on_other_invoices_usd", "charged_usd", "difference_usd"),
    *("team", "reference", "flag"),
)


class Kind(models.TextChoices):
    EQUAL = "equal", _("equal")
    DIFFERENT = "different", _("different")
    ONLY_INVOICE = "only_on_invoice", _("only on the invoice")
    ONLY_LEDGER = "only_in_ledger", _("only in the ledger")
    NOT_SETTLED = "not_settled", _("not settled yet")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One run of the provider's, as the invoice and the ledger have it. Money is micro-dollars."""

    provider_reference: str
    hold: Hold | None
    invoiced: int = 0
    # What other invoices of the account ask for the same run.
    elsewhere: int = 0
    rows: list[int] = field(default_factory=list)
    # How many of its lines are the same as one before them.
    doubled: int = 0

    @property
    def kind(self) -> Kind:
        if self.hold is None:
            return Kind.ONLY_INVOICE
        if not self.rows:
            return Kind.ONLY_LEDGER
        if self.hold.charge is None:
            return Kind.NOT_SETTLED
        return Kind.DIFFERENT if self.difference else Kind.EQUAL

    @property
    def charged(self) -> int:
        return (self.hold.charge or 0) if self.hold else 0

    @property
    def difference(self) -> int:
        """How much more the provider asks for than we charged."""
        return self.invoiced + self.elsewhere - self.charged

    @property
    def can_be_adjusted(self) -> bool:
        return self.kind in (Kind.DIFFERENT, Kind.ONLY_LEDGER)


@dataclass
class Sums:
    """How many runs there are of one kind, and what they add up to in micro-dollars."""

    count: int = 0
    invoiced: int = 0
    charged: int = 0
    difference: int = 0

    def add(self, finding: Finding) -> None:
        self.count += 1
        self.invoiced += finding.invoiced
        self.charged += finding.charged
        self.difference += finding.difference


@dataclass
class Report:
    """An invoice beside the ledger. `shown` are the first of all that are not equal."""

    invoice: Invoice
    by_kind: dict[Kind, Sums]
    all: Sums
    shown: list[Finding]
    doubled_lines: int
    repeated_lines: int

    @property
    def rows(self) -> list[tuple[Any, Sums]]:
        """The sums by what was found, and of all."""
        return [*((kind.label, sums) for kind, sums in self.by_kind.items()), (_("all"), self.all)]

    @property
    def unshown(self) -> int:
        return self.all.count - self.by_kind[Kind.EQUAL].count - len(self.shown)


def report(invoice: Invoice) -> Report:
    """Every run of the invoice and of the ledger in its time, counted and summed by what was found."""
    by_kind, whole, doubled = {kind: Sums() for kind in Kind}, Sums(), 0
    shown: list[Finding] = []
    for finding in findings(invoice):
        by_kind[finding.kind].add(finding)
        whole.add(finding)
        doubled += finding.doubled
        if finding.kind != Kind.EQUAL and len(shown) < MOST_SHOWN:
            shown.append(finding)
    repeated = invoice.lines.exclude(repeats=None).count()
    return Report(invoice=invoice, by_kind=by_kind, all=whole, shown=shown, doubled_lines=doubled, repeated_lines=repeated)


def findings(invoice: Invoice) -> Iterator[Finding]:
    """Each run: those of the invoice by the provider's name for them, then those that only the ledger has."""
    grouped = (
        invoice.lines.counted()
        .values("provider_reference")
        .annotate(invoiced=Sum("amount"), rows=ArrayAgg("row", order_by="row"), doubled=Count("pk", filter=Q(nth__gt=1)))
        .order_by("provider_reference")
        .iterator(chunk_size=BATCH)
    )
    while some := list(islice(grouped, BATCH)):
        yield from _matched(invoice, some)
    for hold in _unbilled(invoice).iterator(chunk_size=BATCH):
        yield Finding(provider_reference=hold.provider_reference, hold=hold)


def _matched(invoice: Invoice, groups: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    names = [group["provider_reference"] for group in groups]
    holds = {hold.provider_reference: hold for hold in _charged().filter(provider_reference__in=names)}
    others = InvoiceLine.objects.counted().filter(invoice__account=invoice.account, provider_reference__in=names).exclude(invoice=invoice)
    elsewhere = dict(others.values_list("provider_reference").annotate(Sum("amount")).order_by())
    for group in groups:
        name = group["provider_reference"]
        yield Finding(
            provider_reference=name, hold=holds.get(name), invoiced=group["invoiced"], elsewhere=elsewhere.get(name, 0),
            rows=group["rows"], doubled=group["doubled"],
        )  # fmt: skip


def _charged() -> QuerySet[Hold]:
    return Hold.objects.filter(is_rehearsal=False).select_related("team")


def _unbilled(invoice: Invoice) -> QuerySet[Hold]:
    """What the account's teams were charged for in the invoice's days, and that stands on no invoice of the account.

    A hold of which nobody knows who paid counts if its team works with a token of the account.
    """
    begins = datetime.combine(invoice.first_on, time.min, tzinfo=UTC)
    ends = datetime.combine(invoice.last_on + timedelta(days=1), time.min, tzinfo=UTC)
    tokens = Credential.objects.filter(kind=CredentialKind.REPLICATE, account_username=invoice.account, team__isnull=False)
    theirs = Q(provider_account=invoice.account) | Q(provider_account="", team__in=tokens.values("team"))
    billed = InvoiceLine.objects.filter(invoice__account=invoice.account, provider_reference=OuterRef("provider_reference"))
    charged = _charged().filter(theirs, charge__gt=0, settled_at__gte=begins, settled_at__lt=ends)
    return charged.filter(Q(provider_reference="") | ~Exists(billed)).order_by("settled_at", "pk")


def adjust(invoice: Invoice, hold: Hold, *, by: User | None, address: str = "", now: datetime) -> Hold:
    """Make a hold cost what the invoices of the account ask for it, by an adjustment; a review that waits is closed with it.

    Raises NothingToAdjust where it costs that already, or is not settled.
    """
    reason = f"invoice {invoice.name}"
    with transaction.atomic():
        hold = services.locked_hold(hold)
        lines = InvoiceLine.objects.counted().filter(invoice__account=invoice.account, provider_reference=hold.provider_reference)
        invoiced = (lines.aggregate(sum=Sum("amount"))["sum"] or 0) if hold.provider_reference else 0
        if hold.needs_a_look:
            return reviews.settle_as(hold, amount=invoiced, reason=reason, by=by, address=address, now=now)
        services.adjust(hold=hold, amount=invoiced - (hold.charge or 0), reason=reason, by=by, address=address, now=now)
    hold.refresh_from_db()
    return hold


def as_csv(invoice: Invoice) -> Iterator[bytes]:
    """The whole report as a file, piece by piece; amounts exact and in US dollars."""
    yield csv_row(COLUMNS)
    for found in findings(invoice):
        hold = found.hold
        money = [f"{as_number(micros):f}" for micros in (found.invoiced, found.elsewhere, found.charged, found.difference)]
        lines = " ".join(map(str, found.rows))
        ours = [hold.team.slug, hold.reference, hold.flag] if hold else ["", "", ""]
        yield csv_row([found.kind.value, harmless(found.provider_reference), lines, found.doubled, *money, *map(harmless, ours)])
