"""How a dry run reads: the ten fields of a submission, and beside them everything that decided it."""

from typing import Any

from accounts.errors import Refusal
from jobs.api import rendering
from jobs.services import checking
from jobs.services.dryrun import DryRun
from jobs.specs import JobSpec, Plan


def answer(found: DryRun, spec: JobSpec) -> dict[str, Any]:
    """`status_code` is what the submission would answer; what a refusal leaves unknown is null."""
    submitted, refusal = found.submitted, found.refusal
    job = submitted.job if submitted and submitted.is_repeat else None
    return {
        "dry_run": True,
        "verdict": found.verdict,
        "success": refusal is None,
        "job_id": job.job_id if job else None,
        "status": submitted.job.state if submitted else None,
        "status_code": refusal.status if refusal else 200,
        **_refused(refusal),
        "data_uploaded": False,
        "upload_id": spec.upload_id or None,
        "cost_limit_warning": " ".join(submitted.cost_warnings) or None if submitted else None,
        "quota_warnings": submitted.quota_warnings if submitted else [],
        "idempotent_hit": bool(submitted and submitted.is_repeat),
        "requires_approval": bool(submitted and submitted.job.state == "blocked"),
        "approval": _approval(found),
        "limits": _limits(found),
        "queue_place": found.place,
        **_planned(found.plan),
        "lint": _lint(found.plan, spec),
    }


def _refused(refusal: Refusal | None) -> dict[str, Any]:
    if refusal is None:
        return {"error": None, "code": None, "hint": None, "field": None, "details": None}
    details = {name: value for name, value in refusal.details.items() if name != "limits"}
    return {
        "error": refusal.detail,
        "code": refusal.code,
        "hint": refusal.hint or None,
        "field": refusal.field,
        "details": details or None,
    }


def _approval(found: DryRun) -> dict[str, Any] | None:
    """Who would have to approve it, and why."""
    asked = found.submitted.approval if found.submitted else None
    if asked is None:
        return None
    return {"reason": asked.reason, "rule": asked.rule.name if asked.rule else None, "required_role": asked.required_role}


def _limits(found: DryRun) -> list[dict[str, object]]:
    """Each limit that applies, as it stands before the job, with what the job asks of it."""
    if found.submitted:
        return [status.to_json() for status in found.submitted.limits]
    return found.refusal.details.get("limits", []) if found.refusal else []


def _planned(plan: Plan | None) -> dict[str, Any]:
    if plan is None:
        unknown = ("worst_case", "worst_case_micros", "ceiling_seconds", "stop_after_seconds", "estimate", "packing_path", "destination")
        return dict.fromkeys((*unknown, "hardware_profile", "dataset", "max_train_steps"))
    estimate = plan.estimate
    return {
        **rendering.money("worst_case", plan.worst_case),
        "ceiling_seconds": plan.ceiling_seconds,
        "stop_after_seconds": plan.stop_after_seconds,
        "estimate": {**rendering.money("low", estimate.low), **rendering.money("high", estimate.high), "source": estimate.source},
        "packing_path": plan.packing_path,
        "destination": plan.destination,
        "hardware_profile": plan.trainer.profile,
        "dataset": str(plan.dataset_version) if plan.dataset_version else None,
        "max_train_steps": plan.max_train_steps,
    }


def _lint(plan: Plan | None, spec: JobSpec) -> dict[str, list[str]]:
    """What the config is told beyond what decides, and doubts about how the data reaches the trainer."""
    config = plan.named_config.config if plan and plan.named_config else spec.config
    found = checking.check(config) if config is not None else checking.Verdict()
    warnings = [*found.warnings, *(plan.warnings if plan else [])]
    return {"errors": found.errors, "warnings": list(dict.fromkeys(warnings)), "suggestions": found.suggestions}
