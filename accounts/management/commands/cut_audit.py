from datetime import UTC, datetime, time, timedelta

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date

from accounts import retention, trail
from accounts.errors import Refusal
from accounts.models import AuditHead, Team


class Command(BaseCommand):
    help = (
        "Removes the oldest lines of the audit trail, leaving an anchor by which the rest can be verified. Without --before "
        "it removes what is older than TUNEHOUSE_AUDIT_RETENTION_DAYS. Exit 1 if a chain does not verify."
    )

    def add_arguments(self, parser):
        parser.add_argument("--before", help="A day (2026-01-31, UTC); older lines are removed.")
        parser.add_argument("--team", help="The slug of the only team whose chain is cut; 'platform' is the platform's. Default: all.")

    def handle(self, *args, **options):
        before = self._before(options["before"])
        refused = 0
        for team in self._teams(options["team"]):
            try:
                self.stdout.write(f"{trail.name_of(team)}: {retention.cut(team, before=before)} lines removed")
            except Refusal as refusal:
                refused += 1
                self.stderr.write(refusal.detail)
        if refused:
            raise CommandError(f"{refused} chains were left as they are.")

    def _before(self, given: str | None) -> datetime:
        now = timezone.now()
        if given:
            try:
                day = parse_date(given)
            except ValueError:
                day = None
            if day is None:
                raise CommandError(f"{given!r} is not a day. Write it like 2026-01-31.")
        elif settings.AUDIT_RETENTION_DAYS:
            day = (now - timedelta(days=settings.AUDIT_RETENTION_DAYS)).date()
        else:
            raise CommandError("Say --before DATE, or set TUNEHOUSE_AUDIT_RETENTION_DAYS.")
        before = datetime.combine(day, time.min, tzinfo=UTC)
        if before > now:
            raise CommandError(f"{given} is in the future.")
        return before

    def _teams(self, slug: str | None) -> list[Team | None]:
        if slug is None:
            return [head.team for head in AuditHead.objects.select_related("team").order_by("team__slug")]
        if slug == trail.name_of(None):
            return [None]
        team = Team.objects.filter(slug=slug).first()
        if team is None:
            raise CommandError(f"There is no team {slug!r}.")
        return [team]
