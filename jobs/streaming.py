"""Files to people piece by piece, whatever server carries the page."""

from collections.abc import AsyncIterator, Iterator
from typing import IO

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.http import content_disposition_header

PIECE_BYTES = 256 * 1024


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
    return _one_by_one(pieces) if isinstance(request, ASGIRequest) else pieces


async def _one_by_one(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    following = sync_to_async(next)
    while (piece := await following(pieces, None)) is not None:
        yield piece


def pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    """Read an open file to its end, and close it."""
    with file:
        while piece := file.read(PIECE_BYTES):
            yield piece
