"""Files of the storage `artifacts`: first staged whole, then put in their place at once, so that nothing half-written is ever seen."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage, storages

from jobs.storage.errors import InvalidName, StorageFull

# No team's folder begins with a dot.
STAGING = ".incoming"
PARTS = ".multipart"
FULL = {errno.ENOSPC, errno.EDQUOT}


def artifacts() -> Storage:
    return storages["artifacts"]


@contextlib.contextmanager
def refusing_when_full() -> Iterator[None]:
    """Raises StorageFull where the disk is full, by itself or by a quota."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StorageFull(
            "The server's disk is full. Nothing was stored.", hint="An administrator must make room; then send it again."
        ) from error


class Staged:
    """A whole file beside the storage, not visible yet. As a context it takes back what it did when anything in it fails.

    Leave the context after the transaction that makes the file known, so that a failed commit is undone as well.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        """Write all chunks and make them last. Raises StorageFull, and whatever the chunks raise; then nothing is left behind."""
        self._storage = artifacts()
        folder = _staging_folder(self._storage)
        self._path = folder / uuid.uuid4().hex
        self._undo = contextlib.ExitStack()
        try:
            with refusing_when_full():
                folder.mkdir(parents=True, exist_ok=True)
                with self._path.open("xb") as file:
                    for chunk in chunks:
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
        except BaseException:
            self._path.unlink(missing_ok=True)
            raise

    def __enter__(self) -> "Staged":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self._undo.close()
        self._path.unlink(missing_ok=True)
        self._backup.unlink(missing_ok=True)

    @property
    def _backup(self) -> Path:
        return self._path.with_suffix(".replaced")

    def place(self, name: str) -> str:
        """Put the file in its place, over one that is there, and return what the storage calls it. Raises StorageFull, InvalidName."""
        with refusing_when_full():
            if isinstance(self._storage, FileSystemStorage):
                self._move(Path(self._storage.path(name)))
                return name
            with self._path.open("rb") as file:
                stored_as = self._storage.save(name, File(file))
            if stored_as == name:
                return name
            # Another file keeps its name there until the new one is known.
            self._undo.callback(self._storage.delete, stored_as)
            return stored_as

    def _move(self, target: Path) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (NotADirectoryError, FileExistsError) as error:
            raise InvalidName("The name cannot be stored: another object has the name of one of its folders.") from error
        if target.is_dir():
            raise InvalidName("The name cannot be stored: other objects have it as their folder.")
        if target.exists():
            with contextlib.suppress(OSError):  # without hard links only the undo is lost
                os.link(target, self._backup)
                self._undo.callback(os.replace, self._backup, target)
        else:
            self._undo.callback(target.unlink, missing_ok=True)
        self._path.replace(target)
        _sync(target.parent)


def remove(stored_as: str) -> None:
    """Delete a stored file, and the folders that it leaves empty. Not being there is fine."""
    storage = artifacts()
    storage.delete(stored_as)
    if isinstance(storage, FileSystemStorage):
        root = Path(storage.location)
        for folder in Path(storage.path(stored_as)).parents:
            if folder.parent == root or not folder.is_relative_to(root):
                break
            try:
                folder.rmdir()
            except OSError:
                break  # not empty, or gone


def read(stored_as: str, *, size: int) -> Iterator[bytes]:
    """The bytes of a stored file in pieces of at most `size` bytes."""
    with artifacts().open(stored_as, "rb") as file:
        while data := file.read(size):
            yield data


def tidy(*, before: datetime) -> int:
    """Remove what interrupted uploads have left in the staging folder before a time; returns how many files."""
    folder = _staging_folder(artifacts())
    removed = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # its own process was faster
            if path.stat().st_mtime < before.timestamp():
                path.unlink()
                removed += 1
    return removed


def part_folders() -> list[str]:
    """The names of the folders in which parts wait."""
    try:
        return artifacts().listdir(PARTS)[0]
    except FileNotFoundError:
        return []


def _staging_folder(storage: Storage) -> Path:
    """On the storage's own file system, so that a file is put in its place by renaming; else in the data folder."""
    if isinstance(storage, FileSystemStorage):
        return Path(storage.location) / STAGING
    return Path(settings.DATA_DIR) / "incoming"


def _sync(folder: Path) -> None:
    """Make a rename last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
