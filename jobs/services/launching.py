"""Bringing a job to the provider: pack, upload, write the intent down, create; after any doubt search, never guess.

Every step finds in the rows what was done before, so a worker that dies anywhere is followed by another that
goes on from there.
"""

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import Team
from jobs.models import Job, LaunchIntent
from jobs.models.job import IntentOutcome
from jobs.replicate import inputs
from jobs.replicate.gateway import CreditExhausted, Gateway, Rejected, ReplicateError, Unauthorized, Unavailable
from jobs.replicate.predictions import Prediction
from jobs.services import addresses, dataflow, ending, progress, provider, rehearsing
from jobs.services.leases import lease
from jobs.states import State, WaitingReason

log = structlog.get_logger(__name__)

# A pause before the next try when the provider named none.
PAUSE_SECONDS = 5
SEARCH_PAUSE_SECONDS = 10
LONGEST_PAUSE_SECONDS = 300
SUSPENDED_PAUSE_SECONDS = 30
# Clocks differ, and a list that begins too late would hide what we look for.
SEARCH_MARGIN = timedelta(minutes=5)
CLOCK_MARGIN = timedelta(minutes=1)
# After this, a run that may have existed has certainly ended and its data is gone.
GIVE_UP_AFTER = timedelta(hours=1)


def launch(job: Job) -> None:
    """Take one job as far as it goes now. Safe to call at any time, by any number of workers."""
    with lease(job) as ours:
        if not ours:
            return
        job.refresh_from_db()
        if job.state != State.UPLOADING or job.prediction_id:
            return
        is_in_doubt = _is_in_doubt(job)
        if not is_in_doubt and _is_suspended(job):
            _wait(job, WaitingReason.PAUSED, seconds=SUSPENDED_PAUSE_SECONDS)
            return
        if not is_in_doubt:
            provider.take_new_credential(job)
        try:
            # A search may end a doubt, and is paced anyway; everything else waits while the provider does not answer.
            with provider.gateway(team=job.team, credential=job.credential, is_urgent=is_in_doubt) as replicate:
                if is_in_doubt:
                    _search(job, replicate)
                else:
                    _send(job, replicate)
                    provider.note_acceptance(job.credential)
        except (dataflow.CannotSend, inputs.InputsImpossible) as error:
            ending.fail(job, error=str(error), cause="launch")
        except dataflow.DiskFull:
            _wait(job, WaitingReason.DISK_FULL, seconds=60)
        except (Unauthorized, CreditExhausted) as error:
            if _is_in_doubt(job) and _is_too_late(job, job.intent):
                ending.lose(job, cause="search")
            else:
                _wait(job, WaitingReason.NO_CREDIT if isinstance(error, CreditExhausted) else WaitingReason.CREDENTIAL, seconds=60)
        except Rejected as error:
            if _is_in_doubt(job):  # the search was refused, which says nothing about the job
                log.error("launch.search_refused", team=job.team.slug, job=job.job_id, reason=str(error))
                _wait(job, WaitingReason.UNCERTAIN, seconds=SEARCH_PAUSE_SECONDS)
            else:
                ending.fail(job, error=f"Replicate refused the job: {error}", cause="launch")
        except Unavailable as error:
            _wait_for_provider(job, error)
        except ReplicateError as error:
            log.warning("launch.unclear", team=job.team.slug, job=job.job_id, reason=str(error))
            _wait(job, WaitingReason.UNCERTAIN if _is_in_doubt(job) else WaitingReason.PROVIDER_DOWN, seconds=PAUSE_SECONDS)


def _is_in_doubt(job: Job) -> bool:
    """Whether a call was made whose end we do not know."""
    intent = LaunchIntent.objects.filter(job=job).first()
    return intent is not None and not intent.is_settled


def _is_suspended(job: Job) -> bool:
    """Whether the job's team is, as of now: what is not at the provider by then waits, and whatever may be is found and comes home."""
    return Team.objects.get(pk=job.team_id).is_suspended


def _send(job: Job, replicate: Gateway) -> None:
    """Prepare everything, commit the intent, and ask the provider once."""
    if job.is_rehearsal:
        rehearsing.introduce(job)
    prepared = dataflow.prepare(job, replicate)
    intent = _commit_intent(job, version=prepared.version)
    if intent is None or not _of_this_call(intent).filter(is_settled=False, given_up_at=None).exists():
        # Asked once more right before the call: whoever slept since the commit has been taken for dead.
        return
    try:
        prediction = replicate.create(
            version=prepared.version,
            input=prepared.input,
            webhook=addresses.webhook_url(job),
            events_filter=prepared.events,
            cancel_after_seconds=job.ceiling_seconds,
        )
    except (Unavailable, Rejected) as error:
        # Certainly nothing was created, so the next try need not search.
        outcome = IntentOutcome.REFUSED if isinstance(error, Rejected) else IntentOutcome.OPEN
        _of_this_call(intent).update(is_settled=True, outcome=outcome)
        raise
    except ReplicateError:
        _of_this_call(intent).update(given_up_at=timezone.now())
        raise
    _adopt(job, prediction, outcome=IntentOutcome.CREATED, cause="launch")
    # Known before the first webhook comes: of several that come at once only one could fetch it, and the others were refused.
    provider.signing_keys(team=job.team, credential=job.credential)


