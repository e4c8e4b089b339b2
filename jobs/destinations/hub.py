"""The Hugging Face Hub, as far as checking a result needs it: whose token it is, what lies in a repository, and its bytes.

huggingface_hub is not used here: it has one HTTP client for the whole process (`set_client_factory`), so that one team's
proxy and certificates would be every thread's. The trainer pushes; this only reads.

Source: huggingface_hub 2.4, hf_api.py (`whoami`, `model_info`, `list_repo_tree`) and utils/_http.py (`X-Error-Code`).
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote, urljoin, urlsplit

import httpx

from jobs.destinations.errors import BadKey, DestinationError, Forbidden, Missing, Refused, Unreachable
from jobs.destinations.shelf import File
from jobs.outbound import PLAIN, Outbound, Unusable, client

PIECE_BYTES = 1024 * 1024
ANSWER_LIMIT_BYTES = 16 * 1024 * 1024
MOST_REDIRECTS = 5
_ADDRESS = re.compile(r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|/+$")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Account:
    """Whom a token belongs to; `type` is `user` or `org`. `may_write` is whether it may push to any repository at all."""

    username: str
    type: str
    may_write: bool


class Hub:
    """The Hub as one token sees it. Use it as a context manager, in one thread."""

    def __init__(self, *, endpoint: str, token: str, outbound: Outbound = PLAIN) -> None:
        """Open nothing yet. Raises Refused for a token that no header can carry, Unreachable for outbound settings that cannot work."""
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise Refused("The Hugging Face token is not there any more.")
        self._endpoint = endpoint.rstrip("/")
        self._token = token
        try:
            self._http = client(outbound, headers={"Accept": "application/json"})
        except Unusable as error:
            raise Unreachable(str(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def __repr__(self) -> str:
        return f"<Hub at {urlsplit(self._endpoint).hostname}>"

    def account(self) -> Account:
        """Say whom the token belongs to. Raises Refused for a token that the Hub does not accept."""
        said = self._object("/api/whoami-v2")
        with _reading("account"):
            access = (said.get("auth") or {}).get("accessToken") or {}
            return Account(username=str(said["name"]), type=str(said.get("type") or "user"), may_write=_may_write(access))

    def repository(self, asked: str, *, revision: str = "") -> "Repository":
        """The model repository that a job named, as `owner/name`, `name` of one's own, or its address: at this commit, else the newest.

        Raises Missing where it is not there or hidden from the token.
        """
        name = _ADDRESS.sub("", asked.strip())
        if not _NAME.fullmatch(name):
            raise Refused(f"'{asked[:100]}' is not the name of a repository.")
        if "/" not in name:
            name = f"{self.account().username}/{name}"
        at = f"/revision/{quote(revision, safe='')}" if revision else ""
        said = self._object(f"/api/models/{name}{at}", what=name)
        with _reading("repository"):
            return Repository(self, name=name, revision=str(said["sha"]))

    # The wire

    def _object(self, path: str, *, what: str = "") -> dict[str, Any]:
        said, _ = self.json(path, what=what)
        if not isinstance(said, dict):
            raise Unreachable("The Hub's answer cannot be read: it is not the JSON that was expected.")
        return said

    def json(self, path: str, *, what: str = "") -> tuple[Any, str | None]:
        """An answer and the path of its next page, if it has one."""
        with self.stream(path, what=what) as response:
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > ANSWER_LIMIT_BYTES:
                    raise Unreachable("The Hub's answer is longer than any that it should give.")
        with _reading("answer"):
            return json.loads(body), self._on_our_host(response.links.get("next", {}).get("url"))

    @contextmanager
    def stream(self, path: str, *, what: str = "", headers: dict[str, str] | None = None) -> Iterator[httpx.Response]:
        """GET and give the successful answer with its body unread. Large files lie at other hosts, which do not get the token."""
        address = f"{self._endpoint}{path}"
        try:
            for _ in range(MOST_REDIRECTS):
                own = {"Authorization": f"Bearer {self._token}"} if self._is_ours(address) else {}
                with self._http.stream("GET", address, headers={**own, **(headers or {})}) as response:
                    if response.is_redirect:
                        address = urljoin(address, response.headers["location"])
                        continue
                    if not response.is_success:
                        raise _refusal(response, what)
                    yield response
                    return
        except httpx.TimeoutException:
            raise Unreachable("The Hub does not answer in time.") from None
        except httpx.ProxyError:
            raise Unreachable("The outbound proxy cannot be reached.") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Unreachable("The Hub's certificate is not trusted by this server; see the CA bundle in the settings.") from None
            raise Unreachable("The Hub cannot be reached, or the connection broke off.") from None
        raise Unreachable("The Hub leads on from address to address without an end.")

    def address_of(self, path: str) -> str:
        return f"{self._endpoint}{path}"

    def _on_our_host(self, following: str | None) -> str | None:
        """Turn a list's next page into a path; the token goes to the Hub's own host only."""
        if not following:
            return None
        address = urljoin(f"{self._endpoint}/", following)
        if not self._is_ours(address):
            raise Unreachable("The Hub's list goes on at another host, which does not get the token.")
        return address.removeprefix(self._endpoint)

    def _is_ours(self, address: str) -> bool:
        return address.startswith(f"{self._endpoint}/")


class Repository:
    """A model repository at one commit, so that what is listed and what is read belong together."""

    def __init__(self, hub: Hub, *, name: str, revision: str) -> None:
        self.name = name
        self.revision = revision
        self.address = hub.address_of(f"/{name}")
        self.files_address = hub.address_of(f"/{name}/resolve/{quote(revision, safe='')}/")
        self._hub = hub

    def files(self) -> Iterator[File]:
        """All files at this commit. Large ones come with the SHA-256 that the Hub checked when they came in (LFS)."""
        path: str | None = f"/api/models/{self.name}/tree/{quote(self.revision, safe='')}?recursive=true&expand=false"
        while path:
            listed, following = self._hub.json(path, what=self.name)
            with _reading("list of files"):
                found = [_file(item) for item in listed if item["type"] == "file"]
            yield from found
            path = following if following != path else None

    def pieces(self, file: File, *, first_bytes: int | None = None) -> Iterator[bytes]:
        """A file's content in pieces of 1 MiB at most."""
        headers = {"Range": f"bytes=0-{first_bytes - 1}"} if first_bytes is not None and file.size_bytes else {}
        path = f"/{self.name}/resolve/{quote(self.revision, safe='')}/{quote(file.key)}"
        # As it is stored: a body that is packed for the way would be counted in other bytes.
        headers["Accept-Encoding"] = "identity"
        given = 0
        with self._hub.stream(path, what=file.key, headers=headers) as response:
            for piece in response.iter_bytes(PIECE_BYTES):
                yield piece
                given += len(piece)
                if first_bytes is not None and given >= first_bytes:
                    return  # a server that knows no ranges would send all of it

    def sha256_of(self, file: File) -> str:
        """The SHA-256 of a large file as listed; "" for the small ones that lie in git itself."""
        return file.sha256


