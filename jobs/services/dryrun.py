"""Dry run: what a submission would come to now, by the very code that submits, and nothing stays of it."""

from dataclasses import dataclass
from datetime import datetime

import structlog
from django.db import models, transaction
from django.utils import timezone

from accounts import audit
from accounts.callers import Caller
from accounts.errors import Refusal
from accounts.roles import Right
from jobs.services import admission, queue_places, submission
from jobs.services.admission import Submitted
from jobs.services.repeats import Repeat
from jobs.specs import JobSpec, Plan
from jobs.states import State


class Verdict(models.TextChoices):
    """What a submission comes to. Not translated: scripts compare it."""

    ADMITTED = "admitted", "admitted"
    NEEDS_APPROVAL = "needs_approval", "needs approval"
    REPEAT = "repeat", "repeat"
    REFUSED = "refused", "refused"


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """The outcome of a submission that was taken back. Without a `plan` it is refused before there is anything to price.

    Of `submitted` the rows are gone, but for a repeat, whose job is the first one. `place` is the job's place in the queue, from 1.
    """

    plan: Plan | None = None
    submitted: Submitted | None = None
    refusal: Refusal | None = None
    place: int | None = None

    @property
    def verdict(self) -> Verdict:
        if self.submitted is None:
            return Verdict.REFUSED
        if self.submitted.is_repeat:
            return Verdict.REPEAT
        return Verdict.NEEDS_APPROVAL if self.submitted.job.state == State.BLOCKED else Verdict.ADMITTED


def dry_run(caller: Caller, spec: JobSpec, *, repeat: Repeat | None = None) -> DryRun:
    """Decide about a submission and leave nothing but an audit line. Raises NotPermitted; every other refusal is the verdict."""
    caller.require(Right.SUBMIT)
    found = foresee(caller, spec, repeat=repeat, now=timezone.now())
    audit.record(
        team=caller.team,
        caller=caller,
        event_type="job.dry_run",
        action=f"Tried a submission out: {found.verdict}",
        target_type="config",
        target_id=(spec.config_name or spec.label)[:100],
        after={"verdict": found.verdict, "code": found.refusal.code if found.refusal else ""},
    )
    return found


def foresee(caller: Caller, spec: JobSpec, *, repeat: Repeat | None = None, now: datetime) -> DryRun:
    """The same without the audit line, for a form that asks at every change."""
    with structlog.contextvars.bound_contextvars(dry_run=True):
        try:
            if repeated := submission.answer_repeat(caller, repeat, now=now):
                return DryRun(submitted=repeated)
            plan = submission.plan(caller, spec, now=now)
        except Refusal as refusal:
            return DryRun(refusal=refusal)
        try:
            with transaction.atomic():
                submitted = admission.admit(caller, spec, plan, repeat=None, now=now)
                place = queue_places.place_of(submitted.job, now=now)
                transaction.set_rollback(True)
        except Refusal as refusal:
            return DryRun(plan=plan, refusal=refusal)
        return DryRun(plan=plan, submitted=submitted, place=place)
