"""A team's own bucket: the one that a job was admitted with, and the test of the one that is saved or about to be."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from accounts.callers import Caller
from accounts.roles import Right
from jobs.destinations.bucket import Bucket, Place
from jobs.destinations.errors import DestinationError, Forbidden, Missing, Refused
from jobs.destinations.shelf import File
from jobs.models import Job
from jobs.services import provider, provider_settings

log = structlog.get_logger(__name__)

# Somebody waits for the answer, and their client gives up after half a minute.
PATIENCE_SECONDS = 10.0
CONTENT = b"Tunehouse put this here to see whether results can be stored. It may be deleted.\n"

UNREADABLE = "The key may write, but not read: results arrive, and nobody here can check them."
UNLISTED = "The key may write, but not list what is there: results arrive, and nobody here can check them."


@dataclass(frozen=True, kw_only=True)
class BucketTest:
    """What a test found: `error` says what is in the way of results, `notice` what is missing and not in their way."""

    success: bool
    error: str = ""
    notice: str = ""


def place_of(job: Job) -> Place:
    """The bucket that the job was admitted with, whatever the team's settings say by now.

    It was saved with the pair of keys. Raises Refused where it cannot be known any more.
    """
    if job.s3_credential is None:
        raise Refused("The job has no S3 keys.")
    # A pair that was saved without a place goes to the team's bucket.
    kept = job.s3_credential.details if job.s3_credential.details.get("bucket") else provider.settings_of(job.team).s3_delivery
    if not kept.get("bucket"):
        raise Refused("The job's bucket is not named anywhere any more.")
    return Place.of(kept)


def keys_of(job: Job) -> tuple[str, str]:
    """The access key and the secret that the job was admitted with; "" for what has been wiped."""
    access_key, _, secret_key = job.s3_credential.reveal().partition(":") if job.s3_credential else ("", "", "")
    return access_key, secret_key


def opened(job: Job) -> Bucket:
    """What lies below the job's prefix in its bucket. Raises the errors of jobs.destinations."""
    place = place_of(job)
    access_key, secret_key = keys_of(job)
    return Bucket(
        place, prefix=place.prefix_of(job.job_id), access_key=access_key, secret_key=secret_key, outbound=provider.outbound(job.team)
    )


def test(caller: Caller, given: dict[str, Any]) -> BucketTest:
    """Write, read, list and delete a small object where results would go; what is not given is as the team has it saved.

    Raises InvalidInput for values that cannot be any, addresses in private networks among them.
    """
    caller.require(Right.MANAGE, permission="admin.config")
    kept, access_key, secret_key = provider_settings.bucket_for_test(caller.team, given)
    place = Place.of(kept)
    outbound = provider.outbound(caller.team, patience_seconds=PATIENCE_SECONDS)
    # A folder of its own: its list is short however much lies in the bucket.
    prefix = place.prefix_of(f".tunehouse-test-{secrets.token_hex(8)}")
    try:
        with Bucket(place, prefix=prefix, access_key=access_key, secret_key=secret_key, outbound=outbound, attempts=1) as bucket:
            found = _probe(bucket)
    except DestinationError as error:
        found = BucketTest(success=False, error=str(error))
    log.info("bucket.tested", team=caller.team.slug, success=found.success, reason=found.error)
    return found


def _probe(bucket: Bucket) -> BucketTest:
    """Raises the errors of jobs.destinations for what is in the way of writing at all."""
    probe = File(key="probe.txt", size_bytes=len(CONTENT), tag="")
    try:
        bucket.put(probe.key, CONTENT)
    except Forbidden as error:
        return BucketTest(success=False, error=f"{error} It may not write there.")
    lacks = _forbidden(lambda: _read_back(bucket, probe), UNREADABLE) or _forbidden(lambda: _listed(bucket, probe), UNLISTED)
    left = _forbidden(lambda: bucket.delete(probe.key), "The key may not delete: the test's small object stays in the bucket.")
    return BucketTest(success=not lacks, error=lacks, notice=left)


def _forbidden(step: Callable[[], None], meaning: str) -> str:
    """What it means that the key may not take this step; "" where it may."""
    try:
        step()
    except Forbidden:
        return meaning
    return ""


def _read_back(bucket: Bucket, probe: File) -> None:
    if b"".join(bucket.pieces(probe)) != CONTENT:
        raise Refused("What was written to the bucket came back changed.")


def _listed(bucket: Bucket, probe: File) -> None:
    if not any(file.key == probe.key for file in bucket.files()):
        raise Missing("What was written to the bucket does not stand in its list.")
