"""How a job's data gets to the trainer and its result back: archive, upload, storage keys, and the run's input."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, cast

from django.conf import settings
from django.core.files.storage import storages
from django.utils import timezone

from jobs import packing, trainingconfigs
from jobs.destinations.errors import Refused
from jobs.models import Job, ProviderUpload, TrainerVersion
from jobs.models.job import Destination, PackingPath, UploadStage
from jobs.models.results import KeyPurpose
from jobs.replicate import inputs
from jobs.replicate.gateway import Gateway
from jobs.services import addresses, buckets, provider
from jobs.services.uploads import Reporter
from jobs.storage import keys

# An upload that expires sooner than this would be gone before a busy provider reads it.
UPLOAD_RESERVE = timedelta(hours=1)
# The name under which an uploaded file says whose it is.
FILE_MARK = "job"
# The trainer's last files come in after its end.
KEY_GRACE = timedelta(hours=2)


class CannotSend(Exception):
    """This job cannot be sent, now or later; the text says why."""


class DiskFull(Exception):
    """The archive does not fit on this server's disk."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the provider is asked with. Holds secrets: never kept, never logged."""

    version: str
    input: dict[str, Any]
    events: list[str]

    def __repr__(self) -> str:
        return f"<Prepared for {self.version[:12]}>"


def prepare(job: Job, replicate: Gateway) -> Prepared:
    """Bring the data to where the trainer reads it, and write the run's input for the version that runs now.

    Raises CannotSend, DiskFull, InputsImpossible, and the gateway's errors.
    """
    own = provider.settings_of(job.team)
    reporter = Reporter(job)
    reporter.begin(UploadStage.SCANNING)
    version = provider.current_version(replicate, job.trainer, provider=job.provider, pinned=own.version_override.rpartition(":")[2])
    images_url, dataloader = _data(job, version, replicate, reporter)
    built = inputs.build(
        version.input_schema,
        job_id=job.job_id,
        config=job.config,
        max_train_steps=trainingconfigs.max_train_steps(job.config),
        dataloader=dataloader,
        images_url=images_url,
        s3=_target(job),
        hub_model_id=job.hub_model_id if job.destination == Destination.HUB else None,
        hf_token=job.hub_credential.reveal() if job.hub_credential else None,
    )
    problems = inputs.validate(version.input_schema, built)
    if problems:
        raise CannotSend("The trainer's inputs do not fit: " + "; ".join(problem.description for problem in problems))
    reporter.begin(UploadStage.COMPLETE)
    events = ["start", "completed"]
    events += ["logs"] * own.webhook_sends_logs + ["output"] * own.webhook_sends_output
    return Prepared(version=version.version, input=built, events=events)


def _data(job: Job, version: TrainerVersion, replicate: Gateway, reporter: Reporter) -> tuple[str | None, list[dict[str, Any]] | None]:
    if job.packing_path == PackingPath.HOSTED:
        return None, job.dataloader
    if job.packing_path == PackingPath.STORAGE:
        return None, _dataloader(job)
    if version.unpacks_archives is False:
        raise CannotSend("The trainer's newest version cannot unpack archives any more. Submit again: the data will go another way.")
    return _uploaded(job, replicate, reporter).url, None


def _uploaded(job: Job, replicate: Gateway, reporter: Reporter) -> ProviderUpload:
    """The provider's copy of the archive, made now unless one is there that lasts."""
    kept = ProviderUpload.objects.filter(job=job, deleted_at=None).exclude(file_id="").first()
    if kept and (kept.expires_at is None or kept.expires_at > timezone.now() + UPLOAD_RESERVE):
        return kept
    with _packing_folder(job) as folder:
        archive = folder / f"{job.job_id}.zip"
        reporter.begin(UploadStage.PACKAGING)
        packed = _pack(job, archive, reporter)
        upload, _ = ProviderUpload.objects.update_or_create(
            job=job,
            # Written before the call: from now on the provider may hold a copy, also if we never read its answer.
            defaults={
                "archive_sha256": packed.sha256,
                "archive_bytes": packed.size,
                "renamed": [{"name": name, "in_archive": archived, "is_cut": cut} for archived, name, cut in packed.files],
                "file_id": "",
            },
        )
        reporter.begin(UploadStage.UPLOADING, total=packed.size)
        sent = replicate.upload(
            archive, filename=archive.name, content_type="application/zip", metadata={FILE_MARK: job.job_id}, report=reporter.at
        )
    upload.file_id, upload.url, upload.expires_at = sent.id, sent.url, sent.expires_at
    upload.uploaded_at = timezone.now()
    upload.save(update_fields=["file_id", "url", "expires_at", "uploaded_at"])
    return upload


