from django.core.management.base import BaseCommand, CommandError

from accounts import audit, exports, trail
from accounts.chain import Verification
from accounts.models import AuditHead, Team


class Command(BaseCommand):
    help = (
        "Verifies the hash chains of the audit trail and names the first broken line of each. Exit 1 if any is broken. "
        "With --file it checks an export, and needs no database."
    )

    def add_arguments(self, parser):
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--team", help="The slug of the only team to verify.")
        which.add_argument("--platform", action="store_true", help="Verify the platform's own chain only.")
        which.add_argument("--file", help="An export (.jsonl or .csv) to check away from the database.")

    def handle(self, *args, **options):
        if options["file"]:
            found = {options["file"]: self._check(options["file"])}
        else:
            found = {trail.name_of(team): audit.verify(team) for team in self._teams(options)}
        for name, verification in found.items():
            self._say(name, verification)
        broken = sum(not verification.valid for verification in found.values())
        if broken:
            raise CommandError(f"{broken} of {len(found)} chains are broken.")

    def _teams(self, options):
        if options["platform"]:
            return [None]
        if options["team"]:
            team = Team.objects.filter(slug=options["team"]).first()
            if team is None:
                raise CommandError(f"There is no team {options['team']!r}.")
            return [team]
        # A chain that somebody emptied has no lines, but an end.
        return [head.team for head in AuditHead.objects.select_related("team").order_by("team__slug")]

    def _check(self, path: str) -> Verification:
        form = "csv" if path.lower().endswith(".csv") else "jsonl"
        try:
            with open(path, encoding="utf-8", newline="") as file:
                return exports.check(exports.read(file, form))
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{path} cannot be read: {error}") from error
        except exports.NotAnExport as error:
            raise CommandError(f"{path}: {error}") from error

    def _say(self, name: str, verification: Verification) -> None:
        state = "intact" if verification.valid else "broken"
        self.stdout.write(f"{name}: {verification.checked} lines, {state}")
        if verification.valid:
            self.stdout.write(f"  ends with line {verification.ends.sequence}, {verification.ends.hash}")
            return
        line, reason = verification.broken[0]
        self.stdout.write(f"  line {line}: {reason}")
        if len(verification.broken) > 1:
            self.stdout.write(f"  and {len(verification.broken) - 1} more places")
