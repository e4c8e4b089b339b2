"""How far a job's data is on its way to the provider: noted while it goes, and shown to who watches.

The notes are for people only. They are written beside the launch and never within its transactions, at most about
twice a second, and one that cannot be written is left out.
"""

import time
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.db import Error, transaction
from django.utils import timezone

from jobs.models import Job, UploadProgress
from jobs.models.job import UploadStage
from jobs.states import TERMINAL, State

log = structlog.get_logger(__name__)

NOTED_EVERY_SECONDS = 0.5
NEVER_SENT = "The job was cancelled before its data was sent."


class Reporter:
    """Notes one job's progress. `at` may be called for every piece: most calls only look at the clock."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._stage = UploadStage.SCANNING
        self._noted = 0.0

    def begin(self, stage: UploadStage, *, total: int = 0) -> None:
        """A new stage, which is always noted; `total` is in bytes."""
        self._stage = stage
        self._note(0, total)

    def at(self, current: int, total: int) -> None:
        """So many bytes of the stage are done."""
        if time.monotonic() - self._noted >= NOTED_EVERY_SECONDS:
            self._note(current, total)

    def _note(self, current: int, total: int) -> None:
        self._noted = time.monotonic()
        values = {"stage": self._stage, "current": current, "total": total, "updated_at": timezone.now()}
        try:
            with transaction.atomic():
                UploadProgress.objects.update_or_create(job=self._job, defaults=values)
        except Error as error:
            log.warning("upload.not_noted", job=self._job.job_id, reason=str(error))


@dataclass(frozen=True)
class Upload:
    """How an upload stands; sizes are in bytes. `is_over` with `error` empty means that the provider has the data."""

    stage: UploadStage
    current: int
    total: int
    updated_at: datetime
    message: str = ""
    error: str = ""

    @property
    def percent(self) -> float:
        """Of the stage that is under way."""
        if self.stage == UploadStage.COMPLETE:
            return 100.0
        return min(100.0, round(self.current * 100 / self.total, 1)) if self.total else 0.0

    @property
    def is_over(self) -> bool:
        return self.stage in (UploadStage.COMPLETE, UploadStage.ERROR)


def of(job: Job) -> Upload:
    """How the upload of a job stands. The job's state has the last word: a note may be missing, or from a try that broke off."""
    note = UploadProgress.objects.filter(job=job).first() or UploadProgress(job=job, updated_at=job.submitted_at)
    if job.prediction_id or job.state in (State.QUEUED, State.RUNNING, State.COMPLETED):
        return Upload(UploadStage.COMPLETE, note.total, note.total, job.queued_at or note.updated_at)
    if job.state in TERMINAL:
        sentence = job.error or NEVER_SENT
        return Upload(UploadStage.ERROR, note.current, note.total, job.ended_at or note.updated_at, error=sentence)
    if job.state != State.UPLOADING or job.waiting_reason:
        return Upload(UploadStage(note.stage), note.current, note.total, note.updated_at, message=job.get_waiting_reason_display())
    return Upload(UploadStage(note.stage), note.current, note.total, note.updated_at, message=str(UploadStage(note.stage).label))