def _of_this_call(intent: LaunchIntent) -> QuerySet[LaunchIntent]:
    """The intent as long as it speaks of our own call: another worker's, made since, is not ours to settle."""
    return LaunchIntent.objects.filter(pk=intent.pk, called_at=intent.called_at)


def _commit_intent(job: Job, *, version: str) -> LaunchIntent | None:
    """Write down that a prediction may exist from now on.

    None if the job was cancelled, moved or found meanwhile, if its team was suspended, or if another worker's call is under
    way: ours slept through its lease then, and a second call could create a second prediction.
    """
    now = timezone.now()
    with transaction.atomic():
        row = Job.objects.select_for_update(no_key=True).get(pk=job.pk)
        if row.state != State.UPLOADING or row.cancel_requested_at or row.prediction_id or _is_suspended(row):
            return None
        intent, is_new = LaunchIntent.objects.get_or_create(job=job, defaults={"version": version, "first_call_at": now, "called_at": now})
        if not is_new and not intent.is_settled:
            return None
        if not is_new:
            intent.version, intent.called_at, intent.is_settled, intent.given_up_at = version, now, False, None
            intent.outcome = IntentOutcome.OPEN
            intent.save()
        Job.objects.filter(pk=job.pk).update(version=version, waiting_reason=WaitingReason.NONE)
    return intent


def _search(job: Job, replicate: Gateway) -> None:
    """Find out what became of a call: adopt what it created, or make sure that it created nothing."""
    now = timezone.now()
    intent = job.intent
    if intent.given_up_at is None:  # the worker died in mid-call, and its call with it
        intent.given_up_at = now
    intent.searches += 1
    intent.save(update_fields=["given_up_at", "searches"])

    found, is_obscured = _look_for(job, intent, replicate)
    if found:
        _adopt(job, found, outcome=IntentOutcome.ADOPTED, cause="search")
    elif is_obscured or _is_too_late(job, intent):
        ending.lose(job, cause="search")
    elif now - intent.given_up_at >= timedelta(seconds=settings.NOT_FOUND_AFTER_SECONDS):
        LaunchIntent.objects.filter(pk=intent.pk).update(is_settled=True)
        log.info("launch.not_found", team=job.team.slug, job=job.job_id, searches=intent.searches)
        _wait(job, WaitingReason.NONE, seconds=0)
    else:
        _wait(job, WaitingReason.UNCERTAIN, seconds=SEARCH_PAUSE_SECONDS)


def _is_too_late(job: Job, intent: LaunchIntent) -> bool:
    """Whether a run that the call may have made has ended and is forgotten, so that a search proves nothing any more."""
    return timezone.now() - intent.called_at > timedelta(seconds=job.ceiling_seconds) + GIVE_UP_AFTER


def _look_for(job: Job, intent: LaunchIntent, replicate: Gateway) -> tuple[Prediction | None, bool]:
    """Read the complete list since the intent. Returns our prediction, or None and whether one hides that may be ours.

    Once its data is removed a prediction shows no marker, so one of the same version that no job of ours owns may be
    ours, if it was made while our call was under way.
    """
    is_obscured = False
    begins = intent.first_call_at - CLOCK_MARGIN
    ends = (intent.given_up_at or timezone.now()) + timedelta(seconds=settings.NOT_FOUND_AFTER_SECONDS)
    for item in replicate.predictions(created_after=intent.first_call_at - SEARCH_MARGIN):
        if inputs.marker_of(item) == job.job_id:
            return item, False
        if item.version not in (intent.version, None) or Job.objects.filter(prediction_id=item.id).exists():
            continue
        if item.data_removed:
            is_obscured = is_obscured or item.created_at is None or begins <= item.created_at <= ends
        elif not item.input:  # a list may leave the input out; the prediction itself does not
            whole = replicate.prediction(item.id)
            if inputs.marker_of(whole) == job.job_id:
                return whole, False
    return None, is_obscured


def _adopt(job: Job, prediction: Prediction, *, outcome: IntentOutcome, cause: str) -> None:
    """Tie the job to its prediction. The intent is settled in the same transaction: settled alone would allow another call."""
    with transaction.atomic():
        Job.objects.select_for_update(no_key=True).get(pk=job.pk)  # before the intent, as everywhere
        LaunchIntent.objects.filter(job=job, outcome=IntentOutcome.OPEN).update(outcome=outcome, is_settled=True)
        progress.record(job, prediction, cause=cause)


def _wait_for_provider(job: Job, error: Unavailable) -> None:
    """The provider did nothing: say why, and try again when it asked us to, within reason."""
    is_busy = error.status == 429
    pause = min(error.retry_after or PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
    log.warning("launch.postponed", team=job.team.slug, job=job.job_id, reason=str(error), seconds=pause)
    _wait(job, WaitingReason.PROVIDER_BUSY if is_busy else WaitingReason.PROVIDER_DOWN, seconds=pause)


def _wait(job: Job, reason: WaitingReason, *, seconds: float) -> None:
    waiting = Job.objects.filter(pk=job.pk, state=State.UPLOADING)
    waiting.update(waiting_reason=reason, try_after=timezone.now() + timedelta(seconds=seconds))


def stranded(*, now: datetime) -> list[Job]:
    """The jobs that are to be launched and that nobody has in hand: their bell was lost, or it is time to try again."""
    return list(Job.objects.filter(state=State.UPLOADING, prediction_id=None).unleased(now=now).order_by("dispatched_at"))
