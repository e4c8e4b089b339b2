"""Taking datasets in: images with captions, from single files or an archive, kept by hash; a version never changes."""

import hashlib
import json
import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import IO, Any

import structlog
from django.core.files.base import File
from django.core.files.storage import storages
from django.db import IntegrityError, transaction
from django.utils import timezone
from PIL import Image, UnidentifiedImageError

from accounts import audit
from accounts.callers import Caller
from accounts.errors import Conflict, InvalidInput, Refusal
from accounts.models import Team
from accounts.roles import Right
from jobs.models import Blob, Dataset, DatasetFile, DatasetVersion
from jobs.services import storage_quotas
from jobs.services.storage_quotas import StorageQuotaReached

log = structlog.get_logger(__name__)

FORMATS = {"JPEG": ("image/jpeg", {".jpg", ".jpeg"}), "PNG": ("image/png", {".png"}), "WEBP": ("image/webp", {".webp"})}
IMAGE_ENDINGS = frozenset().union(*(endings for _, endings in FORMATS.values()))
CAPTION_LIMIT_BYTES = 64 * 1024
# What a zip may unpack to, in how many files, and how many times its size: images are packed already, a bomb is not.
UNPACKED_LIMIT_BYTES = 8 * 1024**3
UNPACKED_LIMIT_FILES = 20_000
LARGEST_RATIO = 100
SMALL_BYTES = 1024 * 1024
# What reading a member of a damaged archive ends with, by its kind of compression; NotImplementedError is zipfile's word for one
# that it cannot read.
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
SPOOL_BYTES = 8 * 1024 * 1024


class InvalidDataset(Refusal):
    """A file of the dataset cannot be taken; nothing of it was kept."""

    code = "invalid_dataset"


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """One file as it comes in: its name below the dataset, and a way to read it once."""

    name: str
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True, kw_only=True)
class _Kept:
    name: str
    blob: Blob
    content_type: str
    width: int
    height: int


def create(caller: Caller, *, name: str, files: Iterable[Incoming], description: str = "") -> DatasetVersion:
    """Make a dataset with its first version.

    Raises Conflict if the team has one of this name, InvalidDataset, InvalidInput, StorageQuotaReached.
    """
    caller.require(Right.DATASETS)
    name = _checked_name(name)
    if caller.team.datasets.filter(name=name, removed_at=None).exists():
        raise Conflict(f"There is a dataset '{name}' already. Add a version to it instead.", field="name")
    with _within_quotas(caller):
        kept, captions = _keep(caller.team, files)
        try:
            with transaction.atomic(), storage_quotas.within_storage(caller):
                dataset = Dataset.objects.create(team=caller.team, name=name, description=description, created_by=caller.user)
                return _write_version(caller, dataset, kept, captions)
        except IntegrityError:
            raise Conflict(f"There is a dataset '{name}' already. Add a version to it instead.", field="name") from None


def add_version(caller: Caller, dataset: Dataset, *, files: Iterable[Incoming]) -> DatasetVersion:
    """Add a version that holds exactly these files. The same files as before answer the version that has them.

    Raises InvalidDataset, StorageQuotaReached.
    """
    caller.require(Right.DATASETS)
    with _within_quotas(caller):
        kept, captions = _keep(caller.team, files)
        with transaction.atomic():
            dataset = Dataset.objects.select_for_update(no_key=True).get(pk=dataset.pk)
            newest = dataset.versions.first()
            if newest is not None and newest.manifest_sha256 == _manifest(kept, captions):
                return newest
            with storage_quotas.within_storage(caller):
                return _write_version(caller, dataset, kept, captions)


@contextmanager
def _within_quotas(caller: Caller) -> Iterator[None]:
    """Refuse an upload at once where nothing may be added, and leave a line of what quotas said to it."""
    try:
        storage_quotas.require_room(caller)
        yield
    except StorageQuotaReached as refusal:
        storage_quotas.note_refusal(caller, refusal)
        raise
    storage_quotas.tell_owners(caller)


def unpacked(archive: IO[bytes]) -> Iterator[Incoming]:
    """The files of a zip, checked for tricks. The archive must stay open while they are read.

    Raises InvalidInput for something that is no zip, InvalidDataset for an unsafe one.
    """
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise InvalidInput("The archive is not a zip file.", field="archive") from None
    members = [item for item in opened.infolist() if not item.is_dir() and not _is_clutter(item.filename)]
    if len(members) > UNPACKED_LIMIT_FILES:
        raise InvalidDataset(f"The archive holds more than {UNPACKED_LIMIT_FILES} files.", field="archive")
    if sum(item.file_size for item in members) > UNPACKED_LIMIT_BYTES:
        raise InvalidDataset("The archive unpacks to more than 8 GiB.", field="archive")
    for item in members:
        if item.external_attr >> 28 == 0xA:
            raise InvalidDataset(f"{item.filename} is a symbolic link. Put the file itself into the archive.", field="archive")
        if item.flag_bits & 0x1:
            raise InvalidDataset(f"{item.filename} is encrypted. Make the archive without a password.", field="archive")
        if item.file_size > max(SMALL_BYTES, item.compress_size * LARGEST_RATIO):
            raise InvalidDataset(f"{item.filename} unpacks to more than {LARGEST_RATIO} times its size.", field="archive")
        yield Incoming(name=item.filename, open=partial(opened.open, item))


def _checked_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > 100 or "/" in name or "@" in name or not name.isprintable():
        raise InvalidInput("A dataset's name has 1 to 100 characters, without '/' and '@'.", field="name")
    return name


def _is_clutter(path: str) -> bool:
    """What operating systems put into archives."""
    found = PurePosixPath(path)
    return "__MACOSX" in found.parts or found.name in (".DS_Store", "Thumbs.db", "desktop.ini")


