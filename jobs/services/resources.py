"""What a job uses, in the names that a team's resource rules know it by."""

from accounts import resource_rules
from accounts.callers import Caller
from accounts.models import ResourceType
from jobs.models.job import Destination
from jobs.services import provider
from jobs.specs import JobSpec, Plan


def require_allowed(caller: Caller, spec: JobSpec, plan: Plan) -> None:
    """Raises resource_rules.ResourceDenied where the rules of the caller's role keep a job from what it would use.

    Hardware goes by its profile, the provider's name and its label; the place of the result is the Hub's repository,
    `s3://bucket/prefix`, or `local`.
    """
    trainer = plan.trainer
    resource_rules.require(caller, ResourceType.CONFIG, [plan.config_name])
    resource_rules.require(caller, ResourceType.HARDWARE, [trainer.profile, trainer.hardware, trainer.label, trainer.hardware_type])
    resource_rules.require(caller, ResourceType.PROVIDER, [spec.provider])
    resource_rules.require(caller, ResourceType.OUTPUT_PATH, [_place(caller, plan)])


def _place(caller: Caller, plan: Plan) -> str:
    if plan.destination == Destination.HUB:
        return plan.hub_model_id
    if plan.destination == Destination.S3:
        own = provider.settings_of(caller.team).s3_delivery
        path = "/".join(part for part in (own["bucket"], str(own.get("path_prefix", "")).strip("/")) if part)
        return f"s3://{path}"
    return str(plan.destination)
