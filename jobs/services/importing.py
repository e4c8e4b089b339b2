"""Runs that were started elsewhere on the team's account: found at the provider and kept as jobs of the team.

We did not admit them, so nothing is held for them and the ledger does not know them; what they cost is worked out for
display. What carries the mark of one of our jobs, or may have carried it, is left to the launcher.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit, credentials
from accounts.callers import Caller
from accounts.models import Credential, CredentialKind
from billing import pricebook
from billing.models import PriceLine
from billing.pricebook import UnknownHardware
from jobs import trainingconfigs
from jobs.models import Job, JobProgress, LaunchIntent, Trainer
from jobs.models.job import Destination, IntentOutcome, PackingPath
from jobs.replicate import inputs
from jobs.replicate.gateway import Gateway, ReplicateError
from jobs.replicate.predictions import Prediction
from jobs.services import progress, provider
from jobs.states import State

log = structlog.get_logger(__name__)

MOST_PREDICTIONS = 100
# Replicate lists the runs of a time; there is no older account.
SINCE = timedelta(days=365)
CLOCK_MARGIN = timedelta(minutes=1)
SHORTEST_CEILING_SECONDS = 5
LONGEST_CEILING_SECONDS = 86_400

SHARED = "New jobs are looked for only on a team's own account, and this team works with the installation's token."
NO_TOKEN = "New jobs are not looked for: the team has no Replicate token."  # noqa: S105 - a sentence
AWAY = "Replicate could not be asked for new jobs."


@dataclass(frozen=True)
class Discovered:
    """The jobs that were imported, and why none were looked for ("" if they were)."""

    jobs: list[Job]
    not_looked: str = ""

    @property
    def message(self) -> str:
        if self.not_looked:
            return self.not_looked
        count = len(self.jobs)
        return f"Discovered {count} new job{'s' * (count != 1)} from Replicate" if count else "No new job was found at Replicate"


def discover(caller: Caller) -> Discovered:
    """Import what was started elsewhere, of the account's 100 newest predictions. A provider that is away is no fault of the request.

    The account must be the team's own: on the installation's shared one, others' runs cannot be told from ours.
    """
    credential = credentials.find(team=caller.team, user=None, kind=CredentialKind.REPLICATE)
    if credential is None:
        return Discovered([], NO_TOKEN)
    if credential.team_id is None:
        return Discovered([], SHARED)
    trainers = _trainers()
    now = timezone.now()
    try:
        with provider.gateway(team=caller.team, credential=credential, retries=provider.AWAITED, is_urgent=True) as replicate:
            found = list(_foreign(replicate, trainers, now=now))
    except ReplicateError as error:
        log.warning("import.failed", team=caller.team.slug, reason=str(error))
        return Discovered([], AWAY)
    # The oldest first, so that the numbers of the rows run as their times do.
    made = [_import(caller, credential, trainers[str(item.model)], item, now=now) for item in reversed(found)]
    return Discovered([job for job in made if job is not None])


def _trainers() -> dict[str, Trainer]:
    """The catalogue by model; of several trainers with one model the default is meant, then one that is on offer."""
    rows = Trainer.objects.order_by("is_default", "is_offered", "-pk")
    return {row.model: row for row in rows}


def _foreign(replicate: Gateway, trainers: dict[str, Trainer], *, now: datetime) -> Iterator[Prediction]:
    """The predictions of catalogued trainers that no job of this installation has or may have."""
    newest = list(islice(replicate.predictions(created_after=now - SINCE), MOST_PREDICTIONS))
    known = set(Job.objects.filter(prediction_id__in=[item.id for item in newest]).values_list("prediction_id", flat=True))
    for item in newest:
        if item.model not in trainers or item.id in known or not item.is_known:
            continue
        if not item.input and not item.data_removed:  # a list may leave the input out; the prediction itself does not
            item = replicate.prediction(item.id)
        if not _may_be_ours(item):
            yield item


def _may_be_ours(item: Prediction) -> bool:
    """Whether it carries the mark of one of our jobs, or was made while a call of ours was under way and shows no mark any more."""
    if (named := inputs.marker_of(item)) is not None:
        return Job.objects.filter(job_id=named).exists()
    if not item.data_removed:
        return False
    return any(
        item.created_at is None or intent.first_call_at - CLOCK_MARGIN <= item.created_at <= _given_up_for_good(intent)
        for intent in LaunchIntent.objects.filter(
            job__prediction_id=None, version=item.version or "", outcome__in=[IntentOutcome.OPEN, IntentOutcome.ABANDONED]
        )
    )


def _given_up_for_good(intent: LaunchIntent) -> datetime:
    return (intent.given_up_at or timezone.now()) + timedelta(seconds=settings.NOT_FOUND_AFTER_SECONDS)


def _import(caller: Caller, credential: Credential, trainer: Trainer, item: Prediction, *, now: datetime) -> Job | None:
    """Keep one run as a job, with what the provider says of it; None if another sync was first, or nobody knows a price for it."""
    created = item.created_at or now
    line = _price_line(trainer, created, now=now)
    if line is None:
        log.error("import.without_price", team=caller.team.slug, prediction=item.id, reason=trainer.hardware)
        return None
    try:
        with transaction.atomic():
            job = _write(caller, credential, trainer, item, line, created=created)
            progress.record(job, item, cause="sync", now=now)
            job.refresh_from_db()
            audit.record(
                team=caller.team, caller=caller, event_type="job.imported",
                action=f"Found {job.job_id} at Replicate, where it was started elsewhere", target_type="job", target_id=job.job_id,
                after={"prediction": item.id, "state": job.state},
            )  # fmt: skip
    except IntegrityError:
        if not Job.objects.filter(prediction_id=item.id).exists():
            raise
        # Another team with a token of the same account, or another request, has it now.
        return None
    log.info("job.imported", team=caller.team.slug, job=job.job_id, prediction=item.id, state=job.state)
    return job


def _write(caller: Caller, credential: Credential, trainer: Trainer, item: Prediction, line: PriceLine, *, created: datetime) -> Job:
    """The row, in the state from which every word of the provider leads on; `record` takes it there in the same transaction."""
    given = item.input
    config = _config(given)
    ceiling = _ceiling(item, created)
    job = Job.objects.create(
        team=caller.team,
        submitted_by=caller.user,
        token=caller.token,
        config=config,
        run_name=str(config.get("tracker_run_name") or "")[:200],
        packing_path=PackingPath.HOSTED if given.get("dataloader_json") else PackingPath.ARCHIVE,
        trainer=trainer,
        version=(item.version or "")[:64],
        destination=Destination.HUB if given.get("hub_model_id") else Destination.S3,
        hub_model_id=str(given.get("hub_model_id") or "")[:200],
        credential=credential,
        metadata={"imported": True},
        price_line=line,
        ceiling_seconds=ceiling,
        stop_after_seconds=ceiling,
        state=State.UPLOADING,
        submitted_at=created,
        prediction_id=item.id,
        created_at_provider=created,
    )
    JobProgress.objects.create(job=job, total_steps=_steps(config))
    return job


def _price_line(trainer: Trainer, created: datetime, *, now: datetime) -> PriceLine | None:
    """The price of that day; today's for a run from before our price book."""
    for day in (created, now):
        try:
            return pricebook.line_for(hardware=trainer.hardware, on=day)
        except UnknownHardware:
            continue
    return None


def _config(given: dict[str, Any]) -> dict[str, Any]:
    """The settings as far as they may be shown: whoever wrote them may have written a token into them."""
    try:
        said = json.loads(given.get("config_json") or "{}")
        config = trainingconfigs.normalise(said) if isinstance(said, dict) else {}
    except (TypeError, ValueError, RecursionError):
        return {}
    steps = given.get("max_train_steps")
    if isinstance(steps, int) and not isinstance(steps, bool):
        config["max_train_steps"] = steps
    return trainingconfigs.without_secrets(config)


def _steps(config: dict[str, Any]) -> int | None:
    steps = config.get("max_train_steps")
    return steps if isinstance(steps, int) and not isinstance(steps, bool) and 0 < steps < 2**31 else None


def _ceiling(item: Prediction, created: datetime) -> int:
    """Seconds from its creation to its deadline; the longest where it has none, since nobody asked us to stop it."""
    if item.deadline is None:
        return LONGEST_CEILING_SECONDS
    return max(SHORTEST_CEILING_SECONDS, min(LONGEST_CEILING_SECONDS, round((item.deadline - created).total_seconds())))
