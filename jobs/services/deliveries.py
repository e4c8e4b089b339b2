"""Results that the trainer took elsewhere, looked at: what lies in the bucket or the repository, and whether it is whole.

It follows the end of the job and holds nothing up: the job is settled and cleaned up behind meanwhile.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts import audit, credentials
from accounts.callers import Caller
from accounts.errors import Conflict
from accounts.models import CredentialHealth
from accounts.roles import Right
from jobs import tasks
from jobs.destinations import safetensors
from jobs.destinations.errors import BadKey, Forbidden, Missing, Refused, Unreachable
from jobs.destinations.hub import Hub, Repository
from jobs.destinations.shelf import File, Shelf, digest
from jobs.models import Job, ResultDelivery
from jobs.models.job import Destination
from jobs.models.results import ArtifactKind, DeliveryState
from jobs.services import buckets, provider
from jobs.services.leases import lease
from jobs.states import State
from jobs.storage.objects import kind_of

log = structlog.get_logger(__name__)

# A destination that is away is asked again with doubling pauses, for so long.
FIRST_PAUSE = timedelta(seconds=10)
LONGEST_PAUSE = timedelta(minutes=30)
KEEPS_TRYING = timedelta(hours=6)
# A trainer's last file may still be on its way when the provider says that the run has ended.
LAST_FILES = timedelta(seconds=10)
# What was read until then is kept, and the next task goes on from there: a task has half an hour.
SLICE_SECONDS = 15 * 60
# So many files are kept by name; their number and size count all.
MOST_LISTED = 500


class NothingToCheck(Conflict):
    """No result of this job went elsewhere."""

    code = "nothing_to_check"


class NotWhole(Exception):
    """The files are not all there, or not whole; the text says what is wrong."""


class GoesOn(Exception):
    """There is more to read than one task may."""


def begin(delivery: ResultDelivery, *, now: datetime) -> None:
    """Take the trainer's word down, and have it looked at."""
    delivery.receipt = {"said_by_trainer": delivery.job.output_url}
    _open(delivery, now=now)


def ask_again(job: Job, *, caller: Caller) -> list[ResultDelivery]:
    """Look at a job's result again because somebody asks; returns the deliveries that are looked at now.

    Raises NotPermitted, NothingToCheck.
    """
    caller.require(Right.SUBMIT, permission="job.submit")
    now = timezone.now()
    with transaction.atomic():
        found = [
            delivery
            for delivery in job.result_deliveries.select_for_update(of=("self",), no_key=True).select_related("job__team")
            if delivery.may_be_checked or (delivery.state == DeliveryState.DELIVERING and delivery.is_elsewhere)
        ]
        if job.state != State.COMPLETED or not found:
            raise NothingToCheck("No result of this job went to a bucket or to the Hub.")
        for delivery in found:
            _open(delivery, now=now)
        audit.record(
            team=job.team,
            caller=caller,
            event_type="delivery.asked",
            action=f"Had the result of {job.job_id} looked at again",
            target_type="job",
            target_id=job.job_id,
        )
    return found


def due(*, now: datetime) -> list[ResultDelivery]:
    """Deliveries that are to be looked at now and that nobody has in hand."""
    waiting = ResultDelivery.objects.filter(state=DeliveryState.DELIVERING).unleased(now=now)
    return list(waiting.order_by("asked_at")[:100])


def check(delivery: ResultDelivery) -> None:
    """Look at the destination, and say whether the result is there. Safe to lose, to repeat and to be late."""
    with lease(delivery) as ours:
        if not ours:
            return
        delivery.refresh_from_db()
        if delivery.state != DeliveryState.DELIVERING:
            return
        now = timezone.now()
        if delivery.asked_at is None or now >= delivery.asked_at + KEEPS_TRYING:
            _close(delivery, DeliveryState.REPORTED, error=f"Nobody could look for six hours. {delivery.error}")
            return
        delivery.attempts += 1
        # Written before the look: one that ends in no word, with its worker or by a fault of ours, is made again after a pause.
        delivery.try_after = now + _pause(delivery.attempts)
        delivery.save(update_fields=["attempts", "try_after"])
        _conclude(delivery, now=now)


def _conclude(delivery: ResultDelivery, *, now: datetime) -> None:
    """Look, and write down what that says about the delivery."""
    try:
        with _shelf(delivery) as (shelf, addresses):
            _examine(delivery, shelf, addresses)
    except GoesOn:
        _try_again(delivery, at=now, error="")
    except Unreachable as error:
        _try_again(delivery, at=now + _pause(delivery.attempts), error=str(error))
    except (NotWhole, Missing) as error:
        if delivery.job.ended_at and now < delivery.job.ended_at + LAST_FILES:
            _try_again(delivery, at=now + LAST_FILES, error=str(error))
        else:
            _close(delivery, DeliveryState.FAILED, error=str(error))
    except Forbidden as error:
        _close(delivery, DeliveryState.REPORTED, error=f"{error} It may not list or read there, so nobody has looked.")
    except Refused as error:
        if isinstance(error, BadKey):
            _note(delivery, CredentialHealth.REFUSED, reason=str(error), now=now)
        _close(delivery, DeliveryState.FAILED, error=str(error))
    else:
        _note(delivery, CredentialHealth.GOOD, now=now)
        _close(delivery, DeliveryState.DELIVERED, at=timezone.now())


