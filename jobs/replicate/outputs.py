"""Files that a run left at the provider: which addresses are the provider's own, and reading one in constant memory.

Source: Replicate docs, topics/predictions/output-files. They need no token, so none is sent.
"""

from collections.abc import Iterator
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from jobs.outbound import Outbound, Steps, Unusable, client, trouble

DELIVERY_HOST = "replicate.delivery"
MOST_REDIRECTS = 3
CHUNK_BYTES = 1024 * 1024
GONE = frozenset({401, 403, 404, 410})


class Gone(Exception):
    """The provider does not have the file any more, or gives it to nobody, or it is none that we take; asking again is no use."""


class Away(Exception):
    """The file could not be read now; the same call may succeed later."""


def is_at_provider(url: str, *, base_url: str) -> bool:
    """Whether the address is one of the provider's hosts for files by https, or the host that we take for the provider."""
    try:
        there, base = urlsplit(url), urlsplit(base_url)
        host = there.hostname or ""
        if there.username is not None or there.password is not None:
            return False
        if (there.scheme, host, there.port) == (base.scheme, base.hostname, base.port):
            return True
        is_delivery = host == DELIVERY_HOST or host.endswith(f".{DELIVERY_HOST}")
        return there.scheme == "https" and is_delivery and there.port in (None, 443)
    except ValueError:
        return False


def name_in(url: str) -> str:
    """The file's name at the end of an address, safe to be one of ours."""
    last = unquote(urlsplit(url).path).replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = "".join(letter for letter in last if letter.isprintable() and letter != "\x00").strip()
    return name[-200:] if name.strip(".") else "file"


def pieces(url: str, *, base_url: str, outbound: Outbound, limit_bytes: int) -> Iterator[bytes]:
    """The file's bytes, whole or with an error at the end. Raises Gone, Away."""
    try:
        with client(outbound, headers={"Accept-Encoding": "identity"}) as http:
            yield from _followed(http, url, base_url=base_url, limit_bytes=limit_bytes)
    except Unusable as error:
        raise Away(str(error)) from None


def _followed(http: httpx.Client, url: str, *, base_url: str, limit_bytes: int) -> Iterator[bytes]:
    for _ in range(MOST_REDIRECTS + 1):
        if not is_at_provider(url, base_url=base_url):
            raise Gone("The file is not at one of the provider's own addresses.")
        steps = Steps(url)
        try:
            with http.stream("GET", url, extensions={"trace": steps}) as response:
                if not response.is_redirect:
                    yield from _checked(response, limit_bytes=limit_bytes)
                    return
                url = urljoin(url, response.headers.get("location", ""))
        except httpx.HTTPError as error:
            raise Away(str(trouble(error, steps))) from None
    raise Gone("The address leads on and on.")


def _checked(response: httpx.Response, *, limit_bytes: int) -> Iterator[bytes]:
    if response.status_code in GONE:
        raise Gone(f"The provider answers {response.status_code}.")
    if not response.is_success:
        raise Away(f"The provider answers {response.status_code}.")
    size = 0
    for piece in response.iter_bytes(CHUNK_BYTES):
        size += len(piece)
        if size > limit_bytes:
            raise Gone("The file is larger than any that we keep.")
        yield piece
