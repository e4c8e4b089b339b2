"""Under ASGI Django writes a request's body to a temporary file before any view runs, so a full disk shows there first."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog

from jobs.storage import files, xml
from jobs.storage.body import DRAIN_BYTES

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

log = structlog.get_logger(__name__)


def answering_when_full(application: Application) -> Application:
    """The application, which answers 507 instead of failing when a request's body does not fit on the disk."""

    async def answering(scope: Message, receive: Receive, send: Send) -> None:
        try:
            await application(scope, receive, send)
        except OSError as error:
            # Views answer for themselves: what comes out here was raised before any of them ran.
            if scope["type"] != "http" or error.errno not in files.FULL:
                raise
            log.exception("storage.full")
            await _drain(receive)
            body = xml.full_disk(scope["path"])
            headers = [(b"content-type", xml.TYPE.encode()), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 507, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    return answering


async def _drain(receive: Receive) -> None:
    """Throw away what is left of the body, up to a bound, so that the client listens to the answer."""
    left = DRAIN_BYTES
    while left > 0:
        message = await receive()
        if not message.get("more_body"):
            break
        left -= len(message.get("body", b""))
