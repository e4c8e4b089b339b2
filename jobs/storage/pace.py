"""How often the storage endpoint may be asked: readers and strangers by the team's setting, a job's own key far more often.

Source: simpletuner-api.md 1.6.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.http import HttpRequest
from django.utils import timezone
from rest_framework.exceptions import APIException

from accounts import pacing
from accounts.callers import Caller
from accounts.errors import Refusal
from accounts.models import Team
from accounts.pacing import Pace, TooManyRequests
from jobs.models import ProviderSettings, StorageKey
from jobs.storage import signatures
from jobs.storage.errors import SlowDown

# A trainer that reads a dataset asks for thousands of small files by many threads at once, and a job that is cut off has
# cost money for nothing: the pace of a job's own key only stops what has gone mad.
OWN_KEY_FACTOR = 1_000


@contextmanager
def counting_strangers(request: HttpRequest, *, team: Team | None = None) -> Iterator[None]:
    """Let nobody try forever: a request that is refused inside counts by its address, and by the pace of `team` where it is known.

    Raises SlowDown or TooManyRequests in place of the refusal.
    """
    try:
        yield
    except (Refusal, APIException):
        _spend(request, pacing.stranger(request), team=team)
        raise


def count_key(request: HttpRequest, pair: StorageKey) -> None:
    """Count a request with a job's own key pair, which was shown to be its holder's. Raises SlowDown, TooManyRequests."""
    _spend(request, f"key:{pair.pk}", team=pair.job.team, factor=OWN_KEY_FACTOR)


def count_reader(request: HttpRequest, caller: Caller) -> None:
    """Count a member or an API token that reads results. Raises TooManyRequests."""
    who = f"token:{caller.token.pk}" if caller.token else f"user:{caller.user.pk}"
    _spend(request, who, team=caller.team, caller=lambda: caller)


def _spend(request: HttpRequest, who: str, *, team: Team | None, factor: int = 1, caller: Callable[[], Caller] | None = None) -> None:
    if not pacing.is_on():
        return
    own = getattr(team, "provider_settings", None) or ProviderSettings()
    pace = Pace(own.s3_rate_limit_max * factor, own.s3_rate_limit_window)
    key = f"storage {team.pk if team else ''} {who}"
    try:
        pacing.spend(request, key, pace, now=timezone.now(), what="storage", team=team, caller=caller)
    except TooManyRequests as refusal:
        if signatures.is_signed(request):
            raise SlowDown("Too many requests. Please try again later.", details=refusal.details) from refusal
        raise
