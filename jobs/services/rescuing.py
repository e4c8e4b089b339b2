"""Bringing home what the provider forgets an hour after a run's end: its log, its output, its figures, its files.

Ahead of all other work, with an alarm while there is still time. What could not be saved is kept as lost, with times.
"""

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from accounts import letters
from accounts.models import CredentialHealth, User
from accounts.roles import Role
from jobs.archives import Archive, ArchiveState, archive_of, waiting_files
from jobs.models import AccountWatch, Job
from jobs.replicate import outputs, predictions
from jobs.replicate.predictions import Prediction
from jobs.services import apart, provider
from jobs.storage import objects
from jobs.storage.errors import InvalidName, StorageFull
from jobs.storage.files import Staged
from jobs.storage.objects import Arrival

log = structlog.get_logger(__name__)

ALARM_AFTER = timedelta(minutes=40)
# The provider keeps what a run left for an hour. Who could not be asked for so long has nothing any more.
GIVE_UP_AFTER = timedelta(hours=24)
MOST_REFERENCES = 200
LATE = "Its log and output are not saved yet. Replicate removes them an hour after the end."
NOBODY_COULD_ASK = "Replicate could not be asked for a day after the end, and keeps nothing for so long."


def take(job: Job, prediction: Prediction, *, now: datetime) -> None:
    """Keep what an end says beside its log. Call it with the job locked; what is here already stays."""
    found: dict[str, Any] = {}
    if prediction.is_terminal and not job.outputs and prediction.output is not None:
        found["outputs"] = _references(job, prediction)
    metrics = prediction.raw.get("metrics")
    if prediction.is_terminal and not job.metrics and isinstance(metrics, dict):
        found["metrics"] = predictions.storable(metrics)
    if prediction.data_removed and job.provider_forgot_at is None:
        found["provider_forgot_at"] = now
    if prediction.is_terminal and prediction.shows_logs and not prediction.data_removed and job.archived_at is None:
        # Full log and output are here now; nothing of them depends on the provider's memory any more.
        found["archived_at"] = now
    if found:
        Job.objects.filter(pk=job.pk).update(**found)


def _references(job: Job, prediction: Prediction) -> list[dict[str, Any]]:
    """Every address in the output, else its text; those that are files at the provider get a name among the artifacts."""
    base = provider.address_of(job.credential)
    found: list[dict[str, Any]] = []
    for number, url in enumerate(prediction.output_urls[:MOST_REFERENCES], start=1):
        is_there = outputs.is_at_provider(url, base_url=base)
        found.append({"reference": url, **({"key": f"provider-output/{number}/{outputs.name_in(url)}"} if is_there else {})})
    if not found and isinstance(prediction.output, str):
        found.append({"reference": prediction.output})
    return found


def fetch_files(job: Job) -> None:
    """Copy the files that lie at the provider into our storage; one that cannot be had now is tried again at the next call."""
    for entry in waiting_files(job):
        try:
            entry.update(_fetched(job, entry))
        except outputs.Gone as error:
            entry.update(lost_at=timezone.now().isoformat(), reason=str(error))
            log.error("output.lost", team=job.team.slug, job=job.job_id, reason=str(error))
        except (outputs.Away, StorageFull) as error:
            log.warning("output.postponed", team=job.team.slug, job=job.job_id, reason=str(error))
        except InvalidName as error:
            entry.update(lost_at=timezone.now().isoformat(), reason=str(error))
        Job.objects.filter(pk=job.pk).update(outputs=job.outputs)


def _fetched(job: Job, entry: dict[str, Any]) -> dict[str, Any]:
    """Store one file under its key and return what is known of it. Raises Gone, Away, StorageFull, InvalidName."""
    counted = _Counted(
        outputs.pieces(
            entry["reference"],
            base_url=provider.address_of(job.credential),
            outbound=provider.outbound(job.team),
            limit_bytes=objects.MAX_OBJECT_BYTES,
        )
    )
    objects.give_connection_back()
    staged = Staged(counted)
    arrival = Arrival(
        size=counted.size, sha256=counted.sha256.hexdigest(), etag=counted.md5.hexdigest(),
        content_type="application/octet-stream", metadata={},
    )  # fmt: skip
    artifact = objects.store(job, entry["key"], staged, arrival)
    return {"stored_at": artifact.stored_at.isoformat()}


