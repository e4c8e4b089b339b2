"""Files to people piece by piece, whatever server carries the page."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TypeVar

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.http import content_disposition_header

PIECE_BYTES = 256 * 1024
# For what long streams ask the database: apart from requests, whose own threads end with them.
_THREADS = ThreadPoolExecutor(max_workers=3, thread_name_prefix="streams")

Found = TypeVar("Found")


def download(
    request: HttpRequest, pieces: Iterator[bytes], *, name: str, content_type: str = "application/octet-stream", size: int | None = None
) -> StreamingHttpResponse:
    """An attachment that is never in memory as a whole; browsers save it and never open it as a page."""
    headers = {
        "Content-Disposition": content_disposition_header(as_attachment=True, filename=name) or "attachment",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-store",
    }
    if size is not None:
        headers["Content-Length"] = str(size)
    return StreamingHttpResponse(in_step(request, pieces), content_type=content_type, headers=headers)


def in_step(request: HttpRequest, pieces: Iterator[bytes]) -> Iterator[bytes] | AsyncIterator[bytes]:
    """The pieces as the server wants them: Django would gather a plain iterator into one list before an ASGI server gets any of it."""
    return _Stepping(pieces) if isinstance(request, ASGIRequest) else pieces


async def give_back() -> None:
    """Give back the connection that the request has used: else it would keep it until its stream ends."""
    await sync_to_async(given_back)(lambda: None)


async def looked_up(look: Callable[[], Found]) -> Found:
    """Have a thread of the streams' own ask the database, and give its connection back before going on."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, lambda: given_back(look))


def given_back(look: Callable[[], Found]) -> Found:
    """Ask the database, and hold none of the pool's connections afterwards."""
    try:
        return look()
    finally:
        if not connection.in_atomic_block:
            connection.close()


class FilePieces(Iterator[bytes]):
    """An open file piece by piece. Django closes it with the response, also when nobody reads a byte."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def __next__(self) -> bytes:
        if piece := self.file.read(PIECE_BYTES):
            return piece
        raise StopIteration

    def close(self) -> None:
        self.file.close()


class _Stepping(AsyncIterator[bytes]):
    """Takes the next piece in a thread each time that the server asks for one."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces = pieces

    async def __anext__(self) -> bytes:
        piece = await sync_to_async(self._next)()
        if piece is None:
            raise StopAsyncIteration
        return piece

    def _next(self) -> bytes | None:
        return next(self.pieces, None)

    def close(self) -> None:
        if close := getattr(self.pieces, "close", None):
            close()
