"""A circuit breaker for each credential and address: a provider that does not answer is left alone for a while.

It opens after five failures in a row, lets one call at a time be tried after a rest, and closes after two that were answered.
It never fails a job: whoever is not let through waits. Source: simpletuner-api.md, 13.
"""

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import Error
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from accounts import audit
from accounts.callers import Caller, Staff
from accounts.models import Credential, CredentialKind
from jobs.models import Breaker
from jobs.models.breakers import BreakerState
from jobs.outbound import Reason
from jobs.replicate.gateway import ReplicateError, Unavailable

log = structlog.get_logger(__name__)

FAILURES_TO_OPEN = 5
SUCCESSES_TO_CLOSE = 2
# A trial whose worker died is over after this.
TRIAL = timedelta(seconds=60)
# Where a call fails on the provider's side, and not at a proxy or by settings of our own.
ITS_FAULTS = frozenset({Reason.NAME, Reason.REFUSED, Reason.TLS, Reason.TIMEOUT, Reason.BROKEN, Reason.OTHER})


class Watcher:
    """Stands between a gateway and its calls; see `gateway.Watch`. An urgent one lets every call go, and still takes notes."""

    def __init__(self, credential: Credential, *, address: str, is_urgent: bool) -> None:
        self._credential = credential
        self._address = address
        self._is_urgent = is_urgent
        self._is_clean = False

    def before(self) -> None:
        """Raises Unavailable while the provider is left alone."""
        row = self._row().select_related("credential").first()
        self._is_clean = row is None or (row.state == BreakerState.CLOSED and not row.failures)
        if row is None or row.state == BreakerState.CLOSED or self._is_urgent:
            return
        now = timezone.now()
        if not _take_trial(row, now=now):
            raise Unavailable(
                f"Replicate did not answer {FAILURES_TO_OPEN} times in a row and is left alone for a while.",
                retry_after=row.seconds_left(now) or None,
            )

    def after(self, error: ReplicateError | None) -> None:
        """Count how a call ended. A healthy way costs no write, and what cannot be counted now is not."""
        try:
            if error is not None and is_its_fault(error):
                self._note_failure(error)
            elif error is None or error.status is not None:
                self._note_answer()
            else:
                self._row().update(trial_until=None)
        except Error as failure:
            log.warning("breaker.not_counted", address=self._address, reason=str(failure))

    def _row(self) -> "QuerySet[Breaker]":
        return Breaker.objects.filter(address=self._address, credential=self._credential)

    def _note_answer(self) -> None:
        if self._is_clean:
            return
        self._row().filter(state=BreakerState.CLOSED).update(failures=0)
        under_trial = self._row().exclude(state=BreakerState.CLOSED)
        under_trial.update(state=BreakerState.HALF_OPEN, successes=F("successes") + 1, trial_until=None)
        if under_trial.filter(successes__gte=SUCCESSES_TO_CLOSE).update(**_closed()):
            log.info("breaker.closed", address=self._address, credential=self._credential.pk)

    def _note_failure(self, error: ReplicateError) -> None:
        now = timezone.now()
        Breaker.objects.get_or_create(address=self._address, credential=self._credential)
        self._row().update(failures=F("failures") + 1, last_failure_at=now, last_failure=str(error)[:300], trial_until=None)
        too_many = Q(state=BreakerState.CLOSED, failures__gte=FAILURES_TO_OPEN)
        if self._row().filter(too_many | Q(state=BreakerState.HALF_OPEN)).update(state=BreakerState.OPEN, opened_at=now, successes=0):
            log.warning("breaker.opened", address=self._address, credential=self._credential.pk, reason=str(error))


def is_its_fault(error: ReplicateError) -> bool:
    """Whether a failure speaks of the provider: no answer, or one from 500 on; not its refusals, and not our own network's."""
    if error.trouble is not None:
        return error.trouble.reason in ITS_FAULTS
    return error.status is not None and error.status >= 500


def of_caller(caller: Caller) -> list[Breaker]:
    """The breaker of each credential that the caller's jobs may use; one that never failed is closed."""
    theirs = Q(team=caller.team, user=None) | Q(team=caller.team, user=caller.user)
    if settings.SHARE_INSTALLATION_CREDENTIALS:
        theirs |= Q(team=None)
    usable = Credential.objects.in_use().filter(theirs, kind__in=(CredentialKind.REPLICATE, CredentialKind.SANDBOX))
    known = {(row.credential_id, row.address): row for row in Breaker.objects.filter(credential__in=usable).select_related("credential")}
    ways = [(credential, address_of(credential)) for credential in usable.order_by("pk")]
    return [known.get((way.pk, at)) or Breaker(credential=way, address=at) for way, at in ways if at]


def address_of(credential: Credential) -> str:
    """Where a token belongs, whatever the job says of itself that uses it."""
    return str(settings.SANDBOX_URL if credential.kind == CredentialKind.SANDBOX else settings.REPLICATE_BASE_URL)


def close(breaker: Breaker, *, by: Staff) -> bool:
    """Let calls go out again at once; says whether it was anything but closed."""
    if not Breaker.objects.filter(pk=breaker.pk).exclude(state=BreakerState.CLOSED).update(**_closed()):
        return False
    audit.record(
        team=breaker.credential.team,
        event_type="breaker.closed",
        action=f"Closed the circuit breaker {breaker.name}",
        by=by.user,
        address=by.address,
        target_type="breaker",
        target_id=breaker.name,
        before={"state": breaker.state},
        after={"state": BreakerState.CLOSED.value},
    )
    return True


def _take_trial(row: Breaker, *, now: datetime) -> bool:
    """Take the one call that is tried at a time, if nobody has it."""
    same = Breaker.objects.filter(pk=row.pk)
    rested = same.filter(state=BreakerState.OPEN, opened_at__lte=now - row.rest)
    if rested.update(state=BreakerState.HALF_OPEN, successes=0, trial_until=now + TRIAL):
        return True
    free = same.filter(Q(trial_until=None) | Q(trial_until__lte=now), state=BreakerState.HALF_OPEN)
    # Closed meanwhile, it lets everybody through.
    return bool(free.update(trial_until=now + TRIAL)) or same.filter(state=BreakerState.CLOSED).exists()


def _closed() -> dict[str, object]:
    return {"state": BreakerState.CLOSED, "failures": 0, "successes": 0, "opened_at": None, "trial_until": None}