class _Counted:
    """Pieces of a file that are counted and hashed on their way."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.size = 0
        self.sha256, self.md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.size += len(piece)
            self.sha256.update(piece)
            self.md5.update(piece)
            yield piece


def conclude(job: Job, *, now: datetime) -> bool:
    """Say whether nothing is left to bring home, and note it the first time; what was lost goes into the timeline then."""
    archive = archive_of(job)
    if archive.state == ArchiveState.PENDING:
        return False
    with transaction.atomic():
        if Job.objects.filter(pk=job.pk, rescued_at=None).update(rescued_at=now) and archive.lost:
            job.events.create(cause="archive", at=now, detail=_told(archive)[:500])
            log.error("archive.lost", team=job.team.slug, job=job.job_id, reason=", ".join(loss.part.value for loss in archive.lost))
    return True


def _told(archive: Archive) -> str:
    """What was lost, in one line of the timeline, which is in English whoever reads it."""
    parts = ", ".join(f"{loss.part.value.replace('_', ' ')}{f' {loss.name}' if loss.name else ''}" for loss in archive.lost)
    return f"Could not be saved before Replicate removed it: {parts}."


def watch(*, now: datetime) -> None:
    """Raise the alarm for what is still not here when there is little time left, and give up what nobody can ask for any more."""
    late = Job.objects.unrescued().filter(ended_at__lt=now - ALARM_AFTER).select_related("team", "credential", "submitted_by")
    apart.each("alarm", late.filter(archive_alarm_at=None).order_by("ended_at")[:50], lambda job: _alarm(job, now=now))
    apart.each("give up", late.filter(ended_at__lt=now - GIVE_UP_AFTER)[:50], lambda job: _give_up(job, now=now))


def _alarm(job: Job, *, now: datetime) -> None:
    """Tell the team's owners and the platform's staff, once, while Replicate still has it."""
    with transaction.atomic():
        if not Job.objects.unrescued().filter(pk=job.pk, archive_alarm_at=None).update(archive_alarm_at=now):
            return
        job.events.create(cause="archive", at=now, detail=LATE)
        owners = User.objects.filter(memberships__team=job.team, memberships__role=Role.OWNER, is_active=True)
        staff = User.objects.filter(is_staff=True, is_active=True)
        letters.write(event="archive_late", to=(owners | staff).distinct(), team=job.team, facts=_facts(job, now=now), now=now)
    log.error("archive.late", team=job.team.slug, job=job.job_id)


def _facts(job: Job, *, now: datetime) -> dict[str, str | int]:
    """What the mail says; `reason` is a word for what is in the way, "" where nobody knows."""
    assert job.ended_at is not None
    is_failing = AccountWatch.objects.filter(team=job.team, credential=job.credential, failures__gt=0).exists()
    is_refused = job.credential.health == CredentialHealth.REFUSED
    return {
        "job": job.run_name or job.config_name or job.job_id,
        "team": job.team.name,
        "minutes": int((now - job.ended_at).total_seconds() // 60),
        "ended_at": job.ended_at.isoformat(),
        "time_zone": job.team.time_zone,
        "reason": "refused" if is_refused else "unanswered" if is_failing else "",
        "link": settings.PUBLIC_URL + reverse("jobs:detail", args=[job.team.slug, job.job_id]) if settings.PUBLIC_URL else "",
    }


def _give_up(job: Job, *, now: datetime) -> None:
    for entry in waiting_files(job):
        entry.update(lost_at=now.isoformat(), reason=NOBODY_COULD_ASK)
    Job.objects.filter(pk=job.pk).update(outputs=job.outputs)
    if job.archived_at is None:
        Job.objects.filter(pk=job.pk, provider_forgot_at=None).update(provider_forgot_at=now)
    job.refresh_from_db()
    conclude(job, now=now)
