"""How asking goes with one team's credential: after a failure both rest, longer each time, and nobody else waits for them."""

from datetime import datetime, timedelta

import structlog
from django.db.models import F

from accounts.models import Credential, Team
from jobs.models import AccountWatch
from jobs.replicate.gateway import ReplicateError, Unavailable

log = structlog.get_logger(__name__)

FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=2)
# What the provider asks for is kept to, within reason: jobs cost money that nobody sees meanwhile.
LONGEST_ASKED_FOR = timedelta(hours=1)


def resting_until(*, team: Team, credential: Credential, now: datetime) -> datetime | None:
    """Until when this credential is not to be asked with; None if it may be now."""
    watch = AccountWatch.objects.filter(team=team, credential=credential, try_after__gt=now).first()
    return watch.try_after if watch else None


def note_failure(*, team: Team, credential: Credential, error: ReplicateError, now: datetime) -> None:
    """Keep why it failed, and rest: as long as the provider asks for, else with doubling pauses."""
    watch, _ = AccountWatch.objects.get_or_create(team=team, credential=credential)
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(watch.failures, 10))
    if isinstance(error, Unavailable) and error.retry_after:
        pause = max(pause, min(LONGEST_ASKED_FOR, timedelta(seconds=error.retry_after)))
    AccountWatch.objects.filter(pk=watch.pk).update(
        failures=F("failures") + 1, error=str(error)[:500], failed_at=now, try_after=now + pause
    )
    log.warning("account.failed", team=team.slug, reason=str(error), seconds=pause.total_seconds())


def note_answer(*, team: Team, credential: Credential) -> None:
    """It answers again."""
    failed = AccountWatch.objects.filter(team=team, credential=credential, failures__gt=0)
    failed.update(failures=0, error="", try_after=None)


def note_list(*, team: Team, credential: Credential, now: datetime) -> None:
    """The list of its runs was read to its end."""
    AccountWatch.objects.update_or_create(team=team, credential=credential, defaults={"listed_at": now})
