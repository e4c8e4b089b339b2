"""Multipart uploads: parts wait in a hidden folder of the storage until they are joined to an object or thrown away."""

import hashlib
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from jobs.models import Artifact, MultipartPart, MultipartUpload, StorageKey
from jobs.storage import files, objects
from jobs.storage.body import READ_BYTES, Body
from jobs.storage.checksums import Tally
from jobs.storage.errors import InvalidName, InvalidPart, NoSuchUpload, PartsOutOfOrder, TooLarge
from jobs.storage.files import Staged
from jobs.storage.objects import MAX_OBJECT_BYTES, Arrival

log = structlog.get_logger(__name__)

# Source: Amazon S3 User Guide, "Amazon S3 multipart upload limits".
MAX_PARTS = 10_000
MAX_PART_BYTES = 5 * 1024**3
ABANDONED_AFTER = timedelta(days=1)


@dataclass(frozen=True)
class Asked:
    """A part as the call that completes an upload names it."""

    number: int
    etag: str


def begin(pair: StorageKey, key: str, *, content_type: str, metadata: dict[str, str]) -> MultipartUpload:
    return MultipartUpload.objects.create(
        storage_key=pair, upload_id=uuid.uuid4().hex, key=key, content_type=content_type, metadata=metadata, started_at=timezone.now()
    )


def find(pair: StorageKey, key: str, upload_id: str) -> MultipartUpload:
    """Raises NoSuchUpload."""
    upload = MultipartUpload.objects.filter(storage_key=pair, key=key, upload_id=upload_id).first() if upload_id.isalnum() else None
    if upload is None:
        raise _gone()
    return upload


def part_number(text: str) -> int:
    """Raises InvalidName."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= MAX_PARTS:
        raise InvalidName(f"partNumber must be a number from 1 to {MAX_PARTS}.")
    return int(text)


def add_part(upload: MultipartUpload, number: int, body: Body) -> MultipartPart:
    """Take in one part; it replaces an earlier one of that number. Raises NoSuchUpload, StorageFull and what the body raises."""
    objects.give_connection_back()
    with Staged(body) as staged, transaction.atomic():
        objects.lock(upload.storage_key)
        # A part that comes in while its upload ends must not be left behind.
        if not MultipartUpload.objects.select_for_update(no_key=True).filter(pk=upload.pk).exists():
            raise _gone()
        old = upload.parts.filter(number=number).first()
        part, _ = upload.parts.update_or_create(
            number=number,
            defaults={
                "size_bytes": body.tally.size,
                "etag": body.tally.digest("md5").hex(),
                "stored_as": staged.place(f"{_folder(upload)}/{number:05d}-{uuid.uuid4().hex[:8]}"),
            },
        )
        if old:
            transaction.on_commit(lambda: files.remove(old.stored_as), robust=True)
    return part


def complete(upload: MultipartUpload, asked: list[Asked], *, digests: dict[str, bytes], only_if_absent: bool) -> Artifact:
    """Join the parts that are named, whatever their order of arrival and their sizes, and drop the others.

    `digests` are checksums of the whole object, if the client sent any. The ETag is S3's: the MD5 of the parts' MD5s, and their number.
    Raises InvalidPart, PartsOutOfOrder, TooLarge, NoSuchUpload, StorageFull, DigestWrong.
    """
    parts = _chosen(upload, asked)
    if sum(part.size_bytes for part in parts) > MAX_OBJECT_BYTES:
        raise TooLarge(f"The object would have more than {MAX_OBJECT_BYTES} bytes.")
    tally = Tally(*digests)
    objects.give_connection_back()
    staged = Staged(_joined(parts, tally, digests))
    md5s = b"".join(bytes.fromhex(part.etag) for part in parts)
    arrival = Arrival(
        size=tally.size,
        sha256=tally.digest("sha256").hex(),
        etag=f"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{len(parts)}",
        content_type=upload.content_type,
        metadata=upload.metadata,
    )
    return objects.keep(upload.storage_key, upload.key, staged, arrival, only_if_absent=only_if_absent, finish=lambda: abort(upload))


def abort(upload: MultipartUpload) -> None:
    """Forget an upload and remove its parts. Raises NoSuchUpload if it has ended meanwhile."""
    with transaction.atomic():
        ours = MultipartUpload.objects.select_for_update().filter(pk=upload.pk).first()
        if ours is None:
            raise _gone()
        names = list(ours.parts.values_list("stored_as", flat=True))
        ours.delete()
        transaction.on_commit(lambda: _remove(names), robust=True)


def tidy(now: datetime) -> int:
    """Remove uploads that were abandoned for a day or whose key has ended, and what interrupted uploads left; returns how many."""
    over = Q(started_at__lt=now - ABANDONED_AFTER) | Q(storage_key__revoked_at__isnull=False) | Q(storage_key__expires_at__lte=now)
    removed = 0
    for upload in MultipartUpload.objects.filter(over).iterator():
        try:
            abort(upload)
        except NoSuchUpload:
            continue  # it ended by itself
        removed += 1
    leftovers = files.tidy(before=now - ABANDONED_AFTER) + _remove_orphans(now)
    if removed or leftovers:
        log.info("uploads.tidied", uploads=removed, files=leftovers)
    return removed + leftovers


def _remove_orphans(now: datetime) -> int:
    """Remove parts whose upload is not in the database any more, for example after a backup was restored."""
    storage = files.artifacts()
    known = set(MultipartUpload.objects.values_list("upload_id", flat=True))
    removed = 0
    for folder in set(files.part_folders()) - known:
        for name in storage.listdir(f"{files.PARTS}/{folder}")[1]:
            part = f"{files.PARTS}/{folder}/{name}"
            if storage.get_modified_time(part) < now - ABANDONED_AFTER:
                files.remove(part)
                removed += 1
    return removed


def _chosen(upload: MultipartUpload, asked: list[Asked]) -> list[MultipartPart]:
    numbers = [part.number for part in asked]
    if numbers != sorted(set(numbers)):
        raise PartsOutOfOrder("The parts must be named in ascending order, each once.")
    there = {part.number: part for part in upload.parts.all()}
    for part in asked:
        if part.number not in there or there[part.number].etag != part.etag:
            raise InvalidPart(f"Part {part.number} has not come in, or not with the ETag that was named.")
    return [there[number] for number in numbers]


def _joined(parts: list[MultipartPart], tally: Tally, digests: dict[str, bytes]) -> Iterator[bytes]:
    for part in parts:
        for data in files.read(part.stored_as, size=READ_BYTES):
            tally.update(data)
            yield data
    for name, digest in digests.items():
        tally.check(name, digest)


def _folder(upload: MultipartUpload) -> str:
    return f"{files.PARTS}/{upload.upload_id}"


def _remove(names: list[str]) -> None:
    for name in names:
        files.remove(name)


def _gone() -> NoSuchUpload:
    return NoSuchUpload("There is no such upload: it was completed, aborted, or never begun.")
