"""The objects in the bucket `outputs`: a job's artifacts, taken in, found, listed, deleted."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import IO, Any

import structlog
from django.core.files.base import File
from django.db import connection, transaction
from django.db.models import F, QuerySet, Value
from django.db.models.functions import Collate, Concat
from django.utils import timezone

from accounts import audit
from jobs.models import Artifact, Job, StorageKey
from jobs.models.results import ArtifactKind
from jobs.storage import files
from jobs.storage.body import Body
from jobs.storage.errors import KeyEnded, NoSuchKey, PreconditionFailed
from jobs.storage.files import Staged

log = structlog.get_logger(__name__)

MAX_OBJECT_BYTES = 50 * 1024**3
IMAGES = {".avif", ".gif", ".jpeg", ".jpg", ".png", ".webp"}
CHECKPOINT = re.compile(r"checkpoint-[^/]+")
RECEIVED = "storage"


@dataclass(frozen=True)
class StoredObject:
    """One object as S3 describes it. `name` begins with the job's id; `open` gives a binary file."""

    name: str
    size: int
    etag: str
    modified_at: datetime
    content_type: str
    open: Callable[[], IO[bytes] | File]
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Arrival:
    """What is known of an object that has come in whole."""

    size: int
    sha256: str
    etag: str
    content_type: str
    metadata: dict[str, str]


def kind_of(key: str) -> ArtifactKind:
    """What a file of a result is, by its name: SimpleTuner saves checkpoints in folders `checkpoint-<step>`."""
    path = PurePosixPath(key)
    if path.suffix.lower() in IMAGES:
        return ArtifactKind.SAMPLE
    if any(CHECKPOINT.fullmatch(part) for part in path.parts[:-1]):
        return ArtifactKind.CHECKPOINT
    return ArtifactKind.WEIGHTS if path.suffix.lower() == ".safetensors" else ArtifactKind.OTHER


def open_artifact(artifact: Artifact) -> File:
    """The artifact's bytes as a binary file; the caller closes it. Raises FileNotFoundError."""
    return files.artifacts().open(artifact.stored_as, "rb")


def give_connection_back() -> None:
    """Return this thread's database connection to the pool: slow bodies must not hold all of them."""
    if not connection.in_atomic_block:
        connection.close()


def put(pair: StorageKey, key: str, body: Body, *, content_type: str, metadata: dict[str, str], only_if_absent: bool = False) -> Artifact:
    """Take in one object as one body. Raises what `keep` and the body raise; then nothing is stored."""
    give_connection_back()
    staged = Staged(body)
    arrival = Arrival(
        size=body.tally.size,
        sha256=body.tally.digest("sha256").hex(),
        etag=body.tally.digest("md5").hex(),
        content_type=content_type,
        metadata=metadata,
    )
    return keep(pair, key, staged, arrival, only_if_absent=only_if_absent)


def keep(
    pair: StorageKey,
    key: str,
    staged: Staged,
    arrival: Arrival,
    *,
    only_if_absent: bool = False,
    finish: Callable[[], None] = lambda: None,
) -> Artifact:
    """Put a staged file in its place and write its row, both or neither; it replaces an object of that name.

    The lock on the key pair lets a job's files in one by one, and none after the pair was revoked. `finish` runs in
    the same transaction. Raises KeyEnded, PreconditionFailed, StorageFull, InvalidName.
    """
    with staged, transaction.atomic():
        lock(pair)
        if only_if_absent and pair.job.artifacts.filter(key=key).exists():
            raise PreconditionFailed("There is an object of that name already.")
        artifact = _place(pair.job, key, staged, arrival)
        finish()
    return artifact


def store(job: Job, key: str, staged: Staged, arrival: Arrival) -> Artifact:
    """Keep a file that we fetched ourselves as an artifact. Raises StorageFull, InvalidName."""
    with staged, transaction.atomic():
        return _place(job, key, staged, arrival)


