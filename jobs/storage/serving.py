"""Sends an object's bytes: whole or a range, conditionally, in constant memory under WSGI and ASGI alike."""

import re
from collections.abc import AsyncIterator, Iterator
from email.utils import format_datetime
from pathlib import PurePosixPath
from typing import IO

from asgiref.sync import sync_to_async
from django.core.files.base import File
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header

from jobs.storage.errors import NoSuchKey, PreconditionFailed, RangeWrong
from jobs.storage.objects import StoredObject, give_connection_back

SEND_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


def answer(request: HttpRequest, described: StoredObject) -> HttpResponseBase:
    """Answer GET or HEAD for an object. Raises RangeWrong, PreconditionFailed, NoSuchKey when its file is not there."""
    headers = _headers(described)
    if_match = request.headers.get("If-Match")
    if if_match is not None and not _names(if_match, described.etag):
        raise PreconditionFailed("The object has another ETag by now.")
    if _is_known(request, described):
        return HttpResponse(status=304, headers={"ETag": headers["ETag"], "Last-Modified": headers["Last-Modified"]})
    part = _range(request.headers.get("Range", ""), described.size)
    start, length = part or (0, described.size)
    headers["Content-Length"] = str(length)
    if part:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{described.size}"
    status = 206 if part else 200
    if request.method == "HEAD":
        return HttpResponse(status=status, headers=headers)
    try:
        file = described.open()
    except FileNotFoundError as error:
        raise NoSuchKey("The object's file is missing from the storage.") from error
    # A download may take hours, and needs the database no more.
    give_connection_back()
    window = _Window(file, start, length)
    return StreamingHttpResponse(_AsyncWindow(window) if isinstance(request, ASGIRequest) else window, status=status, headers=headers)


def _headers(described: StoredObject) -> dict[str, str]:
    headers = {
        "ETag": f'"{described.etag}"',
        "Last-Modified": format_datetime(described.modified_at, usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Type": described.content_type,
        # Whatever a trainer wrote is downloaded, never shown as a page of ours.
        "Content-Disposition": content_disposition_header(True, PurePosixPath(described.name).name) or "attachment",
    }
    return headers | {f"x-amz-meta-{name}": value for name, value in described.metadata.items()}


def _names(header: str, etag: str) -> bool:
    return header.strip() == "*" or etag in (word.strip().removeprefix("W/").strip('"') for word in header.split(","))


def _is_known(request: HttpRequest, described: StoredObject) -> bool:
    """Whether the client has this very object already."""
    if "If-None-Match" in request.headers:
        return _names(request.headers["If-None-Match"], described.etag)
    since = request.headers.get("If-Modified-Since")
    return since == format_datetime(described.modified_at, usegmt=True)


def _range(header: str, size: int) -> tuple[int, int] | None:
    """Start and length of the one range that was asked for; None for the whole, as also for headers that ask for several."""
    match = _RANGE.fullmatch(header.strip())
    if not match or not any(match.groups()):
        return None
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start >= size or (first and last and int(last) < start):
        raise RangeWrong(f"The range lies outside of the object's {size} bytes.")
    return start, end - start + 1


class _Window(Iterator[bytes]):
    """A file's bytes from `start` on, in pieces; the response closes it."""

    def __init__(self, file: IO[bytes] | File, start: int, length: int) -> None:
        self._file = file
        self._left = length
        file.seek(start)

    def __next__(self) -> bytes:
        if data := self.read():
            return data
        raise StopIteration

    def read(self) -> bytes:
        """The next piece, empty at the end."""
        data = self._file.read(min(SEND_BYTES, self._left)) if self._left else b""
        self._left -= len(data)
        return bytes(data)

    def close(self) -> None:
        self._file.close()


class _AsyncWindow(AsyncIterator[bytes]):
    """The same for ASGI, where Django would read a plain iterator to its end before the first byte is sent."""

    def __init__(self, window: _Window) -> None:
        self._window = window

    async def __anext__(self) -> bytes:
        data = await sync_to_async(self._window.read, thread_sensitive=False)()
        if not data:
            raise StopAsyncIteration
        return data

    def close(self) -> None:
        self._window.close()
