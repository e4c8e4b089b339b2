"""What a job's event says to a browser, as SimpleTuner's page reads it.

Source: simpletuner-api.md, "Events for browsers".
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from billing import prices
from jobs import costs
from jobs.models import JobEvent, JobProgress
from jobs.states import State

# Which ends are worth a word, how bad they are, and how they are said.
NOTIFIED = {
    State.COMPLETED: ("completed", "success", "completed"),
    State.FAILED: ("failed", "error", "failed"),
    State.CANCELLED: ("cancelled", "warning", "was cancelled"),
}


@dataclass(frozen=True)
class Message:
    """One event for a browser: its name ("" for none) and its body."""

    name: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Story:
    """What is told of one row to those who see a job's details (`full`) and to those who don't (`brief`)."""

    team: int
    submitter: int
    full: list[Message]
    brief: list[Message]
    number: int | None = None

    def messages(self, *, details: bool) -> list[Message]:
        return self.full if details else self.brief

    def frames(self, *, details: bool) -> bytes:
        """The last of them carries the number: who has it has them all."""
        *first, last = self.messages(details=details)
        return b"".join([*(frame(each) for each in first), frame(last, number=self.number)])


def frame(message: Message, *, number: int | None = None) -> bytes:
    """A message on the wire."""
    head = f"event: {message.name}\n" if message.name else ""
    tail = f"id: {number}\n" if number is not None else ""
    return f"{head}data: {json.dumps(message.body)}\n{tail}\n".encode()


def of_event(event: JobEvent, *, now: datetime) -> Story:
    """What is told of a line in a job's timeline."""
    job = event.job
    full, brief = ([*_beside(event), _update(event, details=details, now=now)] for details in (True, False))
    return Story(team=job.team_id, submitter=job.submitted_by_id, full=full, brief=brief, number=event.pk)


def _update(event: JobEvent, *, details: bool, now: datetime) -> Message:
    job = event.job
    status = event.state or job.state
    spent = costs.so_far(job, now=now)
    body = {
        "type": "cloud_job_update",
        "job_id": job.job_id,
        "event_type": "status_changed" if event.state else "note",
        "status": status,
        "new_status": status,
        "updates": {"status": status} if event.state else {},
        "payload": {"cause": event.cause, "at": event.at.isoformat(), "detail": event.detail if details else ""},
        "external_job_id": job.prediction_id,
        "config_name": job.config_name or None,
        "error_message": (job.error or None) if details and job.is_terminal else None,
        "cost_usd": float(prices.as_number(spent)) if spent is not None else None,
    }
    return Message("cloud_job_update", body)


def _beside(event: JobEvent) -> list[Message]:
    """What SimpleTuner says under other names as well."""
    job, found = event.job, []
    old = getattr(event, "old_state", None)
    if event.state and event.cause == "poll":
        body = {"type": "job_status_changed", "job_id": job.job_id, "status": event.state, "old_status": old}
        found.append(Message("", body))
    if event.cause == "expiry":
        found.append(Message("", {"type": "approval_expired", "job_id": job.job_id, "message": "Nobody approved the job in time."}))
    name = job.run_name or job.config_name or job.job_id
    if event.cause == "submit" and event.state:
        found.append(_notification(event, "submitted", "info", f"{name} was submitted."))
    elif event.state in NOTIFIED:
        word, severity, said = NOTIFIED[State(event.state)]
        found.append(_notification(event, word, severity, f"{name} {said}."))
    return found


def _notification(event: JobEvent, word: str, severity: str, message: str) -> Message:
    job = event.job
    body = {
        "type": "notification",
        "message_type": f"cloud.job.{word}",
        "message": message,
        "severity": severity,
        "job_id": job.job_id,
        "source": "cloud",
        "config_name": job.config_name or None,
        "provider": job.provider,
    }
    return Message("notification", body)


def of_progress(progress: JobProgress, before: JobProgress) -> Story | None:
    """What is told of a run that has come further; None where nothing that is told has changed. It cannot be replayed."""
    full, brief = _progress(progress, before, details=True), _progress(progress, before, details=False)
    if not full:
        return None
    return Story(team=progress.job.team_id, submitter=progress.job.submitted_by_id, full=full, brief=brief)


def _progress(progress: JobProgress, before: JobProgress, *, details: bool) -> list[Message]:
    job_id = progress.job.job_id
    found = []
    if progress.stage != before.stage:
        found.append(Message("lifecycle.stage", {"type": "lifecycle.stage", "job_id": job_id, "stage": progress.stage}))
    for name, list_name in (("checkpoint", "checkpoints"), ("validation", "validations")):
        new = [step for step in progress.parser.get(list_name, []) if step not in before.parser.get(list_name, [])]
        found += [Message(name, {"type": name, "job_id": job_id, "step": step}) for step in new]
    if progress.length != before.length:
        body = {
            "type": "training.progress",
            "job_id": job_id,
            "stage": progress.stage or "Training",
            "step": progress.step,
            "total_steps": progress.total_steps,
            "percent": float(progress.percent) if progress.percent is not None else None,
            "seconds_left": progress.seconds_left,
            **({"loss": progress.loss, "learning_rate": progress.learning_rate} if details else {}),
        }
        found.append(Message("training.progress", body))
    return found


def connected() -> Message:
    return Message("connection", {"type": "connected", "message": "You hear of your team's jobs as they change."})


def heartbeat(now: datetime) -> Message:
    return Message("heartbeat", {"type": "heartbeat", "timestamp": now.timestamp()})


def invalidated(reason: str) -> Message:
    return Message("auth", {"type": "session_invalidated", "reason": reason})
