"""The bucket `datasets`: a job's dataset version to be read by its trainer, images as they are and captions as text files beside them."""

import hashlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import PurePosixPath

from django.core.files.storage import storages

from jobs.models import DatasetFile, Job
from jobs.storage.errors import NoSuchKey
from jobs.storage.objects import StoredObject


def find(job: Job, key: str) -> StoredObject:
    """Raises NoSuchKey."""
    images = _files(job).filter(name=key)
    if image := images.first():
        return _image(job, image)
    path = PurePosixPath(key)
    if path.suffix == ".txt":
        for candidate in _files(job).filter(name__startswith=key.removesuffix("txt")):
            if _caption_name(candidate) == key:
                return _caption(job, candidate)
    raise NoSuchKey("There is no such file in the dataset.")


def listed(job: Job, *, prefix: str, after: str) -> Iterator[StoredObject]:
    """The files of the job's dataset whose names begin with `prefix` and come after `after`, in S3's order."""
    found: dict[str, StoredObject] = {}
    for file in _files(job):
        for described in (_image(job, file), _caption(job, file)):
            found.setdefault(described.name, described)
    names = sorted(found, key=str.encode)
    return (found[name] for name in names if name.startswith(prefix) and name.encode() > after.encode())


def _files(job: Job):  # type: ignore[no-untyped-def]
    return DatasetFile.objects.filter(version=job.dataset_version_id).select_related("blob", "version").order_by("name")


def _caption_name(file: DatasetFile) -> str:
    return f"{PurePosixPath(file.name).with_suffix('')}.txt"


def _image(job: Job, file: DatasetFile) -> StoredObject:
    blob = file.blob
    return StoredObject(
        name=f"{job.job_id}/{file.name}",
        size=blob.size_bytes,
        # Clients take an ETag of 32 hex digits for an MD5, so this one must not look so.
        etag=f"{blob.sha256[:32]}-1",
        modified_at=file.version.created_at,
        content_type=file.content_type,
        open=lambda: storages["datasets"].open(blob.stored_as, "rb"),
    )


def _caption(job: Job, file: DatasetFile) -> StoredObject:
    text = file.caption.encode()
    return StoredObject(
        name=f"{job.job_id}/{_caption_name(file)}",
        size=len(text),
        etag=hashlib.md5(text, usedforsecurity=False).hexdigest(),
        modified_at=file.version.created_at,
        content_type="text/plain; charset=utf-8",
        open=lambda: BytesIO(text),
    )