def _place(job: Job, key: str, staged: Staged, arrival: Arrival) -> Artifact:
    """Put the staged file in its place and write its row, in the caller's transaction."""
    old = job.artifacts.filter(key=key).first()
    stored_as = staged.place(f"{job.team.slug}/{job.job_id}/{key}")
    artifact, _ = job.artifacts.update_or_create(
        key=key,
        defaults={
            "kind": kind_of(key),
            "size_bytes": arrival.size,
            "sha256": arrival.sha256,
            "etag": arrival.etag,
            "content_type": arrival.content_type,
            "metadata": arrival.metadata,
            "stored_as": stored_as,
            "stored_at": timezone.now(),
        },
    )
    if old and old.stored_as != stored_as:
        transaction.on_commit(lambda: files.remove(old.stored_as), robust=True)
    _tell_of_first(job, artifact)
    log.info("artifact.received", team=job.team.slug, job=job.job_id, bytes=artifact.size_bytes, kind=artifact.kind)
    return artifact


def delete(pair: StorageKey, key: str) -> None:
    """Delete an object; that there is none is no error, as in S3. Raises KeyEnded."""
    with transaction.atomic():
        lock(pair)
        artifact = pair.job.artifacts.filter(key=key).first()
        if artifact is not None:
            artifact.delete()
            files.remove(artifact.stored_as)
            audit.record(
                team=pair.job.team, event_type="job.artifact_deleted", action=f"The trainer deleted the result file {key}",
                target_type="job", target_id=pair.job.job_id, before={"sha256": artifact.sha256, "size_bytes": artifact.size_bytes},
            )  # fmt: skip


def lock(pair: StorageKey) -> None:
    """Hold the key pair until the transaction is over. Raises KeyEnded if it was revoked or ran out meanwhile."""
    usable = StorageKey.objects.usable(now=timezone.now()).select_for_update(of=("self",), no_key=True)
    if usable.filter(pk=pair.pk).first() is None:
        raise KeyEnded("This key pair is no longer valid: its job has ended, or its time is over. Nothing was stored.")


def find(job: Job, key: str) -> StoredObject:
    """Raises NoSuchKey."""
    artifact = job.artifacts.filter(key=key).first()
    if artifact is None:
        raise NoSuchKey("There is no such object.")
    artifact.job = job
    return _described(artifact)


def listed(jobs: QuerySet[Job], *, prefix: str, after: str) -> Iterator[StoredObject]:
    """The objects of these jobs whose names begin with `prefix` and come after `after`, in S3's order (that of UTF-8 bytes)."""
    named = Artifact.objects.annotate(name=Collate(Concat(F("job__job_id"), Value("/"), F("key")), "C"))
    found = named.filter(job__in=jobs, name__startswith=prefix, name__gt=after).order_by("name").select_related("job")
    return (_described(artifact) for artifact in found.iterator(chunk_size=1000))


def _described(artifact: Artifact) -> StoredObject:
    return StoredObject(
        name=f"{artifact.job.job_id}/{artifact.key}",
        size=artifact.size_bytes,
        etag=artifact.etag,
        modified_at=artifact.stored_at,
        content_type=artifact.content_type,
        open=lambda: open_artifact(artifact),
        metadata=artifact.metadata,
    )


def _tell_of_first(job: Job, artifact: Artifact) -> None:
    """Note a job's first file in its timeline and in the audit trail."""
    if job.events.filter(cause=RECEIVED).exists():
        return
    job.events.create(cause=RECEIVED, detail=f"The first file of the result came in: {artifact.key}"[:500])
    described: dict[str, Any] = {"name": artifact.key, "size_bytes": artifact.size_bytes, "sha256": artifact.sha256}
    audit.record(
        team=job.team,
        event_type="job.artifact_received",
        action=f"Received the first file of {job.job_id}",
        target_type="job",
        target_id=job.job_id,
        after=described,
    )
