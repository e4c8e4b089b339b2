"""Runs that carry the mark of one of our jobs without being the job's: found, cancelled and booked, so that nothing is paid in silence.

That happens where a job was ended while its run was created after all: a call that was certain to have done nothing had
not, or a search found nothing where there was something. Two runs of one job cannot happen; should they, it is the same.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Min, Q, QuerySet
from django.utils import timezone

from accounts import audit
from accounts.models import Credential, Team
from billing import reviews
from billing import services as billing
from billing.models import Hold
from billing.prices import dollars
from jobs import tasks
from jobs.models import AccountWatch, Job, LaunchIntent, StrayRun
from jobs.models.job import IntentOutcome
from jobs.replicate import inputs
from jobs.replicate.gateway import NotFound, ReplicateError
from jobs.replicate.predictions import Prediction
from jobs.services import ending, provider
from jobs.states import TERMINAL

log = structlog.get_logger(__name__)

LOOKED_EVERY = timedelta(minutes=5)
# No run is older than a day, and an hour later its mark is gone.
LOOKED_FOR = timedelta(hours=25)
TRY_AGAIN_AFTER = timedelta(seconds=30)
ENDS_WITHIN = timedelta(seconds=5)
UNCLEAR = "A second run was found at the provider, and what it cost cannot be told."


def look_since(*, team: Team, credential: Credential, now: datetime) -> datetime | None:
    """From when on the account's list is to be read for runs of jobs that ended without one; None if there is nothing to look for now."""
    if AccountWatch.objects.filter(team=team, credential=credential, listed_at__gt=now - LOOKED_EVERY).exists():
        return None
    mine = _doubtful(now).filter(job__team=team, job__credential=credential)
    found: datetime | None = mine.aggregate(first=Min("first_call_at"))["first"]
    return found


def ring_due(*, now: datetime) -> None:
    """Have the accounts looked at in which a run may be of a job that ended without one."""
    resting = Q(listed_at__gt=now - LOOKED_EVERY) | Q(try_after__gt=now)
    rested = set(AccountWatch.objects.filter(resting).values_list("team_id", "credential_id"))
    for team_pk, credential_pk in _doubtful(now).values_list("job__team", "job__credential").distinct():
        if (team_pk, credential_pk) not in rested:
            tasks.reconcile.delay(team_pk=team_pk, credential_pk=credential_pk, job_pks=[])


def _doubtful(now: datetime) -> QuerySet[LaunchIntent]:
    """Calls for jobs that are over and have no run, unless the provider said no to the call."""
    called = LaunchIntent.objects.filter(called_at__gt=now - LOOKED_FOR, job__prediction_id=None, job__state__in=TERMINAL)
    return called.filter(outcome__in=[IntentOutcome.OPEN, IntentOutcome.ABANDONED])


def note(team: Team, credential: Credential, listed: Iterable[Prediction], *, now: datetime) -> None:
    """Write down the runs in an account's list that carry the mark of a job of that account and are not the job's."""
    marked = {item.id: (item, named) for item in listed if (named := inputs.marker_of(item)) is not None}
    jobs = Job.objects.filter(job_id__in={named for _, named in marked.values()}).select_related("team", "credential")
    by_name = {job.job_id: job for job in jobs if _pays_for(job, team, credential)}
    known = set(StrayRun.objects.filter(prediction_id__in=marked).values_list("prediction_id", flat=True))
    for item, named in marked.values():
        if named in by_name and item.id not in known:
            note_one(by_name[named], item, now=now)


def note_one(job: Job, prediction: Prediction, *, now: datetime) -> StrayRun | None:
    """Write down one run that says it is this job's, if it is not; have it cancelled, and somebody told."""
    if not _is_marked(job, prediction):
        return None
    with transaction.atomic():
        job = Job.objects.locked(job.pk, "team", "credential", "hold")
        if job.prediction_id == prediction.id or (job.prediction_id is None and not job.is_terminal):
            return None  # its own, or one that the launcher is about to adopt
        stray, is_new = StrayRun.objects.get_or_create(
            prediction_id=prediction.id,
            defaults={"job": job, "credential": job.credential, "provider_status": prediction.status[:50], "found_at": now},
        )
        if not is_new:
            return stray
        why = "it has another run" if job.prediction_id else "it had ended without one"
        job.events.create(
            cause="poll", at=now, detail=f"A run of this job was found at Replicate although {why}: {prediction.id}. It is being cancelled."
        )
        audit.record(
            team=job.team,
            event_type="job.stray_run",
            action=f"Found a run of {job.job_id} at Replicate although {why}",
            target_type="job",
            target_id=job.job_id,
            after={"prediction": prediction.id, "status": prediction.status},
        )
        transaction.on_commit(lambda: tasks.end_stray.delay(stray_pk=stray.pk), robust=True)
    log.error("job.stray_run", team=job.team.slug, job=job.job_id, prediction=prediction.id, reason=why)
    return stray


