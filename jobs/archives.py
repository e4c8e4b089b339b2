"""What became of all that the provider knew of a job: it is here, or it was lost, and then since when."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

from jobs.models import Job
from jobs.states import State


class ArchiveState(TextChoices):
    PENDING = "pending", _("being archived")
    COMPLETE = "complete", _("complete")
    PARTIAL = "partial", _("partly lost")
    LOST = "lost", _("lost")


class Part(TextChoices):
    LOG = "log", _("The log")
    LOG_END = "log_end", _("The end of the log")
    OUTPUT = "output", _("The output")
    METRICS = "metrics", _("The billed time")
    FILE = "file", _("A file")


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One thing that could not be saved. `at` is when we found it gone, `name` the file's, `reason` why, where anybody said."""

    part: Part
    at: datetime | None
    name: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """How complete our own copy is."""

    state: ArchiveState
    ended_at: datetime | None
    archived_at: datetime | None
    forgotten_at: datetime | None
    lost: list[Loss]
    is_late: bool

    @property
    def log_loss(self) -> Loss | None:
        return next((loss for loss in self.lost if loss.part in (Part.LOG, Part.LOG_END)), None)

    def as_json(self) -> dict[str, Any]:
        """As the API's job object has it."""
        return {
            "state": self.state.value,
            "ended_at": _stamp(self.ended_at),
            "archived_at": _stamp(self.archived_at),
            "forgotten_at": _stamp(self.forgotten_at),
            "is_late": self.is_late,
            "lost": [
                {"what": loss.part.value, "name": loss.name or None, "found_lost_at": _stamp(loss.at), "reason": loss.reason or None}
                for loss in self.lost
            ],
        }


def archive_of(job: Job) -> Archive:
    """Said from the job's own row and that of its progress, without asking anybody."""
    lost = _lost(job) if job.is_terminal else []
    return Archive(
        state=_state(job, lost),
        ended_at=job.ended_at,
        archived_at=job.archived_at,
        forgotten_at=job.provider_forgot_at,
        lost=lost,
        is_late=job.archive_alarm_at is not None and job.rescued_at is None,
    )


def waiting_files(job: Job) -> list[dict[str, Any]]:
    """The entries of the job's outputs that are files at the provider and neither here nor lost."""
    return [entry for entry in job.outputs if "key" in entry and "stored_at" not in entry and "lost_at" not in entry]


def _state(job: Job, lost: list[Loss]) -> ArchiveState:
    if not job.is_terminal or waiting_files(job) or (_may_be_there(job) and not job.archived_at):
        return ArchiveState.PENDING
    if not lost:
        return ArchiveState.COMPLETE
    return ArchiveState.PARTIAL if _log_length(job) or job.outputs or job.archived_at else ArchiveState.LOST


def _may_be_there(job: Job) -> bool:
    return job.prediction_id is not None and job.provider_forgot_at is None


def _lost(job: Job) -> list[Loss]:
    files = [
        Loss(part=Part.FILE, at=datetime.fromisoformat(entry["lost_at"]), name=entry["key"], reason=entry.get("reason", ""))
        for entry in job.outputs
        if "lost_at" in entry
    ]
    if job.archived_at or _may_be_there(job):
        return files
    if job.prediction_id is None:
        return [Loss(part=Part.LOG, at=job.ended_at)] if job.error.startswith("unknown_at_provider") else []
    return [Loss(part=part, at=job.provider_forgot_at) for part in _forgotten(job)] + files


def _forgotten(job: Job) -> list[Part]:
    """What a run has that the provider removed before we had it; a run that never began had nothing."""
    if job.provider_status == "aborted" or job.metrics.get("predict_time") == 0:
        return []
    parts = [Part.LOG_END if _log_length(job) else Part.LOG]
    if job.state == State.COMPLETED and not job.outputs:
        parts.append(Part.OUTPUT)
    if not job.metrics:
        parts.append(Part.METRICS)
    return parts


def _log_length(job: Job) -> int:
    progress = getattr(job, "progress", None)
    return progress.length if progress is not None else 0


def _stamp(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
