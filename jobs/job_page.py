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

from accounts.audit import MASK, SECRET_FIELDS
from accounts.callers import Caller
from accounts.roles import Right
from billing.models import LedgerLine
from jobs import charts, costs, money_bar
from jobs.models import Job, JobProgress, ProviderUpload
from jobs.permissions import may_cancel, sees_details
from jobs.services import logs
from jobs.states import State

PARTS = ["money_bar", "actions", "state", "chart", "timeline", "money", "files", "announcement"]
# The end of the log that the page begins with; the whole is a download.
TAIL_CHARACTERS = 48 * 1024
# One answer of the live page carries at most this much new log.
LIVE_CHARACTERS = 256 * 1024
# After the end, results, money and clean-up still come in for a while.
KEEPS_CHANGING = timedelta(minutes=10)


@dataclass(frozen=True)
class LogPart:
    """A piece of a job's log, in characters: the text, where the next one starts, and what lies before."""

    text: str
    end: int
    before: int


def record(job: Job, caller: Caller, *, now: datetime) -> dict[str, Any]:
    """All that the parts show of a job, as far as the caller may see it."""
    details = sees_details(caller, job)
    progress = JobProgress.objects.filter(job=job).first()
    lines = LedgerLine.objects.filter(team=job.team, reference=job.reference).order_by("sequence")
    return {
        "team": job.team,
        "job": job,
        "bar": money_bar.bar_for(team=job.team, user=caller.user, now=now),
        "sees_details": details,
        "may_cancel": may_cancel(caller, job),
        "may_submit": caller.may(Right.SUBMIT),
        "is_live": keeps_changing(job, now=now),
        "progress": progress,
        "percent": _percent(job, progress),
        "running_seconds": job.duration_seconds(now=now),
        "cost": costs.so_far(job, now=now),
        "chart": charts.loss_chart(_losses(job)) if details else None,
        "events": list(job.events.all()),
        "ledger_lines": list(lines),
        "artifacts": list(job.artifacts.all()) if details else [],
        "results": list(job.result_deliveries.all()),
        "upload": ProviderUpload.objects.filter(job=job).first(),
    }


def keeps_changing(job: Job, *, now: datetime) -> bool:
    """Whether the page is worth asking for again: the job is not over, or what follows its end is not."""
    if not job.is_terminal:
        return True
    return job.cleaned_up_at is None and job.ended_at is not None and now < job.ended_at + KEEPS_CHANGING


def parts_of(context: dict[str, Any], request: HttpRequest) -> dict[str, str]:
    """Each live part of the page, rendered."""
    return {name: render_to_string(f"jobs/_{name}.html", context, request) for name in PARTS}


def digest(part: str) -> str:
    """Enough of a part to see that it changed."""
    return f"{zlib.crc32(part.encode()):08x}"


def log_tail(job: Job) -> LogPart:
    """The end of a job's log, from the beginning of a line on."""
    length = JobProgress.objects.filter(job=job).values_list("length", flat=True).first() or 0
    start = max(0, length - TAIL_CHARACTERS)
    text = logs.read(job, start=start)
    end = start + len(text)
    if start:
        text = text[text.find("\n") + 1 :]
    return LogPart(text=text, end=end, before=end - len(text))


def log_from(job: Job, start: int) -> LogPart:
    """What a job's log says from a cursor on."""
    text = logs.read(job, start=start, limit=LIVE_CHARACTERS)
    return LogPart(text=text, end=start + len(text), before=start)


def shown_settings(config: dict[str, Any]) -> list[tuple[str, str]]:
    """A config by name, as it is written. What is named like a secret is masked: none belongs there, and a mistake must not show."""
    return [(name, MASK if value and SECRET_FIELDS.search(name) else _written(value)) for name, value in sorted(config.items())]


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _losses(job: Job) -> list[charts.Point]:
    return [(step, loss) for step, loss in job.series.values_list("step", "loss") if loss is not None]


def _percent(job: Job, progress: JobProgress | None) -> int | None:
    """Whole percent of the steps; None while nobody knows."""
    if job.state == State.COMPLETED:
        return 100
    return None if progress is None or progress.percent is None else int(progress.percent)
