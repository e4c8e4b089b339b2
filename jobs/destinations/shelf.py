"""What lies at a destination, whichever it is."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from jobs.destinations.errors import Unreachable


@dataclass(frozen=True, kw_only=True)
class File:
    """One file below a job's prefix; `key` is its name there.

    `tag` changes when the content does (an ETag, a git object id). `sha256` is the destination's own word for the
    whole content, "" where it has none.
    """

    key: str
    size_bytes: int
    tag: str
    sha256: str = ""


class Shelf(Protocol):
    """The files of one job at a destination. Every call raises the errors of this package."""

    def files(self) -> Iterator[File]:
        """All files, however many there are."""
        ...

    def pieces(self, file: File, *, first_bytes: int | None = None) -> Iterator[bytes]:
        """A file's content in pieces of bounded size, or only its first bytes."""
        ...

    def sha256_of(self, file: File) -> str:
        """The SHA-256 that the destination keeps of the whole content; "" where it keeps none."""
        ...


def digest(shelf: Shelf, file: File) -> str:
    """The SHA-256 of a file: the destination's own, else of every byte of it, read once in constant memory.

    Raises Unreachable where fewer or more bytes came than were listed, and what `pieces` raises.
    """
    if kept := shelf.sha256_of(file):
        return kept
    seen, length = hashlib.sha256(), 0
    for piece in shelf.pieces(file):
        seen.update(piece)
        length += len(piece)
    if length != file.size_bytes:
        raise Unreachable(f"{file.key} was listed with {file.size_bytes} bytes, and {length} came.")
    return seen.hexdigest()


def beginning(shelf: Shelf, file: File, length: int) -> bytes:
    """The first bytes of a file, fewer only where it has no more."""
    return b"".join(shelf.pieces(file, first_bytes=length))[:length]
