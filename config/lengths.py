"""Under WSGI Django takes a body without a length for an empty one, and proxies may pass bodies on without."""

import json
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

from config.api import error_body

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

PIECE_BYTES = 256 * 1024
SPOOL_BYTES = 2 * 1024 * 1024
# One form of a dataset, and more than any other request; beyond it nobody fills our disk with a body that has no end.
MOST_BYTES = 128 * 1024 * 1024
# It reads bodies of any size by itself, and never keeps a copy. See jobs/storage/body.py.
STORAGE = "/api/cloud/storage"


def knowing_lengths(application: Application) -> Application:
    """The application, which gets a body that came without a length as a file whose length is known, as ASGI's Django does.

    Clients of HTTP/2 need not send a length, and neither Caddy nor Traefik then has one to pass on: the body comes in HTTP's
    chunks. Without this a webhook of theirs would be turned away as empty.
    """

    def answering(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not _is_unmeasured(environ):
            return application(environ, start_response)
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as body:
            while piece := environ["wsgi.input"].read(PIECE_BYTES):
                body.write(piece)
                if body.tell() > MOST_BYTES:
                    return _too_large(start_response)
            length = str(body.tell())
            body.seek(0)
            # What answers piece by piece has read the body before its first piece.
            return application(environ | {"wsgi.input": body, "CONTENT_LENGTH": length}, start_response)

    return answering


def _is_unmeasured(environ: Environ) -> bool:
    """Whether the body comes in chunks, from a server that says where it ends."""
    is_chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    is_ours = not environ.get("PATH_INFO", "").startswith(STORAGE)
    return is_chunked and is_ours and bool(environ.get("wsgi.input_terminated"))


def _too_large(start_response: Callable[..., Any]) -> list[bytes]:
    detail = f"The body is larger than {MOST_BYTES // 1024 // 1024} MiB."
    answer = json.dumps(error_body(None, status=413, detail=detail, hint="Send it in parts, or name its length.")).encode()
    start_response("413 Content Too Large", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]
