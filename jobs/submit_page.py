"""What the submit page shows: what can be chosen, how a form begins, and what the job would cost."""

import json
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext as _

from accounts.callers import Caller
from accounts.errors import NotPermitted
from accounts.models import Team
from billing import services as billing
from billing.estimates import TYPICAL_COSTS
from billing.limits import LimitStatus
from billing.models import LimitAction, PriceLine
from billing.prices import MICROS_PER_USD
from jobs import money_bar
from jobs.models import DatasetVersion, Job, Trainer
from jobs.models.job import Destination, PackingPath
from jobs.money_bar import MoneyBar
from jobs.permissions import sees_details
from jobs.services import planning
from jobs.specs import JobSpec, Plan
from jobs.templatetags.figures import dollars

Choices = list[tuple[str, str]]


@dataclass(frozen=True)
class Quote:
    """What a job would cost and how the team's money would stand after it. Amounts are micro-dollars."""

    plan: Plan
    now: datetime
    bar: MoneyBar | None
    limits: list[LimitStatus]

    @property
    def stops_at(self) -> datetime:
        """When the provider would end it at the latest, if it were created now."""
        return self.now + timedelta(seconds=self.plan.ceiling_seconds)

    @property
    def left_after(self) -> int | None:
        return self.bar.limit.left - self.plan.worst_case if self.bar else None

    @property
    def fits(self) -> bool:
        return not any(self._is_beyond(limit) for limit in self.limits if limit.action == LimitAction.BLOCK)

    @property
    def needs_approval(self) -> bool:
        return any(self._is_beyond(limit) for limit in self.limits if limit.action == LimitAction.REQUIRE_APPROVAL)

    @property
    def uploads_data(self) -> bool:
        return self.plan.packing_path != PackingPath.HOSTED

    @property
    def packing_label(self) -> str:
        return str(PackingPath(self.plan.packing_path).label)

    @property
    def destination_label(self) -> str:
        return str(Destination(self.plan.destination).label)

    def _is_beyond(self, limit: LimitStatus) -> bool:
        return self.plan.worst_case > limit.left or limit.left == 0


def quote(caller: Caller, spec: JobSpec, *, now: datetime) -> Quote:
    """Work out what this job would cost; nothing is written and nobody is asked. Raises the refusals of planning."""
    plan = planning.plan(caller, spec, now=now)
    limits = billing.statuses(team=caller.team, user=caller.user, now=now)
    return Quote(plan=plan, now=now, bar=money_bar.tightest(limits), limits=limits)


def beginning(caller: Caller, asked: QueryDict) -> dict[str, Any]:
    """What a fresh form holds: the team's first config, or the job that shall run again (`?from=`).

    Raises NotPermitted where the team hides that job's config from the caller, Job.DoesNotExist for one that is not the team's.
    """
    if job_id := asked.get("from"):
        return _again(caller, caller.team.jobs.visible().select_related("dataset_version__dataset", "trainer").get(job_id=job_id))
    configs = list(caller.team.configs.values_list("name", flat=True)[:1])
    chosen = {name: value for name in ("config_name", "dataset") if (value := asked.get(name))}
    return {"config_name": configs[0] if configs else "", **chosen}


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
        "destination": job.destination,
        "hub_model_id": job.hub_model_id,
        "run_name": job.run_name,
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
            "duration": row.duration.replace(" to ", "\u2013"),
            "low": row.usd[0] * MICROS_PER_USD,
            "high": row.usd[1] * MICROS_PER_USD,
        }
        for row in TYPICAL_COSTS
    ]


def new_key() -> str:
    """Ties all sendings of one form to one job, so that a double click buys nothing twice."""
    return f"form-{uuid.uuid4().hex}"
