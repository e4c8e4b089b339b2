"""Packing a dataset into the one archive that the trainer's archive path takes.

The trainer unpacks the archive and reads an image's caption from its file name: the stem, with underscores as spaces.
Caption files in it are ignored. So each image is named after its caption here. Names that would be the same get `_2`,
`_3` and so on, which the trainer reads as a last word: a price of this path that `Packed.warnings` names.

Source: SimpleTuner docs, DATALOADER.md, `caption_strategy: filename`; Replicate docs, reference/http#files.create (the limit).
"""

import hashlib
import os
import re
import secrets
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

GATE_BYTES = 104_857_600  # Replicate's limit for one file: 100 MiB, measured on the finished archive
MIB = 1024 * 1024
CHUNK_BYTES = 256 * 1024
# Told how many bytes of how many are done.
Report = Callable[[int, int], None]
NAME_LIMIT_BYTES = 255
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})

# A zip's own bytes: per file a local header and a directory entry, each with the name, and the end record;
# beyond 65,535 files the end is written in its 64-bit form as well. Source: PKWARE APPNOTE 6.3.10, 4.3.
_PER_FILE_BYTES = 30 + 46
_END_BYTES = 22
_END64_BYTES = 56 + 20
_FILES_WITHOUT_END64 = 0xFFFF


class PackingError(Exception):
    """The dataset cannot be packed; the text says why in a sentence."""


class BadItem(PackingError):
    """One file of the dataset cannot go into an archive."""


class NothingToPack(PackingError):
    """There is no image among the files."""


class ItemChanged(PackingError):
    """A file's bytes are not those of the manifest."""


class PackingFailed(PackingError):
    """The archive could not be written, or a file not read; nothing of it is left behind."""


