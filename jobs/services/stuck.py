"""Jobs that do not get on, and why: found by the clock, since nobody tells of what does not happen."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cached_property

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.urls import reverse

from accounts import letters
from accounts.models import CredentialHealth, Membership
from jobs.models import Job, JobProgress
from jobs.services import apart
from jobs.states import LAUNCHED, State, WaitingReason

log = structlog.get_logger(__name__)

# A machine of a large image takes minutes to start; beyond this it is worth a word.
QUEUED_LONG = timedelta(minutes=10)
# The same for what waits for somebody to do something, and for a call of which nobody knows what became of it.
PATIENCE = timedelta(minutes=10)
# While data goes out this is noted about twice a second; packing a large dataset may take a while without a note.
UPLOAD_STANDS_STILL = timedelta(minutes=10)
# The provider confirms a cancel within seconds, and our watchdog looks every few.
STOPS_WITHIN = timedelta(minutes=2)
# A run is asked about far more often than this.
UNHEARD_FOR = timedelta(minutes=5)
# Loading a large model or caching a large dataset prints little for some minutes.
SAYS_NOTHING_FOR = timedelta(minutes=20)

WAITS_FOR_HELP = {
    WaitingReason.CREDENTIAL: "invalid_token",
    WaitingReason.NO_CREDIT: "no_credit",
    WaitingReason.PROVIDER_DOWN: "provider_down",
    WaitingReason.UNCERTAIN: "uncertain",
    WaitingReason.DISK_FULL: "server_disk_full",
}
# For the timeline and for mail, which are in English.
SENTENCES = {
    "invalid_token": "Replicate refuses the team's token.",
    "no_credit": "It waits: the team's account at Replicate is out of credit.",
    "provider_down": "Replicate is not reached.",
    "provider_silent": "Replicate answers for other jobs, and not for this one.",
    "uncertain": "It is not known yet whether Replicate took the job.",
    "server_disk_full": "It waits: this server's disk is full.",
    "stuck_in_queued": "Replicate has had it for ten minutes and has not begun it.",
    "upload_slow": "Its data has not moved on for ten minutes.",
    "not_stopped": "It was to be stopped, and has not ended yet.",
    "silent": "It runs, and has printed nothing for twenty minutes.",
}


class News:
    """Whether the provider tells us anything at all, asked once and only if a job gives cause."""

    def __init__(self, *, now: datetime) -> None:
        self._now = now

    @cached_property
    def comes(self) -> bool:
        return JobProgress.objects.filter(told_at__gt=self._now - unheard_for()).exists()


def stuck_as(job: Job, *, now: datetime, news: News) -> str:
    """Why a job does not get on, as the code of a trouble; "" for one that does."""
    return next((code for code, is_so in RULES.items() if is_so(job, now)), "") or _unheard(job, now=now, news=news)


def is_queued_long(job: Job, now: datetime) -> bool:
    return job.state == State.QUEUED and job.queued_at is not None and now - job.queued_at > QUEUED_LONG


def is_not_stopped(job: Job, now: datetime) -> bool:
    """Past its stop time, or cancelled, for longer than that takes."""
    if job.state not in LAUNCHED or not job.prediction_id:
        return False
    since = job.cancel_requested_at or job.stop_at
    return since is not None and now - since > STOPS_WITHIN


def is_upload_slow(job: Job, now: datetime) -> bool:
    """In nobody's way, and still its data does not get on."""
    if job.state != State.UPLOADING or job.prediction_id or job.waiting_reason:
        return False
    moved_at = since("upload_slow", job)
    return moved_at is not None and now - moved_at > UPLOAD_STANDS_STILL


def is_silent(job: Job, now: datetime) -> bool:
    """It runs, as the provider goes on to say, and prints nothing."""
    progress = getattr(job, "progress", None)
    if job.state != State.RUNNING or progress is None or progress.told_at is None or now - progress.told_at > unheard_for():
        return False
    printed_at = since("silent", job)
    return printed_at is not None and now - printed_at > SAYS_NOTHING_FOR


