"""The digests that S3 clients send along, and one tally that computes all that are wanted in one pass.

Source: Amazon S3 User Guide, "Checking object integrity for data uploads in Amazon S3".
"""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable
from functools import cache
from typing import Protocol

from jobs.storage.errors import DigestInvalid, DigestWrong, StorageRefusal

HEADER = "x-amz-checksum-"
# Headers that begin so and are no digest of the body.
NOT_DIGESTS = {"algorithm", "mode", "type"}

# The generator polynomials of CRC-32C and CRC-64/NVME, bits reversed.
CRC32C = (32, 0x82F63B78)
CRC64NVME = (64, 0x9A6C9329AC4BC9B5)


class Digest(Protocol):
    """What hashlib's objects are."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class Crc32:
    def __init__(self) -> None:
        self.value = 0

    def update(self, data: bytes) -> None:
        self.value = zlib.crc32(data, self.value)

    def digest(self) -> bytes:
        return self.value.to_bytes(4, "big")


class ReflectedCrc:
    """A CRC by table, in Python: some ten MB/s. Only clients with Amazon's C runtime send these, such as its command line 2."""

    def __init__(self, width: int, polynomial: int) -> None:
        self.table = _table(polynomial)
        self.ones = (1 << width) - 1
        self.width = width
        self.value = self.ones

    def update(self, data: bytes) -> None:
        table, value = self.table, self.value
        for byte in data:
            value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
        self.value = value

    def digest(self) -> bytes:
        return (self.value ^ self.ones).to_bytes(self.width // 8, "big")


@cache
def _table(polynomial: int) -> tuple[int, ...]:
    entries = []
    for entry in range(256):
        for _ in range(8):
            entry = (entry >> 1) ^ (polynomial if entry & 1 else 0)
        entries.append(entry)
    return tuple(entries)


ALGORITHMS: dict[str, tuple[int, Callable[[], Digest]]] = {
    # name: length in bytes, maker
    "crc32": (4, Crc32),
    "crc32c": (4, lambda: ReflectedCrc(*CRC32C)),
    "crc64nvme": (8, lambda: ReflectedCrc(*CRC64NVME)),
    "md5": (16, lambda: hashlib.md5(usedforsecurity=False)),
    "sha1": (20, lambda: hashlib.sha1(usedforsecurity=False)),
    "sha256": (32, hashlib.sha256),
    "sha512": (64, hashlib.sha512),
}


class Tally:
    """Counts bytes and computes MD5, SHA-256 and whatever else is named, in one pass."""

    def __init__(self, *names: str) -> None:
        self.size = 0
        self._digests = {name: ALGORITHMS[name][1]() for name in {"md5", "sha256", *names}}

    def update(self, data: bytes) -> None:
        self.size += len(data)
        for digest in self._digests.values():
            digest.update(data)

    def digest(self, name: str) -> bytes:
        return self._digests[name].digest()

    def check(self, name: str, expected: bytes) -> None:
        """Raises DigestWrong."""
        if self.digest(name) != expected:
            raise DigestWrong(f"The {name.upper()} checksum that was sent does not match the {self.size} bytes that came in.")


def algorithm_of(header: str) -> str:
    """The algorithm that a header like `x-amz-checksum-crc32` names. Raises StorageRefusal for one that we don't know."""
    name = header.lower().removeprefix(HEADER)
    if name not in ALGORITHMS:
        raise StorageRefusal(f"The checksum header {header} is not known here.", hint=f"Known are: {', '.join(sorted(ALGORITHMS))}.")
    return name


def decode(name: str, value: str) -> bytes:
    """A digest out of its base64 form. Raises DigestInvalid."""
    try:
        digest = base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != ALGORITHMS[name][0]:
        raise DigestInvalid(f"The {name.upper()} checksum that was sent is not valid base64 of {ALGORITHMS[name][0]} bytes.")
    return digest
