"""The upload of a job's data as an event stream, until the provider has it or it is clear that it will not.

Source: what SimpleTuner's page reads: a `data:` frame with an object on each change.
"""

import json
from datetime import UTC, datetime
from typing import Any

from django.db import connection
from django.utils import timezone

from accounts.callers import Caller, is_still_welcome
from jobs.following import PING_AFTER
from jobs.models import Job
from jobs.services import uploads
from jobs.services.uploads import Upload

PAUSE_SECONDS = 0.4


class UploadFollower:
    """Where one watcher of an upload stands. `step` touches the database and gives the connection back."""

    def __init__(self, job: Job, caller: Caller) -> None:
        self.job = job
        self.caller = caller
        self.is_over = False
        self.is_behind = False
        self._seen: Upload | None = None
        self._said_at = datetime.min.replace(tzinfo=UTC)

    @property
    def pause_seconds(self) -> float:
        return PAUSE_SECONDS

    def step(self) -> bytes:
        """A frame if something changed, a ping after a while, else nothing."""
        try:
            return self._step().encode()
        finally:
            if not connection.in_atomic_block:
                connection.close()

    def _step(self) -> str:
        now = timezone.now()
        is_quiet = now - self._said_at >= PING_AFTER
        job = Job.objects.filter(pk=self.job.pk, deleted_at=None).first()
        if job is None or (is_quiet and not is_still_welcome(self.caller, now=now)):
            self.is_over = True
            return ""
        found = uploads.of(job)
        if found == self._seen:
            if is_quiet:
                self._said_at = now
            return ": ping\n\n" if is_quiet else ""
        self._seen, self._said_at, self.is_over = found, now, found.is_over
        return f"data: {json.dumps(body(found))}\n\n"


def body(upload: Upload) -> dict[str, Any]:
    """An upload as SimpleTuner's page reads it."""
    return {
        "stage": upload.stage.value,
        "current": upload.current,
        "total": upload.total,
        "percent": upload.percent,
        "message": upload.message or None,
        "done": upload.is_over and not upload.error,
        "error": upload.error or None,
        "updated_at": upload.updated_at.isoformat(),
    }