def is_unheard(job: Job, now: datetime) -> bool:
    """The provider has it, and neither tells of it nor answers when it is asked."""
    told_at = since("provider_silent", job)
    return job.state in LAUNCHED and bool(job.prediction_id) and told_at is not None and now - told_at > unheard_for()


def since(code: str, job: Job) -> datetime | None:
    """The last sign of life of a job that a trouble speaks of; None where there was none, or the trouble speaks of no time."""
    signs = []
    if code == "stuck_in_queued":
        signs = [job.queued_at]
    elif code == "upload_slow":
        upload = getattr(job, "upload_progress", None)
        signs = [upload and upload.updated_at, job.dispatched_at]
    elif code in ("silent", "provider_silent"):
        progress = getattr(job, "progress", None)
        signs = [progress and progress.grew_at, job.started_at] if code == "silent" else [progress and progress.told_at]
    return max((at for at in signs if at), default=None)


def unheard_for() -> timedelta:
    """So long a job may be without news: long enough for several polls, however rare they are set."""
    return max(UNHEARD_FOR, timedelta(seconds=6 * settings.POLL_SECONDS))


def _waits_for(code: str) -> Callable[[Job, datetime], bool]:
    def waits(job: Job, now: datetime) -> bool:
        if job.is_terminal or job.prediction_id or WAITS_FOR_HELP.get(WaitingReason(job.waiting_reason)) != code:
            return False
        return now - (job.dispatched_at or job.submitted_at) > PATIENCE

    return waits


def _unheard(job: Job, *, now: datetime, news: News) -> str:
    if not is_unheard(job, now):
        return ""
    if job.credential.health == CredentialHealth.REFUSED:
        return "invalid_token"
    return "provider_silent" if news.comes else "provider_down"


RULES: dict[str, Callable[[Job, datetime], bool]] = {
    **{code: _waits_for(code) for code in WAITS_FOR_HELP.values()},
    "not_stopped": is_not_stopped,
    "upload_slow": is_upload_slow,
    "stuck_in_queued": is_queued_long,
    "silent": is_silent,
}


def find(*, now: datetime) -> Iterator[tuple[Job, str]]:
    """The jobs of all teams that are stuck, each with the code of its trouble. Runs that were started elsewhere are not ours to mind."""
    news = News(now=now)
    waiting = Q(state=State.PENDING, waiting_reason__in=WAITS_FOR_HELP)
    candidates = (
        Job.objects.admitted()
        .filter(Q(state__in=LAUNCHED) | waiting)
        .exclude(progress=None)
        .select_related("team", "submitted_by", "credential", "progress", "upload_progress")
    )
    for job in candidates.order_by("pk"):
        if code := stuck_as(job, now=now, news=news):
            yield job, code


def tell(*, now: datetime) -> int:
    """Write it into the timeline of each job that is newly stuck, and tell its submitter; once for each cause. Returns how many."""
    news = ((job, code) for job, code in find(now=now) if code not in job.progress.stuck_as)
    return apart.each("stuck", news, lambda found: _tell(*found, now=now))


def _tell(job: Job, code: str, *, now: datetime) -> bool:
    with transaction.atomic():
        progress = JobProgress.objects.select_for_update(no_key=True).get(job=job)
        if code in progress.stuck_as:
            return False
        progress.stuck_as = [*progress.stuck_as, code]
        progress.save(update_fields=["stuck_as"])
        job.events.create(cause="watchdog", at=now, detail=SENTENCES[code])
        if Membership.objects.filter(team=job.team, user=job.submitted_by).exists():
            letters.write(event="stuck", to=[job.submitted_by], team=job.team, facts=_facts(job, code))
    log.warning("job.stuck", team=job.team.slug, job=job.job_id, reason=code)
    return True


def _facts(job: Job, code: str) -> dict[str, str]:
    """What the mail says. Letters hold plain values."""
    return {
        "job": job.run_name or job.config_name or job.job_id,
        "team": job.team.name,
        "code": code,
        "link": settings.PUBLIC_URL + reverse("jobs:detail", args=[job.team.slug, job.job_id]) if settings.PUBLIC_URL else "",
    }
