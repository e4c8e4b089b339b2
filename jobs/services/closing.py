"""Archiving a team, which waits until its jobs are over: they cost money and bring results that somebody must see."""

from django.db import transaction

from accounts import teams
from accounts.callers import Caller
from accounts.errors import Conflict
from accounts.models import Team
from jobs.models import Job


class TeamInUse(Conflict):
    """The team has jobs that are not over."""

    code = "team_in_use"


def archive(caller: Caller, *, name: str) -> None:
    """Archive the caller's team; `name` is its name, typed as a confirmation.

    A job that is submitted in the same moment waits in the queue, which is held from then on, until staff open the team again.

    Raises TeamInUse, NotPermitted, InvalidInput.
    """
    with transaction.atomic():
        team = Team.objects.select_for_update(no_key=True).get(pk=caller.team.pk)
        active = Job.objects.filter(team=team).active().count()
        if active:
            raise TeamInUse(
                f"{active} {'job is' if active == 1 else 'jobs are'} not over yet.", hint="Cancel them, or wait until they have ended."
            )
        teams.archive(caller, name=name)
