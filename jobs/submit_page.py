"""What the submit page shows: what can be chosen, how a form begins, and what the job would cost."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext as _

from accounts.callers import Caller
from accounts.errors import NotPermitted
from accounts.models import CredentialKind, Team
from accounts.roles import Role
from billing import services as billing
from billing.estimates import TYPICAL_COSTS
from billing.limits import LimitStatus
from billing.models import LimitAction, PriceLine
from billing.prices import MICROS_PER_USD
from billing.services import LimitReached
from jobs import money_bar, quotas_page
from jobs.models import ApprovalRequest, DatasetVersion, Job, Trainer
from jobs.models.job import Destination, Link, PackingPath
from jobs.permissions import sees_details
from jobs.services import checkpoints, configs, dryrun, quota_standings
from jobs.services.checkpoints import Checkpoint
from jobs.services.dryrun import DryRun
from jobs.services.quota_standings import Standing
from jobs.specs import JobSpec, Plan
from jobs.templatetags.figures import dollars

Choices = list[tuple[str, str]]


@dataclass(frozen=True)
class Quote:
    """What a job would cost, what would come of submitting it now, and how the team's money would stand after it. In micro-dollars."""

    plan: Plan
    now: datetime
    limits: list[LimitStatus]
    # Of jobs and storage, as they stand before it.
    quotas: list[Standing]
    outcome: DryRun

    @property
    def stops_at(self) -> datetime:
        """When the provider would end it at the latest, if it were created now."""
        return self.now + timedelta(seconds=self.plan.ceiling_seconds)

    @property
    def tightest(self) -> LimitStatus | None:
        """Of the limits that refuse, the one with the least left."""
        return money_bar.tightest(self.limits)

    @property
    def stops_earlier(self) -> bool:
        """Whether our stop time lies below the ceiling."""
        return self.plan.stop_after_seconds < self.plan.ceiling_seconds

    @property
    def left_after(self) -> int | None:
        return self.tightest.left - self.plan.worst_case if self.tightest else None

    @property
    def is_rehearsal(self) -> bool:
        return self.plan.credential.kind == CredentialKind.SANDBOX

    @property
    def fits(self) -> bool:
        return self.outcome.refusal is None

    @property
    def lacks_money(self) -> bool:
        return isinstance(self.outcome.refusal, LimitReached)

    @property
    def approval(self) -> ApprovalRequest | None:
        """What it would wait for."""
        return self.outcome.submitted.approval if self.outcome.submitted else None

    @property
    def approving_role(self) -> str:
        """Who may approve it, at least."""
        return str(Role(self.approval.required_role).label) if self.approval else ""

    @property
    def warns(self) -> list[LimitStatus]:
        """The limits beyond which the job goes on all the same."""
        beyond = (limit for limit in self.limits if limit.action == LimitAction.WARN and limit.would_pass(self.plan.worst_case))
        return [] if self.is_rehearsal else list(beyond)

    @property
    def blocking_quotas(self) -> list[Standing]:
        return quotas_page.used_up(self.quotas)

    @property
    def close_quotas(self) -> list[Standing]:
        return quotas_page.close(self.quotas)

    @property
    def uploads_data(self) -> bool:
        """Whether the team's data leaves this server."""
        return self.plan.packing_path != PackingPath.HOSTED and not self.is_rehearsal

    @property
    def packing_label(self) -> str:
        return str(PackingPath(self.plan.packing_path).label)

    @property
    def destination_label(self) -> str:
        return str(Destination(self.plan.destination).label)


def quote(caller: Caller, spec: JobSpec, *, now: datetime) -> Quote:
    """Work out what this job would cost and whether it would be admitted; nothing stays. Raises the refusals of planning."""
    found = dryrun.foresee(caller, spec, now=now)
    if found.plan is None:
        assert found.refusal is not None
        raise found.refusal
    limits = billing.statuses(team=caller.team, user=caller.user, now=now)
    quotas: list[Standing] = []
    if spec.is_real:
        asked = found.plan.worst_case
        quotas = quota_standings.standings(team=caller.team, user=caller.user, role=caller.role, requested=asked, now=now)
    return Quote(plan=found.plan, now=now, limits=limits, quotas=quotas, outcome=found)


