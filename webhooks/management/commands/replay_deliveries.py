"""`manage.py replay_deliveries`: have webhook deliveries applied again, for whoever operates the server."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import moments
from accounts.models import Team
from webhooks import replaying
from webhooks.inbox import Sought
from webhooks.models import REPLAYABLE, Delivery


class Command(BaseCommand):
    help = "Mark webhook deliveries to be applied again; what they say that is old news changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--team", default="", help="the team's slug (default: every team)")
        parser.add_argument("--since", default="", help="received from then on: a date or a time")
        parser.add_argument("--state", default="", choices=["", *REPLAYABLE], help="only those in this state")

    def handle(self, *, team: str, since: str, state: str, **_: Any) -> None:
        moment = moments.read(since) if since else None
        if since and moment is None:
            raise CommandError("--since must be a date or a time, like 2026-01-31 or 2026-01-31T12:00:00Z.")
        teams = Team.objects.filter(slug=team) if team else Team.objects.all()
        if team and not teams.exists():
            raise CommandError(f"There is no team {team}.")
        sought = Sought(state=state, since=moment)
        found = sought.among(Delivery.objects.all())
        marked = sum(replaying.replay_of_team(each, found, what=str(sought)) for each in teams)
        several = f"{marked} deliveries are marked, and the sweep applies them."
        self.stdout.write("1 delivery is marked, and the sweep applies it." if marked == 1 else several)
