"""What a team's own runs tell of the next one: the figures of those that are like it, given to billing's estimates."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from accounts.models import Team
from billing import estimates
from billing.estimates import FEWEST_RUNS, Estimate, PastRun
from billing.models import PriceLine
from jobs import trainingconfigs
from jobs.models import Trainer
from jobs.models.catalogue import Provider
from jobs.models.job import JobQuerySet
from jobs.states import State

# The newest of them: trainers change, and an answer must not wait for all that ever ran.
LOOKED_AT = 200
MOST_RUNS = 50
# A run of ten times the steps tells little: its start-up and its validations weigh otherwise.
REACH = 4


@dataclass(frozen=True)
class Known:
    """A run of the team that completed, on the same hardware and with the same model."""

    run: PastRun
    trainer: int
    resolution: str
    images_a_step: int | None


def likely(team: Team, *, trainer: Trainer, price_line: PriceLine, config: dict[str, Any], steps: int) -> Estimate:
    """What this config likely costs on this trainer: by the team's runs that are most like it and enough, else by the table.

    `config` is a normalised one without problems. One query, whatever the team has run.
    """
    likeness, alike = "", list[Known]()
    for likeness, alike in _by_likeness(_known(team, price_line=price_line, config=config, steps=steps), trainer, config):  # noqa: B007
        if len(alike) >= FEWEST_RUNS:
            break
    return estimates.likely(
        price_line=price_line,
        model_family=trainingconfigs.model_family(config),
        kind=trainingconfigs.model_kind(config),
        steps=steps,
        runs=[known.run for known in alike[:MOST_RUNS]],
        likeness=likeness,
    )


def lasting(team: Team, *, price_line: PriceLine) -> Estimate | None:
    """What the team's runs on this hardware have cost, for one of which nothing is known yet; None while there are none."""
    rows = _completed(team, price_line).values_list("billed_seconds", flat=True)[:MOST_RUNS]
    runs = [PastRun(seconds=float(seconds or 0), steps=1) for seconds in rows]
    return estimates.lasting(price_line=price_line, runs=runs, likeness=f"on {price_line.hardware}") if runs else None


def _completed(team: Team, price_line: PriceLine) -> JobQuerySet:
    """Runs that were paid for to their end. What was started elsewhere has no hold, and a rehearsal's clock is not Replicate's."""
    ended = team.jobs.filter(state=State.COMPLETED, provider=Provider.REPLICATE, hold__isnull=False, billed_seconds__gt=Decimal(0))
    return ended.filter(price_line__hardware=price_line.hardware).order_by("-ended_at")


def _known(team: Team, *, price_line: PriceLine, config: dict[str, Any], steps: int) -> list[Known]:
    alike = _completed(team, price_line).filter(
        model_family=trainingconfigs.model_family(config),
        model_kind=trainingconfigs.model_kind(config),
        progress__total_steps__range=(max(1, steps // REACH), steps * REACH),
    )
    rows = alike.values_list("billed_seconds", "progress__total_steps", "trainer_id", "resolution", "images_a_step")[:LOOKED_AT]
    return [
        Known(PastRun(seconds=float(seconds or 0), steps=trained or 1), trainer=trainer, resolution=resolution, images_a_step=images)
        for seconds, trained, trainer, resolution, images in rows
    ]


def _by_likeness(known: list[Known], trainer: Trainer, config: dict[str, Any]) -> Iterator[tuple[str, list[Known]]]:
    """The runs that are most like it, then what there is with one likeness less at a time; with the words for it."""
    resolution, images = trainingconfigs.resolution_words(config), trainingconfigs.images_a_step(config)
    as_large = [run for run in known if run.resolution == resolution]
    as_many = [run for run in as_large if run.images_a_step == images]
    yield f"on {trainer.label} with the same model, resolution and batch", [run for run in as_many if run.trainer == trainer.pk]
    yield f"on {trainer.hardware} with the same model, resolution and batch", as_many
    yield f"on {trainer.hardware} with the same model and resolution", as_large
    yield f"on {trainer.hardware} with the same model", known
