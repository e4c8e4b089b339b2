"""How old a team lets its credentials become before its pages ask for new ones."""

from dataclasses import asdict, dataclass

from django.db import transaction

from accounts import audit
from accounts.callers import Caller
from accounts.models import Team
from accounts.roles import Right


@dataclass(frozen=True)
class Ages:
    """Days after which a credential is old, and from which percentage of them on a hint comes, if one shall come."""

    days: int
    warns_early: bool
    warning_percent: int


def of(team: Team) -> Ages:
    return Ages(team.credential_days, team.warns_of_old_credentials, team.credential_warning_percent)


def choose(caller: Caller, ages: Ages) -> Ages:
    """Keep them for the caller's team; days are 1 to 365, the percentage 1 to 99 (the database refuses others)."""
    caller.require(Right.MANAGE, permission="admin.config")
    with transaction.atomic():
        team = Team.objects.select_for_update(no_key=True).get(pk=caller.team.pk)
        before = of(team)
        if ages == before:
            return ages
        team.credential_days, team.warns_of_old_credentials, team.credential_warning_percent = (
            ages.days,
            ages.warns_early,
            ages.warning_percent,
        )
        team.save(update_fields=["credential_days", "warns_of_old_credentials", "credential_warning_percent"])
        audit.record(
            team=team, caller=caller, event_type="config.changed", action="Changed when credentials are old",
            target_type="team", target_id=str(team.pk), before=asdict(before), after=asdict(ages),
        )  # fmt: skip
    return ages
