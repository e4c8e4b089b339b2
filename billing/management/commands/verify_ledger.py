from django.core.management.base import BaseCommand, CommandError

from accounts.models import Team
from billing import ledger


class Command(BaseCommand):
    help = "Verifies the hash chain of each team's ledger, and that the lines of every hold add up. Exit 1 if anything is wrong."

    def add_arguments(self, parser):
        parser.add_argument("--team", help="The slug of the only team to verify.")

    def handle(self, *args, **options):
        teams = Team.objects.filter(slug=options["team"]) if options["team"] else Team.objects.all()
        if options["team"] and not teams:
            raise CommandError(f"There is no team {options['team']!r}.")
        problems = 0
        for team in teams.order_by("slug"):
            verification = ledger.verify(team)
            broken = [f"line {key}: {reason}" for key, reason in verification.broken]
            broken += [f"hold {key}: {reason}" for key, reason in ledger.unbalanced_holds(team)]
            problems += len(broken)
            self.stdout.write(f"{team.slug}: {verification.checked} lines, {'broken' if broken else 'intact'}")
            for problem in broken:
                self.stdout.write(f"  {problem}")
        if problems:
            raise CommandError(f"The ledger has {problems} problems.")
