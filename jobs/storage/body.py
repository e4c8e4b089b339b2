"""The bytes of a request: one stream for every server, with or without a length, plain or `aws-chunked`, checked to its end.

boto3 over https sends `aws-chunked` without a Content-Length. Under WSGI Django takes a missing length for an empty body, so
the bytes then come from `wsgi.input` itself, if the server says that it ends where the body ends.

Source: Amazon S3 API Reference, "Transferring Payload in Multiple Chunks"; wsgi.input_terminated as in Werkzeug and Granian.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator

from django.http import HttpRequest

from jobs.storage import checksums
from jobs.storage.checksums import Tally
from jobs.storage.errors import EmptyBody, IncompleteBody, LengthMissing, NotOffered, SignedHashWrong, StorageRefusal, TooLarge
from jobs.storage.signatures import UNSIGNED, ChunkSigner

READ_BYTES = 256 * 1024
LONGEST_LINE_BYTES = 8192
# Of a body that is refused this much is read and thrown away: most clients only then listen to the answer.
DRAIN_BYTES = 16 * 1024 * 1024

SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_CHUNKS_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
CHUNKED = {SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER, UNSIGNED_CHUNKS_TRAILER}

_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_SIZE = re.compile(rb"[0-9a-fA-F]{1,16}")


class Source:
    """The request's bytes as they come from the server. Kept on the request, since they can be read once only."""

    def __init__(self, request: HttpRequest) -> None:
        environ = getattr(request, "environ", {})
        has_no_length = not environ.get("CONTENT_LENGTH")
        self._read: Callable[[int], bytes] = request.read
        if has_no_length and environ.get("wsgi.input_terminated"):
            self._read = environ["wsgi.input"].read
        self.is_started = False

    @classmethod
    def of(cls, request: HttpRequest) -> "Source":
        if not hasattr(request, "storage_source"):
            request.storage_source = cls(request)  # type: ignore[attr-defined]
        return request.storage_source  # type: ignore[attr-defined]

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, empty only at the end. Raises IncompleteBody when the client has gone."""
        self.is_started = True
        try:
            return self._read(size)
        except (OSError, ValueError) as error:  # ValueError: Django has closed the file that it had spooled the body to
            raise IncompleteBody("The connection broke before the body was complete. Nothing was stored.") from error


def drain(request: HttpRequest) -> None:
    """Throw away what is left of a body that was refused, up to a bound, so that the client reads our answer rather than fails to write.

    A client that waits for "100 Continue" is let go without sending a large body, but must send a small one: Granian keeps
    the connection open, and would take the first bytes of the client's next request for the body of this one.
    """
    source = Source.of(request)
    announced = request.headers.get("content-length") or request.headers.get("x-amz-decoded-content-length", "")
    is_large = announced.isdecimal() and int(announced) > DRAIN_BYTES
    if is_large and not source.is_started and request.headers.get("Expect", "").lower() == "100-continue":
        return
    left = DRAIN_BYTES
    try:
        while left > 0 and (data := source.read(min(READ_BYTES, left))):
            left -= len(data)
    except StorageRefusal:
        return  # the client is gone, and has no need of an answer


def must_close(request: HttpRequest) -> bool:
    """Whether the connection must end with our answer: the client waited for "100 Continue" and the server never said it.

    botocore takes the status of such an answer for that of the next one on the connection. Amazon closes it, too.
    """
    if request.headers.get("Expect", "").lower() != "100-continue":
        return False
    environ = getattr(request, "environ", {"wsgi.input_terminated": True})
    is_unsaid = not Source.of(request).is_started or request.headers.get("content-length") == "0"
    # Python's own server refuses this header from applications, and says "100 Continue" in every case.
    return is_unsaid and bool(environ.get("wsgi.input_terminated"))


class Body:
    """The decoded bytes of a request; iterate once, to the end. Only then is it known to be whole and right.

    The constructor raises for what the headers alone show (no length, too large, digests that are none), the iteration
    for what the bytes show (short, long, another digest or signature than announced).
    """

    def __init__(self, request: HttpRequest, *, payload: str, signer: ChunkSigner | None, limit: int, has_digests: bool = True) -> None:
        """`payload` is the value of x-amz-content-sha256; `limit` is in bytes. Without `has_digests` the
        x-amz-checksum headers speak of something else than this body."""
        self._source = Source.of(request)
        self._payload = payload
        self._signer = signer if payload in {SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER} else None
        self._is_chunked = payload in CHUNKED
        if payload.startswith("STREAMING-") and not self._is_chunked:
            raise NotOffered(f"The body signature {payload[:80]} is not accepted.", hint=f"Accepted are {', '.join(sorted(CHUNKED))}.")
        if not self._is_chunked and payload != UNSIGNED and not _HEX_SHA256.fullmatch(payload):
            raise StorageRefusal(f"x-amz-content-sha256 must be {UNSIGNED}, a SHA-256 in lower-case hex, or one of the STREAMING words.")
        self.size = _announced_size(request, is_chunked=self._is_chunked, limit=limit)
        self._expected = _digests_in_headers(request) if has_digests else {}
        trailer = request.headers.get("x-amz-trailer", "") if self._is_chunked else ""
        self._trailing = {name: checksums.algorithm_of(name) for name in (part.strip().lower() for part in trailer.split(",")) if name}
        self.tally = Tally(*self._expected, *self._trailing.values())
        is_proven = self._expected or self._trailing or payload not in {UNSIGNED, UNSIGNED_CHUNKS_TRAILER}
        if self.size == 0 and not is_proven:
            raise EmptyBody(
                "The body is empty and no digest says that it should be. Nothing was stored.", hint="Send Content-MD5 or sign the body."
            )

    def __iter__(self) -> Iterator[bytes]:
        for data in self._chunks() if self._is_chunked else self._plain():
            self.tally.update(data)
            if self.tally.size > self.size:
                raise IncompleteBody(f"The body is longer than the {self.size} bytes that were announced. Nothing was stored.")
            yield data
        if self.tally.size != self.size:
            raise IncompleteBody(f"{self.size} bytes were announced and {self.tally.size} came in. Nothing was stored.")
        if _HEX_SHA256.fullmatch(self._payload) and self.tally.digest("sha256").hex() != self._payload:
            raise SignedHashWrong("The body does not have the SHA-256 that x-amz-content-sha256 says. Nothing was stored.")
        for name, digest in self._expected.items():
            self.tally.check(name, digest)

    @property
    def verified(self) -> dict[str, str]:
        """The x-amz-checksum headers that the body was checked against, for the answer."""
        return {f"{checksums.HEADER}{name}": base64.b64encode(digest).decode() for name, digest in self._expected.items()}

    def _plain(self) -> Iterator[bytes]:
        while data := self._source.read(READ_BYTES):
            yield data

    def _chunks(self) -> Iterator[bytes]:
        """Undo `aws-chunked`: `size[;chunk-signature=…] CRLF data CRLF`, a chunk of size 0, then trailing headers."""
        lines = _Lines(self._source)
        while True:
            size, signature = _chunk_head(lines.line())
            digest = hashlib.sha256()
            for data in lines.take(size):
                digest.update(data) if self._signer else None
                yield data
            if self._signer:
                self._signer.check_chunk(digest.hexdigest(), signature)
            if size == 0:
                break
            if lines.line():
                raise IncompleteBody("A chunk of the body is longer than it says. Nothing was stored.")
        self._read_trailer(lines)

    def _read_trailer(self, lines: "_Lines") -> None:
        signed, signature = b"", ""
        missing = dict(self._trailing)
        while line := lines.line(may_end=True):
            name, _, value = line.decode("latin-1").partition(":")
            name, value = name.strip().lower(), value.strip()
            if name == "x-amz-trailer-signature":
                signature = value
            else:
                signed += f"{name}:{value}\n".encode("latin-1")
            if name in missing:
                algorithm = missing.pop(name)
                self._expected[algorithm] = checksums.decode(algorithm, value)
        if missing:
            raise IncompleteBody(f"The body ends without its announced trailer {', '.join(missing)}. Nothing was stored.")
        if self._signer and self._payload == SIGNED_CHUNKS_TRAILER:
            self._signer.check_trailer(hashlib.sha256(signed).hexdigest(), signature)


class _Lines:
    """Lines and counted runs of bytes out of a source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._buffer = b""

    def line(self, *, may_end: bool = False) -> bytes:
        """The next line without its end. Raises IncompleteBody at the end of the body, unless it may end here."""
        while b"\n" not in self._buffer:
            if len(self._buffer) > LONGEST_LINE_BYTES:
                raise StorageRefusal("The body is not aws-chunked as its headers say. Nothing was stored.")
            data = self._source.read(READ_BYTES)
            if not data:
                if may_end and not self._buffer:
                    return b""
                raise IncompleteBody("The body ends in the middle of its chunks. Nothing was stored.")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r")

    def take(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes, in pieces. Raises IncompleteBody if there are fewer."""
        while size > 0:
            data = self._buffer or self._source.read(min(READ_BYTES, size))
            if not data:
                raise IncompleteBody("The body ends in the middle of a chunk. Nothing was stored.")
            piece, self._buffer = data[:size], data[size:]
            size -= len(piece)
            yield piece


def _chunk_head(line: bytes) -> tuple[int, str]:
    """Size and signature of a chunk out of its first line."""
    size, _, extension = line.partition(b";")
    if not _SIZE.fullmatch(size.strip()):
        raise StorageRefusal("The body is not aws-chunked as its headers say. Nothing was stored.")
    name, _, value = extension.strip().partition(b"=")
    return int(size, 16), value.decode("latin-1") if name == b"chunk-signature" else ""


def _announced_size(request: HttpRequest, *, is_chunked: bool, limit: int) -> int:
    name = "x-amz-decoded-content-length" if is_chunked else "content-length"
    announced = request.headers.get(name, "")
    if not announced:
        raise LengthMissing(f"The header {name} is missing, so nobody could tell whether the body is complete.")
    if not (announced.isascii() and announced.isdigit() and len(announced) < 20):
        raise StorageRefusal(f"The header {name} is not a number of bytes.")
    if int(announced) > limit:
        raise TooLarge(f"The body has {announced} bytes; at most {limit} are accepted here.")
    return int(announced)


def _digests_in_headers(request: HttpRequest) -> dict[str, bytes]:
    """The digests that the headers announce for the body, by algorithm."""
    found = {}
    for header, value in request.headers.items():
        name = header.lower()
        if name.startswith(checksums.HEADER) and name.removeprefix(checksums.HEADER) not in checksums.NOT_DIGESTS:
            algorithm = checksums.algorithm_of(name)
            found[algorithm] = checksums.decode(algorithm, value)
    if "Content-MD5" in request.headers:
        found["md5"] = checksums.decode("md5", request.headers["Content-MD5"])
    return found
