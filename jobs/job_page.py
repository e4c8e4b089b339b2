"""What the page of one job shows, gathered once for the page and for its live parts.

A live part is a piece of the page with a name. The browser asks every two seconds with the digests of the
parts that it has, and gets those that changed: text that somebody is selecting is left alone.
"""

import json
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from accounts.audit import MASK, SECRET_FIELDS
from accounts.callers import Caller
from accounts.roles import Right
from billing.models import LedgerLine
from jobs import archives, charts, costs, money_bar, timeline
from jobs.models import Job, JobProgress, ProviderUpload, ResultDelivery
from jobs.permissions import may_cancel, may_delete, may_move_start, may_move_stop_time, may_retry, sees_details
from jobs.services import approval_requests, queue_places, troubles, uploads
from jobs.states import State

PARTS = ["money_bar", "actions", "state", "trouble", "archive", "chart", "timeline", "stop", "money", "files", "announcement"]
# After the end, results, money and clean-up still come in for a while.
KEEPS_CHANGING = timedelta(minutes=10)


@dataclass(frozen=True)
class StopTime:
    """When the job is stopped, what that costs, and where its stop time can be moved by one click. Amounts are micro-dollars."""

    job: Job
    now: datetime
    may_move: bool

    @property
    def minutes_left(self) -> int | None:
        """Whole minutes; None before the job is at the provider."""
        return max(0, int((self.job.stop_at - self.now).total_seconds() // 60)) if self.job.stop_at else None

    @property
    def is_near(self) -> bool:
        """Whether it is time to warn."""
        return self.job.warn_at is not None and self.job.warn_at <= self.now

    @property
    def is_at_ceiling(self) -> bool:
        return self.job.stop_after_seconds == self.job.ceiling_seconds

    @property
    def cost(self) -> int | None:
        return costs.so_far(self.job, now=self.now)

    @property
    def cost_at_stop(self) -> int | None:
        return costs.at_stop_time(self.job)

    @property
    def later(self) -> list[tuple[str, int]]:
        """The label and the new stop time, in seconds, of each button. They name where it goes: a double click moves it once."""
        now, ceiling = self.job.stop_after_seconds, self.job.ceiling_seconds
        steps = [(_("+30 min"), now + 1800), (_("+1 h"), now + 3600)]
        fitting = [(label, seconds) for label, seconds in steps if seconds < ceiling]
        return [*fitting, (_("To the ceiling"), ceiling)] if now < ceiling else []


def record(job: Job, caller: Caller, *, now: datetime) -> dict[str, Any]:
    """All that the parts show of a job, as far as the caller may see it."""
    details = sees_details(caller, job)
    progress = getattr(job, "progress", None)
    results = list(job.result_deliveries.all())
    lines = LedgerLine.objects.filter(team=job.team, reference=job.reference).order_by("sequence")
    return {
        "team": job.team,
        "job": job,
        "bar": money_bar.bar_for(team=job.team, user=caller.user, now=now),
        "sees_details": details,
        "may_cancel": may_cancel(caller, job),
        "may_delete": may_delete(caller, job),
        "may_retry": may_retry(caller, job),
        "standing": queue_places.standings([job], now=now).get(job.pk),
        "may_move_start": may_move_start(caller, job),
        "stop": stop_time(job, caller, now=now),
        "may_submit": caller.may(Right.SUBMIT),
        "troubles": troubles.of_job(job, caller=caller, now=now),
        "is_watched_by_asking": troubles.is_watched_by_asking(job),
        "may_save_config": caller.may(Right.DATASETS),
        "is_live": keeps_changing(job, results, now=now),
        "progress": progress,
        "percent": _percent(job, progress),
        "running_seconds": job.duration_seconds(now=now),
        "cost": costs.so_far(job, now=now),
        "chart": charts.loss_chart(_losses(job, progress)) if details else None,
        "timeline": timeline.lines(job.events.all(), job.provider_events.all()),
        "ledger_lines": list(lines),
        "archive": archives.archive_of(job),
        "artifacts": list(job.artifacts.all()) if details else [],
        "results": results,
        "may_check": details and caller.may(Right.SUBMIT) and any(result.may_be_checked for result in results),
        "upload": ProviderUpload.objects.filter(job=job).first(),
        "upload_progress": uploads.of(job) if job.state == State.UPLOADING else None,
        **_approval(job, caller),
    }


def _approval(job: Job, caller: Caller) -> dict[str, Any]:
    """What the job waited or waits for, and who may decide while it waits."""
    request = getattr(job, "approval", None)
    if request is None:
        return {}
    return {
        "approval": request,
        "approvers": [member.user for member in approval_requests.approvers(request)] if request.is_pending else [],
        "may_see_approval": caller.may(Right.APPROVE) or job.submitted_by_id == caller.user.pk,
    }


def stop_time(job: Job, caller: Caller, *, now: datetime) -> StopTime | None:
    """The stop time of a job that still has one."""
    if job.is_terminal or job.is_imported:
        return None
    return StopTime(job=job, now=now, may_move=may_move_stop_time(caller, job))


def keeps_changing(job: Job, results: list[ResultDelivery], *, now: datetime) -> bool:
    """Whether the page is worth asking for again: the job is not over, or what follows its end is not."""
    if not job.is_terminal:
        return True
    if any(result.is_open and result.asked_at and now < result.asked_at + KEEPS_CHANGING for result in results):
        return True
    return job.cleaned_up_at is None and job.ended_at is not None and now < job.ended_at + KEEPS_CHANGING


def parts_of(context: dict[str, Any], request: HttpRequest) -> dict[str, str]:
    """Each live part of the page, rendered."""
    return {name: render_to_string(f"jobs/_{name}.html", context, request) for name in PARTS}


def digest(part: str) -> str:
    """Enough of a part to see that it changed."""
    return f"{zlib.crc32(part.encode()):08x}"


def shown_settings(config: dict[str, Any]) -> list[tuple[str, str]]:
    """A config by name, as it is written. What is named like a secret is masked: none belongs there, and a mistake must not show."""
    return [(name, MASK if value and SECRET_FIELDS.search(name) else written(value)) for name, value in sorted(config.items())]


def written(value: Any) -> str:
    """A setting's value as it is written in a config."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _losses(job: Job, progress: JobProgress | None) -> list[charts.Point]:
    """The series, which keeps the lowest and the highest of a stretch, up to the step of now."""
    losses = {step: loss for step, loss in job.series.values_list("step", "loss") if loss is not None}
    if losses and progress is not None and progress.step is not None and progress.loss is not None and progress.step > max(losses):
        losses[progress.step] = progress.loss
    return sorted(losses.items())


def _percent(job: Job, progress: JobProgress | None) -> int | None:
    """Whole percent of the steps; None while nobody knows."""
    if job.state == State.COMPLETED:
        return 100
    return None if progress is None or progress.percent is None else int(progress.percent)