def _pays_for(job: Job, team: Team, credential: Credential) -> bool:
    """Whether a run in this account may be the job's: the marks are readable, and others' accounts must not book on ours."""
    return job.team_id == team.pk and (credential.team_id == team.pk or job.credential_id == credential.pk)


def _is_marked(job: Job, prediction: Prediction) -> bool:
    """Whether we started it. Who runs a run of ours again by hand, on Replicate's pages, copies its settings with the mark."""
    if prediction.raw.get("source") == "web" or inputs.marker_of(prediction) != job.job_id:
        return False
    return not prediction.webhook or job.callback_key in prediction.webhook


def due(*, now: datetime) -> list[StrayRun]:
    """Those that are not settled yet, and whose time to be looked at has come."""
    waiting = Q(try_after=None) | Q(try_after__lte=now)
    return list(StrayRun.objects.filter(waiting, settled_at=None).order_by("found_at")[:100])


def end(stray: StrayRun) -> None:
    """Cancel the run and book what it cost once that is known. Safe to lose, to repeat and to be late."""
    now = timezone.now()
    mine = StrayRun.objects.filter(pk=stray.pk, settled_at=None)
    if not mine.filter(Q(try_after=None) | Q(try_after__lte=now)).update(try_after=now + TRY_AGAIN_AFTER):
        return
    job = stray.job
    try:
        with provider.gateway(team=job.team, credential=stray.credential) as replicate:
            said = replicate.prediction(stray.prediction_id)
            if not said.is_terminal:
                said = replicate.cancel(stray.prediction_id)
                mine.update(cancel_sent_at=now)
    except NotFound:
        _book(stray, None, now=now)
    except ReplicateError as error:
        log.warning("stray_run.not_cancelled", team=job.team.slug, job=job.job_id, reason=str(error))
        if now > stray.found_at + LOOKED_FOR:
            _book(stray, None, now=now)
    else:
        mine.update(provider_status=said.status[:50])
        if said.is_terminal:
            _book(stray, said, now=now)
        else:
            mine.update(try_after=now + ENDS_WITHIN)


def _book(stray: StrayRun, said: Prediction | None, *, now: datetime) -> None:
    """Charge what the run cost to the job's hold, by an adjustment; what cannot be told is flagged for review."""
    with transaction.atomic():
        job = Job.objects.locked(stray.job_id, "team", "hold", "price_line")
        if job.hold is not None and job.hold.settled_at is None:
            return  # the job's other run still goes on; the sweep comes again
        if not StrayRun.objects.filter(pk=stray.pk, settled_at=None).update(settled_at=now):
            return
        charge, doubt = ending.charge_for(job, said) if said is not None else (None, UNCLEAR)
        StrayRun.objects.filter(pk=stray.pk).update(charge=charge)
        if job.hold is not None:
            _charge(job, job.hold, charge, doubt, prediction_id=stray.prediction_id, now=now)
        cost = f"{dollars(charge)} is booked for it." if charge is not None and job.hold is not None else "What it cost must be looked at."
        job.events.create(cause="poll", at=now, detail=f"The stray run {stray.prediction_id} is over. {cost}")
    log.info("stray_run.ended", team=job.team.slug, job=job.job_id, prediction=stray.prediction_id, charge=charge)


def _charge(job: Job, hold: Hold, charge: int | None, doubt: str, *, prediction_id: str, now: datetime) -> None:
    reason = f"The provider ran {prediction_id} for {job.job_id}."
    is_charged_to_the_ceiling = job.prediction_id is None and hold.needs_a_look and (hold.charge or 0) > 0
    if charge is not None and not doubt and is_charged_to_the_ceiling:
        # It could not be told whether the job was run; now it can.
        reviews.settle_as(hold, amount=charge, reason=reason, by=None, now=now)
    elif charge and not is_charged_to_the_ceiling:
        billing.adjust(hold=hold, amount=charge, reason=reason, by=None, now=now)
    if doubt or charge is None:
        billing.flag(hold, why=doubt or UNCLEAR)
