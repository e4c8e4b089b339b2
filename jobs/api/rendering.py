"""How a job reads in SimpleTuner's answers: the fields that any of its clients look at.

Source: SimpleTuner docs, documentation/experimental/cloud (REPLICATE, TUTORIAL, JOB_PROGRESS_AND_SYNC) and what its
command line reads.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from accounts.callers import Caller
from billing import prices
from jobs import costs
from jobs.archives import archive_of
from jobs.models import Job, ResultDelivery
from jobs.permissions import sees_details
from jobs.services import queue, queue_places, troubles
from jobs.services.queue_places import Standing
from jobs.services.troubles import Trouble
from jobs.states import ACTIVE, State


def stamp(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def money(name: str, micros: int | None) -> dict[str, Any]:
    """A JSON number with six decimals, and its exact sibling in micro-dollars."""
    return {name: prices.as_number(micros) if micros is not None else None, f"{name}_micros": micros}


def decimal(micros: int | None) -> str | None:
    """US dollars as a decimal string: how money reads on our own paths."""
    return f"{prices.as_number(micros):f}" if micros is not None else None


def jobs(rows: Iterable[Job], caller: Caller, *, now: datetime) -> list[dict[str, Any]]:
    """The job objects of one team, with what is wrong with each: null for a healthy one."""
    rows = list(rows)
    found = troubles.of_jobs(rows, caller=caller, now=now)
    places = queue_places.standings(rows, now=now)
    return [_job(row, caller, found.get(row.pk), places.get(row.pk), now=now) for row in rows]


def _job(row: Job, caller: Caller, trouble: Trouble | None, standing: Standing | None, *, now: datetime) -> dict[str, Any]:
    """The job object. `cost_usd` is the cost so far while the job runs."""
    hold = row.hold.amount if row.hold else None
    return {
        "job_id": row.job_id,
        "job_type": "cloud",
        "provider": row.provider,
        "status": row.state,
        "config_name": row.config_name or None,
        "created_at": stamp(row.submitted_at),
        "queued_at": stamp(row.queued_at),
        "started_at": stamp(row.started_at),
        "completed_at": stamp(row.ended_at),
        "finished_at": stamp(row.ended_at),
        **money("cost_usd", costs.so_far(row, now=now)),
        **money("estimated_cost", row.estimate_high),
        **money("estimated_cost_low", row.estimate_low),
        "estimate_source": row.estimate_source or None,
        **money("hold", hold),
        "hardware_type": row.trainer.hardware_type,
        "error_message": row.error or None,
        "output_url": row.output_url or None,
        "user_id": row.submitted_by_id,
        "metadata": _metadata(row, caller),
        "is_terminal": row.is_terminal,
        "is_active": row.state in ACTIVE,
        "duration_seconds": row.duration_seconds(now=now),
        "queue_position": standing.place if standing else None,
        "estimated_wait_seconds": standing.seconds if standing else None,
        "requires_approval": row.state == State.BLOCKED,
        "approval_id": approval.pk if (approval := getattr(row, "approval", None)) else None,
        "priority": queue.asked_priority(row),
        "team_id": str(row.team_id),
        "org_id": 1,
        "waiting_reason": row.waiting_reason or None,
        "not_before": stamp(row.not_before),
        "cancel_requested_at": stamp(row.cancel_requested_at),
        "ceiling_seconds": row.ceiling_seconds,
        "ceiling_at": stamp(row.ceiling_at),
        "stop_after_seconds": row.stop_after_seconds,
        "stop_at": stamp(row.stop_at),
        "seconds_until_stop": _seconds_until_stop(row, now=now),
        **money("cost_at_stop", costs.at_stop_time(row)),
        "is_rehearsal": row.is_rehearsal,
        "trouble": trouble.as_json(with_details=sees_details(caller, row)) if trouble else None,
        "archive": archive_of(row).as_json(),
    }


def _seconds_until_stop(row: Job, *, now: datetime) -> int | None:
    """How long the job still may run; None before it is at the provider, and once it is over."""
    return max(0, int((row.stop_at - now).total_seconds())) if row.stop_at and not row.is_terminal else None


# What of a receipt is for the outside: the listing stands among the artifacts.
RECEIPT = ("files", "size_bytes", "weights", "url", "revision", "said_by_trainer")


def delivery(row: ResultDelivery) -> dict[str, Any]:
    """How bringing the result to one destination stands."""
    return {
        "destination": row.destination,
        "target": row.target or None,
        "state": row.state,
        "error": row.error or None,
        "attempts": row.attempts,
        "asked_at": stamp(row.asked_at),
        "try_after": stamp(row.try_after) if row.is_open else None,
        "delivered_at": stamp(row.delivered_at),
        "receipt": {name: row.receipt[name] for name in RECEIPT if name in row.receipt},
    }


def _metadata(row: Job, caller: Caller) -> dict[str, Any]:
    metadata = {
        "run_name": row.run_name,
        "tracker_run_name": row.run_name,
        "prediction_id": row.prediction_id,
        "hardware_profile": row.trainer.profile,
        "model": row.trainer.model,
        "version": row.version or None,
        "upload_id": row.upload_id or None,
        "dataset": str(row.dataset_version) if row.dataset_version else None,
        "data_path": row.packing_path,
        "destination": row.destination,
        "submitted_by": row.submitted_by.username,
    }
    if sees_details(caller, row):
        metadata |= {"config": row.config, **row.metadata}
    return metadata
