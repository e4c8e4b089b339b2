"""The trainer's data: opens the archive, or reads the storage backends, and counts what it could train on.

Source: SimpleTuner's simpletuner/cog.py (archives), its dataloader
documentation and S3 backend (`type: aws`).
"""

from __future__ import annotations

import base64
import binascii
import stat
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote_to_bytes

import httpx
from PIL import Image, UnidentifiedImageError

from . import s3

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
MAX_IMAGE_BYTES = 256 * 1024**2
MAX_ARCHIVE_BYTES = 4 * 1024**3
AWS_KEYS = ("aws_bucket_name", "aws_endpoint_url", "aws_access_key_id", "aws_secret_access_key")
NO_IMAGES = "No images were discovered by the bucket manager in the dataset: {}."


class DatasetError(Exception):
    """The trainer cannot use its data; the text is the trainer's."""


@dataclass
class Dataset:
    """What was found in one backend: images by aspect, how many have a caption, and files that could not be read."""

    id: str
    images: int = 0
    captions: int = 0
    buckets: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    def add(self, name: str, content: IO[bytes], has_caption: bool) -> None:
        try:
            with Image.open(content) as image:
                width, height = image.size
                image.verify()
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            self.unreadable.append(name[-200:])
            return
        bucket = f"{width / height:.2f}"
        self.images += 1
        self.captions += has_caption
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1


def is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and "__MACOSX" not in path.parts


# Archives


def fetch(url: str, to: Path) -> None:
    """Bring the archive behind a data URI or an http(s) address to the file `to`. Raises DatasetError."""
    if url.startswith("data:"):
        to.write_bytes(_data_uri(url))
        return
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=60) as response, to.open("wb") as file:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                file.write(chunk)
                if file.tell() > MAX_ARCHIVE_BYTES:
                    raise DatasetError("Dataset archive is too large.")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DatasetError(f"Failed to download input images: {error}") from error


def _data_uri(url: str) -> bytes:
    head, _, data = url.partition(",")
    try:
        return base64.b64decode(data) if head.endswith(";base64") else unquote_to_bytes(data)
    except binascii.Error as error:
        raise DatasetError(f"Failed to download input images: {error}") from error


def unpack(path: Path, *, name: str, job: str, upstream: bool) -> dict[str, Any]:
    """Go through an archive as the trainer does, image by image in constant memory; captions are the files' stems.

    `upstream` refuses every member, which is what the trainer's newest source does: it compares a relative folder with
    absolute paths. Raises DatasetError for unsafe paths, broken archives and other formats.
    """
    found = Dataset(f"{job}-images")
    try:
        if zipfile.is_zipfile(path):
            kind, members = "zip", _zip_members(path)
        elif tarfile.is_tarfile(path):
            kind, members = "tar", _tar_members(path)
        else:
            raise DatasetError("Unsupported dataset archive format. Use .zip or .tar.")
        for member, content in members:
            if upstream or _escapes(member):
                raise DatasetError(f"Unsafe {kind} path detected: {member}")
            if content is not None and is_image(member):
                found.add(member, content, has_caption=True)
    # zipfile raises NotImplementedError for a compression or a version of zip that it cannot read.
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, RuntimeError, NotImplementedError) as error:
        raise DatasetError(f"Cannot unpack {name}: {error}") from error
    return asdict(found)


def _escapes(member: str) -> bool:
    path = PurePosixPath(member.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or not path.parts


def _zip_members(path: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            # Links are not followed: a link is listed, and never read.
            if member.is_dir() or stat.S_ISLNK(member.external_attr >> 16) or not is_image(member.filename):
                yield member.filename, None
                continue
            with archive.open(member) as packed, _buffered(packed) as content:
                yield member.filename, content


def _tar_members(path: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            packed = archive.extractfile(member) if member.isfile() and is_image(member.name) else None
            if packed is None:
                yield member.name, None
                continue
            with packed, _buffered(packed) as content:
                yield member.name, content


def _buffered(packed: IO[bytes]) -> IO[bytes]:
    """Unpack a member to where it can be read back and forth, small ones in memory; it is cut off at MAX_IMAGE_BYTES."""
    content = tempfile.SpooledTemporaryFile(max_size=4 * 1024**2)  # noqa: SIM115 (the caller closes it)
    left = MAX_IMAGE_BYTES
    while left > 0 and (chunk := packed.read(min(left, 1024**2))):
        content.write(chunk)
        left -= len(chunk)
    content.seek(0)
    return content


# Storage backends


def check_backends(backends: Any) -> list[dict[str, Any]]:
    """Find the image sets among a dataloader configuration's backends. Raises DatasetError for what the sandbox cannot read."""
    if not isinstance(backends, list) or not all(isinstance(backend, dict) for backend in backends):
        raise DatasetError("dataloader_json must be a list of data backends.")
    wanted = [each for each in backends if each.get("dataset_type", "image") == "image" and not each.get("disabled")]
    if not wanted:
        raise DatasetError("Must provide at least one image dataset in the data backend config file.")
    for backend in wanted:
        if backend.get("type", "local") == "aws":
            missing = [key for key in AWS_KEYS if backend.get(key) in (None, "")]
            if missing:
                raise DatasetError(f"Missing required AWS configuration keys: {missing}")
        elif backend.get("type", "local") != "local":
            raise DatasetError(f"The sandbox reads data backends of the types aws and local, not {backend['type']}.")
    return wanted


def read_backends(backends: list[dict[str, Any]], stop: threading.Event) -> list[dict[str, Any]]:
    """Read every image of every backend. Raises DatasetError for an empty one, and botocore's errors."""
    found = []
    for backend in backends:
        dataset = Dataset(str(backend.get("id", "dataset")))
        if backend.get("type") == "aws":
            _read_bucket(backend, dataset, stop)
        # A local folder is inside the container, where nobody can put images: it is empty.
        if not dataset.images:
            raise DatasetError(NO_IMAGES.format(dataset.id))
        found.append(asdict(dataset))
    return found


def _read_bucket(backend: dict[str, Any], dataset: Dataset, stop: threading.Event) -> None:
    client = s3.client(
        endpoint_url=backend["aws_endpoint_url"],
        access_key=backend["aws_access_key_id"],
        secret_key=backend["aws_secret_access_key"],
        region=backend.get("aws_region_name"),
    )
    bucket, prefix = backend["aws_bucket_name"], backend.get("aws_data_prefix") or ""
    keys = list(_keys(client, bucket, prefix))
    captioned = _captioned(backend, set(keys))
    for key in filter(is_image, keys):
        if stop.is_set():
            return
        with client.get_object(Bucket=bucket, Key=key)["Body"] as body, _buffered(body) as content:
            dataset.add(key, content, captioned(key))


def _keys(client: Any, bucket: str, prefix: str) -> Iterator[str]:
    # Like the trainer this lists the whole bucket, as far as the key may see it, and sorts out by prefix afterwards.
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, MaxKeys=1000):
        for entry in page.get("Contents", []):
            if entry["Key"].startswith(prefix):
                yield entry["Key"]


def _captioned(backend: dict[str, Any], keys: set[str]) -> Callable[[str], bool]:
    if backend.get("caption_strategy") == "textfile":
        return lambda key: str(PurePosixPath(key).with_suffix(".txt")) in keys
    return lambda key: True