def uploaded_files(job: Job, replicate: Gateway) -> set[str]:
    """The ids of all files that the provider holds for a job, also of those whose upload was never answered."""
    marked = {file.id for file in replicate.files() if file.metadata.get(FILE_MARK) == job.job_id}
    known = ProviderUpload.objects.filter(job=job).exclude(file_id="").values_list("file_id", flat=True)
    return marked | set(known)


@contextmanager
def _packing_folder(job: Job) -> Iterator[Path]:
    """A folder of our own: another worker may be packing the same job, if ours slept through its lease."""
    parent = settings.DATA_DIR / "packing"
    try:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = TemporaryDirectory(dir=parent, prefix=f"{job.job_id}-", ignore_cleanup_errors=True)
    except OSError as error:
        if _is_full(error):
            raise DiskFull(str(error)) from error
        raise
    with folder as path:
        yield Path(path)


def _is_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def forget_packed(job: Job) -> None:
    """Remove what workers that were killed while packing left on this machine's disk."""
    for left in (settings.DATA_DIR / "packing").glob(f"{job.job_id}-*"):
        shutil.rmtree(left, ignore_errors=True)


def forget_abandoned(*, before: datetime) -> int:
    """The same for all jobs, last touched before a time when nobody can be packing still; returns how many there were."""
    left = [folder for folder in (settings.DATA_DIR / "packing").glob("*") if folder.stat().st_mtime < before.timestamp()]
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    return len(left)


def _pack(job: Job, archive: Path, reporter: Reporter) -> packing.Packed:
    try:
        return packing.pack(_items(job), archive, report=reporter.at)
    except packing.PackingFailed as error:
        if _is_full(error.__cause__):
            raise DiskFull(str(error)) from error
        raise CannotSend(str(error)) from error
    except packing.ArchiveTooLarge as error:
        raise CannotSend(str(error)) from error


def _items(job: Job) -> Iterator[packing.Item]:
    version = job.dataset_version
    if version is None:
        raise CannotSend("The job has no dataset to pack.")
    for file in version.files.select_related("blob"):
        blob = file.blob
        yield packing.Item(
            name=file.name,
            caption=file.caption,
            size=blob.size_bytes,
            sha256=blob.sha256,
            open=partial(_open, blob.stored_as),
        )


def _open(name: str) -> BinaryIO:
    return cast(BinaryIO, storages["datasets"].open(name, "rb"))


def _dataloader(job: Job) -> list[dict[str, Any]]:
    """SimpleTuner's data backends that read the dataset from our storage with a key made for this job.

    The key can be read in the prediction, so it opens this dataset only, for reading, until the job ends.
    """
    endpoint = addresses.storage_endpoint(job.team, provider=job.provider)
    if not endpoint:
        raise CannotSend("This server has no public address any more from which the trainer could read the dataset.")
    pair = keys.issue(job=job, purpose=KeyPurpose.DATASET, expires_at=_key_end(job))
    resolution = job.config.get("resolution", 1024)
    return [
        {
            "id": "dataset",
            "type": "aws",
            "aws_bucket_name": pair.bucket,
            "aws_endpoint_url": endpoint,
            "aws_region_name": "us-east-1",
            "aws_access_key_id": pair.access_key,
            "aws_secret_access_key": pair.secret,
            "aws_data_prefix": pair.prefix,
            "caption_strategy": "textfile",
            "resolution": resolution,
            "resolution_type": "pixel_area",
            "crop": True,
            "crop_style": "center",
            "cache_dir_vae": "cache/vae",
        },
        {"id": "text-embeds", "type": "local", "dataset_type": "text_embeds", "default": True, "cache_dir": "cache/text"},
    ]


def _target(job: Job) -> inputs.S3Target | None:
    """Where the trainer uploads its output: our own endpoint with a key of this job, or the team's bucket."""
    if job.destination == Destination.LOCAL:
        pair = keys.issue(job=job, purpose=KeyPurpose.RESULTS, expires_at=_key_end(job))
        endpoint = addresses.storage_endpoint(job.team, provider=job.provider)
        if not endpoint:
            raise CannotSend("This server has no public address any more to which the trainer could upload the result.")
        return inputs.S3Target(
            bucket=pair.bucket,
            access_key=pair.access_key,
            secret_key=pair.secret,
            region="us-east-1",
            endpoint_url=endpoint,
            base_path=pair.prefix.rstrip("/"),
            public_base_url=f"{endpoint}/{pair.bucket}",
        )
    if job.destination == Destination.S3:
        try:
            place = buckets.place_of(job)
        except Refused as error:
            raise CannotSend(str(error)) from error
        access_key, secret_key = buckets.keys_of(job)
        return inputs.S3Target(
            bucket=place.bucket,
            access_key=access_key,
            secret_key=secret_key,
            region=place.region,
            endpoint_url=place.endpoint_url,
            base_path=place.prefix_of(job.job_id),
        )
    return None


def _key_end(job: Job) -> Any:
    return timezone.now() + timedelta(seconds=job.ceiling_seconds) + KEY_GRACE
