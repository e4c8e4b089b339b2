"""What a team has done on the way to its first job: a token, a dataset, the job."""

from dataclasses import dataclass
from datetime import datetime

from accounts.callers import Caller
from jobs.services import troubles
from jobs.services.troubles import Trouble


@dataclass(frozen=True, kw_only=True)
class FirstSteps:
    """`trouble` is what stands in the way of the token's step: none is saved, or the provider refuses it."""

    trouble: Trouble | None
    has_dataset: bool

    @property
    def has_token(self) -> bool:
        return self.trouble is None


def of(caller: Caller, *, now: datetime) -> FirstSteps:
    """How far the caller's team has come."""
    datasets = caller.team.datasets.filter(removed_at=None, versions__image_count__gt=0)
    return FirstSteps(trouble=troubles.of_team(caller, now=now), has_dataset=datasets.exists())
