"""Asking the provider at once about a team's jobs and for new ones, in a request that somebody waits for."""

import time
from dataclasses import dataclass

from accounts.callers import Caller
from accounts.roles import Right
from jobs import tasks
from jobs.models import Job
from jobs.services import importing, polling

# A client waits 30 seconds at most; one call may wait for as long as the team's time-out says.
BUDGET_SECONDS = 8.0
MOST_JOBS = 100


@dataclass(frozen=True)
class Refreshed:
    """How many jobs were asked about, how many of them moved on, and how many are left to the poller."""

    asked: int
    updated: int
    left: int

    @property
    def message(self) -> str:
        if not self.asked and not self.left:
            return "No active job is at Replicate."
        text = f"Refreshed {_jobs(self.asked)} from Replicate, {self.updated} changed."
        return text + (f" {_jobs(self.left)} follow in the background." if self.left else "")


@dataclass(frozen=True)
class Synced:
    """How many jobs are new and how many of the known ones moved on, and both in a sentence."""

    synced: int
    updated: int
    message: str


def sync(caller: Caller) -> Synced:
    """Refresh the team's active jobs, then look for runs that were started elsewhere on its own account."""
    caller.require(Right.SUBMIT, permission="job.submit")
    refreshed = refresh(caller)
    discovered = importing.discover(caller)
    said = [sentence.rstrip(".") for sentence in (discovered.message, refreshed.message)]
    return Synced(synced=len(discovered.jobs), updated=refreshed.updated, message=". ".join(said) + ".")


def _jobs(count: int) -> str:
    return f"{count} job{'s' * (count != 1)}"


def refresh(caller: Caller) -> Refreshed:
    """Ask about the jobs that the provider has, the longest waiting first, and leave what takes too long to the poller.

    A provider that does not answer changes nothing and is no fault of the request.
    """
    started = time.monotonic()
    active = caller.team.jobs.launched().exclude(prediction_id=None).select_related("team", "credential")
    jobs = list(active.order_by("progress__polled_at")[:MOST_JOBS])
    asked = updated = 0
    for job in jobs:
        if time.monotonic() - started > BUDGET_SECONDS:
            tasks.poll_job.delay(job_pk=job.pk)
            continue
        before = job.state
        polling.poll(job, cause="sync")
        asked += 1
        updated += Job.objects.filter(pk=job.pk).exclude(state=before).exists()
    return Refreshed(asked=asked, updated=updated, left=len(jobs) - asked)