@contextmanager
def _shelf(delivery: ResultDelivery) -> Iterator[tuple[Shelf, dict[str, str]]]:
    """Where the job's files lie, and the addresses of it that the receipt shows. Raises the errors of jobs.destinations."""
    job = delivery.job
    if delivery.destination == Destination.S3:
        with buckets.opened(job) as bucket:
            place = buckets.place_of(job)
            address = place.address_of(place.prefix_of(job.job_id))
            yield bucket, {"url": address, "files_url": address}
    else:
        token = job.hub_credential.reveal() if job.hub_credential else ""
        with Hub(endpoint=settings.HF_ENDPOINT, token=token, outbound=provider.outbound(job.team)) as hub:
            repository = _repository(hub, delivery)
            yield repository, {"url": repository.address, "files_url": repository.files_address, "revision": repository.revision}


def _repository(hub: Hub, delivery: ResultDelivery) -> Repository:
    """The repository at the commit at which the result was seen, since other jobs may push to it later; at first the newest.

    Whoever rewrites a repository's history takes the commit away; then the newest counts again.
    """
    asked, kept = delivery.job.hub_model_id, delivery.receipt
    if kept.get("weights") and kept.get("revision"):
        with suppress(Missing):
            return hub.repository(asked, revision=kept["revision"])
    return hub.repository(asked)


def _examine(delivery: ResultDelivery, shelf: Shelf, addresses: dict[str, str]) -> None:
    """Write the receipt of all files with their hashes. Raises NotWhole, GoesOn, and the errors of jobs.destinations."""
    files = sorted(shelf.files(), key=lambda file: (kind_of(file.key) != ArtifactKind.WEIGHTS, file.key))
    weights = [file for file in files if kind_of(file.key) == ArtifactKind.WEIGHTS]
    listed = files[: max(MOST_LISTED, len(weights))]
    known = {(item["key"], item["tag"], item["size_bytes"]): item["sha256"] for item in delivery.receipt.get("listing", ())}
    delivery.receipt = {
        "said_by_trainer": delivery.receipt.get("said_by_trainer", ""),
        **addresses,
        "files": len(files),
        "size_bytes": sum(file.size_bytes for file in files),
        "weights": [],
        "listing": [_entry(file, known.get((file.key, file.tag, file.size_bytes), "")) for file in listed],
    }
    if not weights:
        raise NotWhole("No weights are there." if files else "Nothing is there.")
    for file in weights:
        if problem := safetensors.problem(shelf, file):
            raise NotWhole(problem)
    _read(shelf, [(file, entry) for file, entry in zip(listed, delivery.receipt["listing"], strict=True) if not entry["sha256"]])
    delivery.receipt["weights"] = [
        {"key": item["key"], "sha256": item["sha256"], "size_bytes": item["size_bytes"]}
        for item in delivery.receipt["listing"]
        if item["kind"] == ArtifactKind.WEIGHTS
    ]


def _read(shelf: Shelf, unread: list[tuple[File, dict[str, Any]]]) -> None:
    """Write the hash of each file into its entry; one at least, then as many as a task has time for. Raises GoesOn."""
    give_up = time.monotonic() + SLICE_SECONDS
    for number, (file, entry) in enumerate(unread):
        if number and time.monotonic() > give_up:
            raise GoesOn
        entry["sha256"] = digest(shelf, file)


def _entry(file: File, sha256: str) -> dict[str, Any]:
    """A line of the receipt's listing; without a hash until the file was read."""
    return {"key": file.key, "kind": kind_of(file.key).value, "size_bytes": file.size_bytes, "sha256": sha256, "tag": file.tag}


def _open(delivery: ResultDelivery, *, now: datetime) -> None:
    """Have it looked at as soon as somebody can."""
    delivery.state, delivery.error, delivery.attempts = DeliveryState.DELIVERING, "", 0
    delivery.asked_at, delivery.delivered_at, delivery.try_after = now, None, None
    delivery.save(update_fields=["state", "error", "attempts", "asked_at", "delivered_at", "try_after", "receipt"])
    transaction.on_commit(lambda: tasks.deliver.delay(delivery_pk=delivery.pk), robust=True)


def _try_again(delivery: ResultDelivery, *, at: datetime, error: str) -> None:
    delivery.error, delivery.try_after = error[:500], at
    delivery.save(update_fields=["error", "try_after", "receipt"])
    log.info("delivery.waits", team=delivery.job.team.slug, job=delivery.job.job_id, reason=error)


def _close(delivery: ResultDelivery, state: DeliveryState, *, error: str = "", at: datetime | None = None) -> None:
    delivery.state, delivery.error, delivery.delivered_at = state, error[:500], at
    delivery.save(update_fields=["state", "error", "delivered_at", "receipt"])
    log.info("delivery.ended", team=delivery.job.team.slug, job=delivery.job.job_id, state=state.value)


def _pause(attempts: int) -> timedelta:
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempts - 1, 20))


def _note(delivery: ResultDelivery, health: CredentialHealth, *, reason: str = "", now: datetime) -> None:
    """Keep what the destination said of the key as its health, where that is news."""
    credential = delivery.job.s3_credential if delivery.destination == Destination.S3 else delivery.job.hub_credential
    if credential is not None and credential.health != health:
        credentials.mark(credential, health=health, reason=reason, now=now)