def _keep(team: Team, files: Iterable[Incoming]) -> tuple[list[_Kept], dict[str, str]]:
    """Store every image and read every caption. Bytes that a refused upload leaves are found by `tidy`."""
    images: dict[str, _Kept] = {}
    captions: dict[str, str] = {}
    for file in files:
        path = _safe_path(file.name)
        name = str(path)
        stem = str(path.with_suffix(""))
        try:
            if path.suffix.lower() == ".txt" and stem not in captions:
                captions[stem] = _caption(path, file)
            elif path.suffix.lower() in IMAGE_ENDINGS and name not in images:
                images[name] = _image(team, path, file)
            else:
                raise _unwanted(path)
        except DAMAGED:
            raise InvalidDataset(f"{path} is damaged in the archive.", field="archive", hint="Make the archive again.") from None
    if not images:
        raise InvalidDataset(
            "There are no images among the files.",
            field="files",
            hint="Add JPEG, PNG or WebP images, each with a caption of the same name in .txt.",
        )
    stems = {str(PurePosixPath(name).with_suffix("")) for name in images}
    for stem in captions:
        if stem not in stems:
            raise InvalidDataset(
                f"{stem}.txt is the caption of no image.", field="files", hint="An image and its caption have the same name."
            )
    return [images[name] for name in sorted(images)], captions


def _unwanted(path: PurePosixPath) -> InvalidDataset:
    if path.suffix.lower() in IMAGE_ENDINGS | {".txt"}:
        return InvalidDataset(f"{path} comes twice.", field="files")
    sentence = f"{path} is neither an image (JPEG, PNG, WebP) nor a caption (.txt)."
    return InvalidDataset(sentence, field="files", hint="Leave other files out.")


def _safe_path(name: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.name or not name.isprintable() or len(str(path)) > 255:
        raise InvalidDataset(f"'{name[:100]}' is not a usable file name.", field="files")
    return path


def _caption(path: PurePosixPath, file: Incoming) -> str:
    with file.open() as stream:
        raw = stream.read(CAPTION_LIMIT_BYTES + 1)
    if len(raw) > CAPTION_LIMIT_BYTES:
        raise InvalidDataset(f"{path} is longer than 64 KiB, which is no caption.", field="files")
    try:
        return raw.decode("utf-8-sig").replace("\x00", "").strip()
    except UnicodeDecodeError:
        raise InvalidDataset(f"{path} is not UTF-8 text.", field="files", hint="Save the caption as UTF-8.") from None


def _image(team: Team, path: PurePosixPath, file: Incoming) -> _Kept:
    """Hash, look at and store one image in constant memory."""
    with ExitStack() as stack:
        spool = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES))
        digest = hashlib.sha256()
        with file.open() as stream:
            while piece := stream.read(1024 * 1024):
                digest.update(piece)
                spool.write(piece)
        size = spool.tell()
        width, height, content_type = _look_at(path, spool)
        spool.seek(0)
        blob = _store(team, digest.hexdigest(), size, spool)
    return _Kept(name=str(path), blob=blob, content_type=content_type, width=width, height=height)


def _look_at(path: PurePosixPath, stream: Any) -> tuple[int, int, str]:
    stream.seek(0)
    try:
        with Image.open(stream, formats=list(FORMATS)) as image:
            width, height, kind = image.width, image.height, str(image.format)
            image.verify()
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError):
        raise InvalidDataset(f"{path} is not a readable image.", field="files", hint="Open it and save it again as JPEG or PNG.") from None
    return width, height, FORMATS[kind][0]


def _store(team: Team, sha256: str, size: int, stream: Any) -> Blob:
    known = Blob.objects.filter(team=team, sha256=sha256)
    # Renewed in the same step, so that `tidy` does not throw it away under our hands.
    if known.update(created_at=timezone.now()):
        return known.get()
    store = storages["datasets"]
    name = store.save(f"{team.slug}/{sha256[:2]}/{sha256}", File(stream))
    blob, is_new = Blob.objects.get_or_create(team=team, sha256=sha256, defaults={"size_bytes": size, "stored_as": name})
    if not is_new:  # somebody stored the same bytes meanwhile
        store.delete(name)
    return blob


def _manifest(kept: list[_Kept], captions: dict[str, str]) -> str:
    """The hash of names, contents and captions in order of name."""
    lines = [[file.name, file.blob.sha256, _caption_of(file.name, captions)] for file in kept]
    return hashlib.sha256(json.dumps(lines, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def _caption_of(name: str, captions: dict[str, str]) -> str:
    return captions.get(str(PurePosixPath(name).with_suffix("")), "")


def _write_version(caller: Caller, dataset: Dataset, kept: list[_Kept], captions: dict[str, str]) -> DatasetVersion:
    newest = dataset.versions.first()
    version = DatasetVersion.objects.create(
        dataset=dataset,
        number=(newest.number if newest else 0) + 1,
        manifest_sha256=_manifest(kept, captions),
        image_count=len(kept),
        size_bytes=sum(file.blob.size_bytes for file in kept),
        created_by=caller.user,
    )
    DatasetFile.objects.bulk_create(
        DatasetFile(
            version=version,
            blob=file.blob,
            name=file.name,
            caption=_caption_of(file.name, captions),
            content_type=file.content_type,
            width=file.width,
            height=file.height,
        )
        for file in kept
    )
    audit.record(
        team=caller.team,
        caller=caller,
        event_type="dataset.created",
        action=f"Added dataset {version} with {version.image_count} images",
        target_type="dataset",
        target_id=str(version)[:100],
        after={"manifest_sha256": version.manifest_sha256},
    )
    log.info("dataset.created", team=caller.team.slug, dataset=str(version), images=version.image_count)
    return version
