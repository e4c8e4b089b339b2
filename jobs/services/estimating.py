"""What a run would likely cost and what it could cost at most, before anybody submits it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Avg, Count, DurationField, ExpressionWrapper, F

from accounts.callers import Caller
from billing import estimates, pricebook, prices
from billing.models import PriceLine
from jobs import trainingconfigs
from jobs.models import Trainer
from jobs.services import planning, provider
from jobs.states import State


@dataclass(frozen=True, kw_only=True)
class Quote:
    """Amounts in micro-dollars, None where nothing is known; `message` says what they rest on."""

    trainer: Trainer
    price_line: PriceLine
    likely: int | None = None
    seconds: float | None = None
    worst_case: int | None = None
    data_bytes: int = 0
    message: str


def estimate(
    caller: Caller,
    *,
    config: dict[str, Any],
    max_train_steps: int | None = None,
    max_seconds: int | None = None,
    hardware_profile: str = "",
    dataset: str = "",
    now: datetime,
) -> Quote:
    """Estimate a run from its config; without one from how long the team's runs on this trainer took.

    Raises InvalidConfig for a config that cannot be, UnknownHardware, NotFound for the dataset.
    """
    own = provider.settings_of(caller.team)
    trainer = planning.trainer_for(hardware_profile or own.hardware_profile)
    line = pricebook.line_for(hardware=trainer.hardware, on=now)
    data_bytes = planning.version_named(caller.team, dataset).size_bytes if dataset else 0
    normal = _checked(config)
    steps = max_train_steps or (trainingconfigs.max_train_steps(normal) if normal else 0)
    if not steps:
        return _by_experience(caller, trainer, line, data_bytes)
    likely = estimates.likely(
        price_line=line, model_family=trainingconfigs.model_family(normal), kind=trainingconfigs.model_kind(normal), steps=steps
    )
    longest = likely.high / prices.MICROS_PER_USD / float(line.usd_per_second)
    ceiling = planning.ceiling_for(max_seconds, own, likely_seconds=longest)
    return Quote(
        trainer=trainer,
        price_line=line,
        likely=likely.high,
        seconds=round(longest, 1),
        worst_case=prices.worst_case(usd_per_second=line.usd_per_second, seconds=ceiling + planning.MARGIN_SECONDS),
        data_bytes=data_bytes,
        message=likely.source,
    )


def _checked(config: dict[str, Any]) -> dict[str, Any]:
    """The config in one spelling, {} for none; what is not said yet may be missing."""
    if not config:
        return {}
    try:
        normal, _ = trainingconfigs.portable(trainingconfigs.normalise(config))
    except trainingconfigs.ConfigProblems as error:
        raise planning.InvalidConfig(str(error), field="config") from None
    wrong = [problem for problem in trainingconfigs.problems(normal) if problem.kind != "missing"]
    if wrong:
        raise planning.InvalidConfig(wrong[0].message, field=f"config.{wrong[0].key}")
    return trainingconfigs.completed(normal)


def _by_experience(caller: Caller, trainer: Trainer, line: PriceLine, data_bytes: int) -> Quote:
    took = ExpressionWrapper(F("ended_at") - F("started_at"), output_field=DurationField())
    ended = caller.team.jobs.filter(trainer=trainer, state=State.COMPLETED, started_at__isnull=False, provider="replicate")
    seen = ended.aggregate(count=Count("pk"), average=Avg(took))
    if not seen["count"] or seen["average"] is None:
        message = "No run of this team has completed on this hardware yet. Send config for an estimate by its steps."
        return Quote(trainer=trainer, price_line=line, data_bytes=data_bytes, message=message)
    seconds = seen["average"].total_seconds()
    return Quote(
        trainer=trainer,
        price_line=line,
        likely=round(seconds * float(line.usd_per_second) * prices.MICROS_PER_USD),
        seconds=round(seconds, 1),
        data_bytes=data_bytes,
        message=f"As long as {seen['count']} completed run{'s' * (seen['count'] != 1)} of this team on average.",
    )
