from django.core.management.base import BaseCommand, CommandError

from billing import totals


class Command(BaseCommand):
    help = "Compares the stored totals of teams and limit periods with the sums over the ledger's lines. Exit 1 if any differs."

    def add_arguments(self, parser):
        parser.add_argument("--write", action="store_true", help="Put the sums in place of stored totals that differ.")

    def handle(self, *args, **options):
        differences = totals.rebuild() if options["write"] else totals.differences()
        for difference in differences:
            self.stdout.write(str(difference))
        if not differences:
            self.stdout.write("All stored totals equal the sums over the ledger.")
        elif options["write"]:
            self.stdout.write(f"{len(differences)} stored totals were put right.")
        else:
            raise CommandError(f"{len(differences)} stored totals differ from the ledger. --write puts the sums in their place.")