def _file(item: dict[str, Any]) -> File:
    large = item.get("lfs") or {}
    size = int(large.get("size", item["size"]))
    return File(key=str(item["path"]), size_bytes=size, tag=str(item["oid"]), sha256=str(large.get("oid", "")))


def _may_write(access: dict[str, Any]) -> bool:
    """Whether an access token may push somewhere; one that says nothing about itself gets the benefit of the doubt."""
    role = access.get("role")
    if role != "fineGrained":
        return role != "read"
    scoped = (access.get("fineGrained") or {}).get("scoped") or []
    return any("repo.write" in (entry.get("permissions") or []) for entry in scoped)


def _refusal(response: httpx.Response, what: str) -> DestinationError:
    status, code = response.status_code, response.headers.get("x-error-code", "")
    if status == 407:
        return Unreachable("The outbound proxy wants another user name or password.")
    if status in (408, 429) or status >= 500:
        return Unreachable(f"The Hub does not answer properly for now ({status}).")
    if code in ("RepoNotFound", "RevisionNotFound") or (status == 404 and code != "EntryNotFound"):
        return Missing(f"The Hub has no repository {what}, or the token may not see it ({status}).")
    if status == 404:
        return Missing(f"{what} is not in the repository.")
    if status == 401:
        return BadKey("The Hub does not accept the token (401).")
    if status == 403:
        return Forbidden(f"The token may not read {what} (403)." if what else "The Hub refuses the token (403).")
    return Refused(f"The Hub said no ({status}).")


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """An answer of an unexpected shape is one that was cut short, or a proxy's: it may be asked for again."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        raise Unreachable(f"The Hub's {what} cannot be read: it is not the JSON that was expected.") from None
