"""How a job reads in SimpleTuner's answers: the fields that any of its clients look at.

Source: SimpleTuner docs, documentation/experimental/cloud (REPLICATE, TUTORIAL, JOB_PROGRESS_AND_SYNC) and what its
command line reads.
"""

from datetime import datetime
from typing import Any

from accounts.callers import Caller
from billing import prices
from jobs import costs
from jobs.models import Job
from jobs.permissions import sees_details
from jobs.states import ACTIVE, State


def stamp(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def money(name: str, micros: int | None) -> dict[str, Any]:
    """A JSON number with six decimals, and its exact sibling in micro-dollars."""
    return {name: prices.as_number(micros) if micros is not None else None, f"{name}_micros": micros}


def job(row: Job, caller: Caller, *, now: datetime) -> dict[str, Any]:
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
        **money("hold", hold),
        "hardware_type": row.trainer.hardware_type,
        "error_message": row.error or None,
        "output_url": row.output_url or None,
        "user_id": row.submitted_by_id,
        "metadata": _metadata(row, caller),
        "is_terminal": row.is_terminal,
        "is_active": row.state in ACTIVE,
        "duration_seconds": row.duration_seconds(now=now),
        "queue_position": None,
        "estimated_wait_seconds": None,
        "requires_approval": row.state == State.BLOCKED,
        "approval_id": None,
        "priority": row.priority if row.priority_override is None else row.priority_override,
        "team_id": str(row.team_id),
        "org_id": 1,
        "waiting_reason": row.waiting_reason or None,
        "cancel_requested_at": stamp(row.cancel_requested_at),
        "ceiling_seconds": row.ceiling_seconds,
        "stop_at": stamp(row.stop_at),
        "is_rehearsal": row.is_rehearsal,
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
