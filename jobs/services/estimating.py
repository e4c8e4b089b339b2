"""What a run would likely cost and what it could cost at most, before anybody submits it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from accounts.callers import Caller
from billing import pricebook
from billing.estimates import Estimate
from billing.models import PriceLine
from jobs import trainingconfigs
from jobs.models import Trainer
from jobs.services import experience, planning, pricing, provider
from jobs.services.pricing import Price


@dataclass(frozen=True, kw_only=True)
class Quote:
    """None where nothing is known: without steps there is no price, and without a run of the team no estimate either."""

    trainer: Trainer
    price_line: PriceLine
    estimate: Estimate | None = None
    price: Price | None = None
    data_bytes: int = 0
    message: str


def estimate(
    caller: Caller,
    *,
    config: dict[str, Any],
    max_train_steps: int | None = None,
    max_seconds: int | None = None,
    stop_after_seconds: int | None = None,
    hardware_profile: str = "",
    dataset: str = "",
    now: datetime,
) -> Quote:
    """Estimate a run from its config as a submission would; without steps from how long the team's runs on this hardware took.

    Raises InvalidConfig for a config that cannot be, UnknownHardware, NotFound for the dataset.
    """
    own = provider.settings_of(caller.team)
    trainer = planning.trainer_for(hardware_profile or own.hardware_profile)
    data_bytes = planning.version_named(caller.team, dataset).size_bytes if dataset else 0
    normal = _checked(config)
    steps = max_train_steps or (trainingconfigs.max_train_steps(normal) if normal else 0)
    if not steps:
        return _of_any_run(caller, trainer, data_bytes, now=now)
    price = pricing.price(
        caller.team,
        own=own,
        trainer=trainer,
        config=normal,
        steps=steps,
        max_seconds=max_seconds,
        stop_after_seconds=stop_after_seconds,
        now=now,
    )
    return Quote(
        trainer=trainer,
        price_line=price.line,
        estimate=price.estimate,
        price=price,
        data_bytes=data_bytes,
        message=price.estimate.source,
    )


def _of_any_run(caller: Caller, trainer: Trainer, data_bytes: int, *, now: datetime) -> Quote:
    line = pricebook.line_for(hardware=trainer.hardware, on=now)
    known = experience.lasting(caller.team, price_line=line)
    nothing = "No run of this team has completed on this hardware yet. Send config for an estimate by its steps."
    return Quote(trainer=trainer, price_line=line, estimate=known, data_bytes=data_bytes, message=known.source if known else nothing)


def _checked(config: dict[str, Any]) -> dict[str, Any]:
    """The config in one spelling, {} for none; what is not said yet may be missing."""
    if not config:
        return {}
    try:
        normal, _ = trainingconfigs.portable(trainingconfigs.normalise(config), goes_to_hub=True)
    except trainingconfigs.ConfigProblems as error:
        raise planning.InvalidConfig(str(error), field="config") from None
    wrong = [problem for problem in trainingconfigs.problems(normal) if problem.kind != "missing"]
    if wrong:
        raise planning.InvalidConfig(wrong[0].message, field=f"config.{wrong[0].key}")
    return trainingconfigs.completed(normal)