class ArchiveTooLarge(PackingError):
    """The archive is, or would be, over the limit; `size` is its size in bytes."""

    def __init__(self, size: int, limit: int = GATE_BYTES) -> None:
        # Rounded up, so that one byte too many does not read as "100.0 MiB exceeds 100 MiB".
        tenths = -(-size * 10 // MIB)
        super().__init__(f"Archive size {tenths // 10}.{tenths % 10} MiB exceeds Replicate's {limit // MIB} MiB upload limit")
        self.size = size
        self.limit = limit

    def __reduce__(self) -> tuple[type["ArchiveTooLarge"], tuple[int, int]]:
        return type(self), (self.size, self.limit)


@dataclass(frozen=True)
class Item:
    """One file of a dataset version, as its manifest has it; `size` is in bytes, `open` gives a fresh stream."""

    name: str
    caption: str
    size: int
    sha256: str
    open: Callable[[], BinaryIO] = field(repr=False)


class PackedFile(NamedTuple):
    """What one image is called in the archive; `cut` says that its caption was too long for a file name."""

    archive_name: str
    original_name: str
    cut: bool


@dataclass(frozen=True)
class Packed:
    """A finished archive. `warnings` are sentences for people: what the archive path does to the captions."""

    path: Path
    size: int
    sha256: str
    files: list[PackedFile]
    warnings: list[str]


def _unheard(done: int, total: int) -> None:
    """Nobody listens."""


def pack(items: Iterable[Item], destination: Path, *, gate_bytes: int = GATE_BYTES, report: Report = _unheard) -> Packed:
    """Write the images among the items into a zip archive, in constant memory.

    The same items give the same bytes, in any order and on any machine: entries are sorted by name, dates and modes
    fixed, nothing is compressed (images are already, and another zlib would compress otherwise). The archive appears
    whole or not at all. `report` is told again and again how many bytes of how many are in it.

    Raises BadItem, NothingToPack, ArchiveTooLarge (before anything is written), ItemChanged, PackingFailed.
    """
    images, warnings = _images(items)
    if not images:
        raise NothingToPack("The dataset holds no image that could be packed.")
    files, about_names = _named(images)
    size = archive_size((file.archive_name, item.size) for file, item in zip(files, images, strict=True))
    if size > gate_bytes:
        raise ArchiveTooLarge(size, gate_bytes)

    partial = destination.with_name(f".{destination.name[:100]}.{secrets.token_hex(8)}.partial")
    try:
        digest = _write(partial, files, images, report)
        size = partial.stat().st_size
        if size > gate_bytes:
            raise ArchiveTooLarge(size, gate_bytes)
        os.replace(partial, destination)
        _sync_folder(destination.parent)
    except OSError as error:
        raise PackingFailed(f"The archive could not be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return Packed(path=destination, size=size, sha256=digest, files=files, warnings=warnings + about_names)


def archive_size(entries: Iterable[tuple[str, int]]) -> int:
    """Work out the exact size in bytes of an archive of these names and sizes, without writing it."""
    count, size = 0, _END_BYTES
    for name, length in entries:
        count += 1
        size += _PER_FILE_BYTES + 2 * len(name.encode()) + length
    return size + (_END64_BYTES if count > _FILES_WITHOUT_END64 else 0)


def stem_of(caption: str) -> str:
    """Turn a caption into the file stem that the trainer reads it from; empty where nothing of it can be kept.

    Only what a file name cannot hold is lost: slashes, control characters, and dots in front.
    """
    text = unicodedata.normalize("NFC", caption)
    kept = (" " if sign in "/\\" or unicodedata.category(sign) == "Cc" else sign for sign in text if unicodedata.category(sign) != "Cs")
    return re.sub(r"[\s_]+", "_", "".join(kept)).strip("_").lstrip("._")


def _images(items: Iterable[Item]) -> tuple[list[Item], list[str]]:
    """Check every item; return the images, sorted by name, and a warning for what else is left out."""
    seen: dict[str, str] = {}
    images, warnings = [], []
    for item in sorted(items, key=lambda item: item.name):
        _check_name(item.name)
        key = _folded(item.name)
        if key in seen:
            raise BadItem(f"The files '{seen[key]}' and '{item.name}' have the same name, or differ in the case of letters only.")
        seen[key] = item.name
        suffix = PurePosixPath(item.name).suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            if item.size <= 0:
                raise BadItem(f"The image '{item.name}' is empty.")
            images.append(item)
        elif suffix != ".txt":  # captions are in the names already
            warnings.append(f"'{item.name}' is not an image and stays out of the archive.")
    return images, warnings


def _check_name(name: str) -> None:
    if any(part.strip() in ("", ".", "..") for part in name.split("/")):
        raise BadItem(f"{name!a} is not the name of a file in a dataset: it is empty, absolute or leads out of it.")
    if any(sign == "\\" or unicodedata.category(sign) in ("Cc", "Cs") for sign in name) or re.match(r"[A-Za-z]:", name):
        raise BadItem(f"{name!a} is not the name of a file in a dataset: it holds a backslash, a drive or a control character.")


def _named(images: list[Item]) -> tuple[list[PackedFile], list[str]]:
    """Give each image its name in the archive, and say where the trainer will not read the caption as it is."""
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    files, warnings = [], []
    for item in images:
        source = PurePosixPath(item.name)
        suffix = source.suffix.lower()
        from_caption = stem_of(item.caption)
        wanted = from_caption or stem_of(source.stem) or "image"

        stem = _cut(wanted, NAME_LIMIT_BYTES - len(suffix))
        number = numbers.get(_folded(stem), 1)
        name = stem if number == 1 else _numbered(wanted, number, suffix)
        while _folded(name) in taken:
            number += 1
            name = _numbered(wanted, number, suffix)
        taken.add(_folded(name))
        numbers[_folded(stem)] = number

        is_cut = len(wanted.encode()) > len(stem.encode())
        files.append(PackedFile(f"{name}{suffix}", item.name, is_cut))
        read = name.replace("_", " ")
        if not from_caption:
            warnings.append(f"'{item.name}' has no caption; the trainer will read '{read}'.")
        elif is_cut:
            warnings.append(f"The caption of '{item.name}' is too long for a file name; the trainer will read only '{read}'.")
        elif name != stem:
            warnings.append(f"Another image has the caption of '{item.name}' too; the trainer will read '{read}'.")
        elif read != " ".join(unicodedata.normalize("NFC", item.caption).split()):
            warnings.append(f"The caption of '{item.name}' holds signs that a file name cannot carry; the trainer will read '{read}'.")
    return files, warnings


def _folded(name: str) -> str:
    """Make names equal that some file system would take for the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _numbered(wanted: str, number: int, suffix: str) -> str:
    ending = f"_{number}"
    return _cut(wanted, NAME_LIMIT_BYTES - len(suffix) - len(ending)) + ending


def _cut(stem: str, limit: int) -> str:
    """Cut to so many bytes of UTF-8, never through a character."""
    encoded = stem.encode()
    return stem if len(encoded) <= limit else encoded[:limit].decode("utf-8", "ignore").rstrip("_")


def _write(partial: Path, files: list[PackedFile], images: list[Item], report: Report) -> str:
    """Write the archive through to the disk and return its SHA-256."""
    done, total = 0, sum(item.size for item in images)
    with open(partial, "x+b", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for packed, item in zip(files, images, strict=True):
                entry = zipfile.ZipInfo(packed.archive_name, date_time=(1980, 1, 1, 0, 0, 0))
                entry.create_system = 3  # Unix, also where this runs on something else
                entry.external_attr = 0o100644 << 16
                entry.file_size = item.size
                with archive.open(entry, "w") as target:
                    for chunk in _chunks(item):
                        target.write(chunk)
                        done += len(chunk)
                        report(done, total)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chunks(item: Item) -> Iterator[bytes]:
    """Read an image to its end and make sure that it is the one of the manifest."""
    digest, size = hashlib.sha256(), 0
    try:
        with item.open() as stream:
            while chunk := stream.read(CHUNK_BYTES):
                size += len(chunk)
                if size > item.size:
                    break
                digest.update(chunk)
                yield chunk
    except OSError as error:
        raise PackingFailed(f"The image '{item.name}' could not be read: {error.strerror or error}") from error
    if size != item.size or digest.hexdigest() != item.sha256.lower():
        raise ItemChanged(f"The image '{item.name}' is not the one that the dataset's manifest names: its size or SHA-256 differs.")


def _sync_folder(folder: Path) -> None:
    """Make the archive's name last, as its content does."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