def beginning(caller: Caller, asked: QueryDict) -> dict[str, Any]:
    """What a fresh form holds: the caller's active config, else the team's first; or the job that shall run again (`?from=`) or go on
    (`?continue=`), which begins alike and is linked otherwise.

    Raises NotPermitted where the team hides that job's config from the caller, Job.DoesNotExist for one that is not the team's.
    """
    if job_id := asked.get("continue") or asked.get("from"):
        job = caller.team.jobs.visible().select_related("dataset_version__dataset", "trainer").get(job_id=job_id)
        return _again(caller, job) | {"link": Link.CONTINUE.value if asked.get("continue") else ""}
    active = configs.active(caller)
    names = [active.name] if active else list(caller.team.configs.values_list("name", flat=True)[:1])
    chosen = {name: value for name in ("config_name", "dataset") if (value := asked.get(name))}
    return {"config_name": names[0] if names else "", **chosen}


def continued_from(caller: Caller, asked: Mapping[str, Any]) -> list[Checkpoint]:
    """The checkpoints of the job that a form continues; none where it continues none."""
    if asked.get("link") != Link.CONTINUE:
        return []
    job = caller.team.jobs.visible().filter(job_id=asked.get("from_job", "")).first()
    return checkpoints.of(job) if job is not None and sees_details(caller, job) else []


def _again(caller: Caller, job: Job) -> dict[str, Any]:
    if not sees_details(caller, job):
        raise NotPermitted("In this team, the config of a job is shown to who submitted it, to leads and to owners.")
    return {
        "from_job": job.job_id,
        "label": job.config_name,
        "config_json": job.config,
        "dataloader_json": job.dataloader or None,
        "dataset": str(job.dataset_version) if job.dataset_version else "",
        "hardware_profile": job.trainer.profile,
        "destination": "" if job.is_imported else job.destination,
        "hub_model_id": job.hub_model_id,
        "run_name": job.run_name,
        "provider": job.provider if job.is_rehearsal else "",
    }


def as_posted(initial: dict[str, Any]) -> dict[str, str]:
    """The beginning of a form as if it had been sent, for the first quote."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in initial.items() if value is not None}


def choices(team: Team, *, now: datetime) -> dict[str, Choices]:
    """What the form offers, by its field."""
    return {"config_name": config_choices(team), "dataset": dataset_choices(team), "hardware_profile": hardware_choices(now=now)}


def config_choices(team: Team) -> Choices:
    names = team.configs.values_list("name", flat=True)
    return [*((name, name) for name in names), ("", _("Pasted below"))]


def dataset_choices(team: Team) -> Choices:
    """The versions that hold images, the newest of each dataset first."""
    versions = DatasetVersion.objects.filter(dataset__team=team, dataset__removed_at=None, image_count__gt=0)
    rows = versions.select_related("dataset").order_by("dataset__name", "-number")
    label = _("%(version)s · %(count)s images")
    return [("", _("The one of the config")), *((str(row), label % {"version": row, "count": row.image_count}) for row in rows)]


def hardware_choices(*, now: datetime) -> Choices:
    """The trainers on offer with what an hour costs; without a price a trainer cannot be used and is left out."""
    rates: dict[str, int] = {}
    for line in PriceLine.objects.filter(effective_from__lte=now).order_by("effective_from"):
        rates[line.hardware] = int(line.usd_per_second * 3600 * MICROS_PER_USD)
    label = _("%(trainer)s, %(gpu)s: %(price)s an hour")
    offered = Trainer.objects.filter(is_offered=True, hardware__in=rates).order_by("-is_default", "hardware_type", "gpu_count")
    named = (
        (row.profile, label % {"trainer": row.label, "gpu": row.hardware_type, "price": dollars(rates[row.hardware])}) for row in offered
    )
    return [("", _("The team's usual one")), *named]


def typical_costs() -> list[dict[str, Any]]:
    """The table of typical runs on one L40S, amounts in micro-dollars."""
    return [
        {
            "kind": _("Full fine-tune") if row.kind == "full" else _("LoRA"),
            "family": row.model_family.capitalize() if row.model_family == "flux" else row.model_family.upper(),
            "steps": row.steps,
            "is_least": row.is_least,
            "duration": row.duration.replace(" to ", "\u2013"),
            "low": row.usd[0] * MICROS_PER_USD,
            "high": row.usd[1] * MICROS_PER_USD,
        }
        for row in TYPICAL_COSTS
    ]


def new_key() -> str:
    """Ties all sendings of one form to one job, so that a double click buys nothing twice."""
    return f"form-{uuid.uuid4().hex}"
