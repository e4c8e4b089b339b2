from datetime import date
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from accounts.errors import Refusal
from billing import invoices, reconciling
from billing.models import Invoice
from billing.prices import dollars


class Command(BaseCommand):
    help = (
        "Imports an invoice of the provider (CSV with prediction id, amount in US dollars and date) and compares it with the ledger. "
        "Nothing is imported if a row of it cannot be read. Differences are no error."
    )

    def add_arguments(self, parser):
        parser.add_argument("file", metavar="FILE", help="The CSV file.")
        parser.add_argument("--account", required=True, help="The account at the provider, as its tokens name it.")
        parser.add_argument("--name", help="How adjustments refer to it; the file's name unless said.")
        parser.add_argument("--from", dest="first_on", type=date.fromisoformat, help="Its first day, unless that is its first row's.")
        parser.add_argument("--to", dest="last_on", type=date.fromisoformat, help="Its last day, unless that is its last row's.")
        parser.add_argument(
            "--column", action="append", default=[], metavar="THING=NAME",
            help="A column with a name of its own, like amount='Line total': provider_reference, amount, billed_on, seconds or hardware.",
        )  # fmt: skip
        parser.add_argument("--report", metavar="FILE", help="Where to write the whole comparison as CSV; - for the terminal.")

    def handle(self, *args, **options):
        path = Path(options["file"])
        try:
            with path.open("rb") as file:
                invoice = invoices.import_invoice(
                    file,
                    account=options["account"],
                    name=options["name"] or path.stem[:100],
                    by=None,
                    columns=invoices.named_columns("\n".join(options["column"])),
                    first_on=options["first_on"],
                    last_on=options["last_on"],
                )
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error}") from error
        except Refusal as refusal:
            raise CommandError("\n".join(filter(None, [*refusal.details.get("problems", [refusal.detail]), refusal.hint]))) from refusal
        self._say(invoice)
        if options["report"]:
            self._write(invoice, options["report"])

    def _say(self, invoice: Invoice) -> None:
        report = reconciling.report(invoice)
        self.stdout.write(f"{invoice}: {dollars(invoice.total)}, {invoice.first_on} to {invoice.last_on}")
        for kind, sums in report.by_kind.items():
            money = f"invoiced {dollars(sums.invoiced)}, charged {dollars(sums.charged)}, difference {dollars(sums.difference)}"
            self.stdout.write(f"  {kind.value}: {sums.count} runs, {money}")
        self.stdout.write(f"  doubled: {report.doubled_lines} lines; on earlier invoices: {report.repeated_lines} lines")

    def _write(self, invoice: Invoice, to: str) -> None:
        pieces = reconciling.as_csv(invoice)
        if to == "-":
            for piece in pieces:
                self.stdout.write(piece.decode(), ending="")
            return
        with open(to, "wb") as file:
            file.writelines(pieces)
