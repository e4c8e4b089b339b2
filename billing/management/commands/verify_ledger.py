from django.core.management.base import BaseCommand, CommandError

from accounts import exports
from accounts.models import Team
from billing import proving, totals
from billing.exports import LEDGER, check
from billing.prices import dollars


class Command(BaseCommand):
    help = (
        "Verifies the hash chain of each team's ledger, that the lines of every hold add up, and that the stored totals are their sums. "
        "With FILE it checks an export, and needs no database. Exit 1 if anything is wrong."
    )

    def add_arguments(self, parser):
        parser.add_argument("file", nargs="?", metavar="FILE", help="An export (.jsonl or .csv) to check away from the database.")
        parser.add_argument("--team", help="The slug of the only team to verify; the totals of limits are left out then.")

    def handle(self, *args, **options):
        if options["file"] and options["team"]:
            raise CommandError("A file is checked by itself: leave --team out.")
        problems = self._file(options["file"]) if options["file"] else self._database(options["team"])
        if problems:
            raise CommandError(f"The ledger has {problems} problems.")

    def _file(self, path: str) -> int:
        form = "csv" if path.lower().endswith(".csv") else "jsonl"
        try:
            with open(path, encoding="utf-8", newline="") as file:
                proof = check(exports.read(file, form, LEDGER))
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{path} cannot be read: {error}") from error
        except exports.NotAnExport as error:
            raise CommandError(f"{path}: {error}") from error
        found = proof.verification
        problems = [f"line {line}: {reason}" for line, reason in found.broken]
        problems += [f"hold {hold}: {reason}" for hold, reason in proof.unbalanced]
        self._say(path, found.checked, problems)
        if not problems:
            self.stdout.write(f"  ends with line {found.ends.sequence}, {found.ends.hash}")
            self.stdout.write(f"  {dollars(proof.charged)} charged, {dollars(proof.held)} held")
        return len(problems)

    def _database(self, slug: str | None) -> int:
        teams = Team.objects.filter(slug=slug) if slug else Team.objects.all()
        if slug and not teams:
            raise CommandError(f"There is no team {slug!r}.")
        count = 0
        for team in teams.order_by("slug"):
            proof = proving.prove(team)
            count += len(proof.problems)
            self._say(team.slug, proof.verification.checked, proof.problems)
        differing = [] if slug else totals.differences_of_limits()
        for difference in differing:
            self.stdout.write(str(difference))
        return count + len(differing)

    def _say(self, name: str, checked: int, problems: list[str]) -> None:
        self.stdout.write(f"{name}: {checked} lines, {'broken' if problems else 'intact'}")
        for problem in problems:
            self.stdout.write(f"  {problem}")
