"""Replicate's HTTP API, as far as training needs it: one explicit token, time-outs on every call, raw JSON kept.

The official client is not used: it takes a missing token from the environment, sends no `Cancel-After`, has no
time-out on create and upload, and fails on a prediction that was aborted.

Source: Replicate docs, reference/http.
"""

import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self, cast
from urllib.parse import quote, urljoin, urlsplit

import httpx

from jobs.outbound import PLAIN, Outbound, Steps, Trouble, Unusable, client, refusal_of_proxy, trouble
from jobs.replicate import inputs, predictions
from jobs.replicate.predictions import MalformedPrediction, Prediction

# The longest answer that we read. Logs end at about 10 MB at Replicate, so that more is not a prediction.
ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
DETAIL_LIMIT = 2000

# What httpx raises before the first byte of a request is on its way.
_BEFORE_SENDING = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)
_LOST_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
_WORTH_ANOTHER_TRY = frozenset({429, 500, 502, 503, 504})


class ReplicateError(Exception):
    """Nobody knows what Replicate did, unless it is one of the subclasses that say more.

    `status` is the HTTP status if there was an answer, `trouble` why the call or its answer did not arrive.
    """

    def __init__(self, message: str, *, status: int | None = None, trouble: Trouble | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.trouble = trouble


class OutcomeUnknown(ReplicateError):
    """The request may have been carried out: its answer was lost, cut short, or a fault of the platform."""


class Unavailable(ReplicateError):
    """Replicate certainly did nothing; the same call may succeed later. `retry_after` is in seconds where Replicate named a time."""

    def __init__(
        self, message: str, *, retry_after: float | None = None, status: int | None = None, trouble: Trouble | None = None
    ) -> None:
        super().__init__(message, status=status, trouble=trouble)
        self.retry_after = retry_after


class Rejected(ReplicateError):
    """Replicate said no, in `detail`; `invalid_fields` holds its list of faulty inputs, as sent."""

    def __init__(self, message: str, *, status: int = 0, detail: str = "", invalid_fields: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message, status=status)
        self.detail = detail
        self.invalid_fields = list(invalid_fields)


class Unauthorized(Rejected):
    """The token is unknown to Replicate, or disabled."""


class CreditExhausted(Rejected):
    """The account has no credit left, or no way to pay."""


class NotFound(Rejected):
    """There is no such thing, or it belongs to another account."""


class TooLarge(Rejected):
    """The file is over Replicate's limit of 100 MiB."""


_REJECTIONS: dict[int, type[Rejected]] = {401: Unauthorized, 402: CreditExhausted, 404: NotFound, 413: TooLarge}


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often a GET is tried, with doubling pauses and no more than `budget_seconds` of pauses in all.

    Source: simpletuner-api.md, 13: three attempts after 1 s · 2ⁿ and up to a quarter more, so that not all come back at once.
    """

    attempts: int = 3
    first_pause_seconds: float = 1.0
    budget_seconds: float = 8.0


class Watch(Protocol):
    """Somebody who is asked before each call and hears of its end. A GET is one call, however often it is tried."""

    def before(self) -> None:
        """Raise Unavailable where the call is not to be made."""

    def after(self, error: ReplicateError | None) -> None:
        """Hear how the call ended; None for an answer. Raises nothing."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """Whom a token belongs to; `type` is `user` or `organization`."""

    username: str
    type: str
    name: str
    github_url: str | None = None
    avatar_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a model; `input_schema` stands by itself, its references resolved."""

    id: str
    model: str
    created_at: datetime | None
    input_schema: dict[str, Any] = field(repr=False)
    raw: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class UploadedFile:
    """A file that Replicate keeps for a while; `url` is what a model's input takes."""

    id: str
    url: str
    size: int | None
    sha256: str | None
    expires_at: datetime | None
    # What the uploader said about it.
    metadata: dict[str, Any]
    raw: dict[str, Any] = field(repr=False)


class Gateway:
    """One account's way to Replicate. Use it as a context manager, in one thread."""

    def __init__(
        self,
        *,
        base_url: str,
        token: str,
        outbound: Outbound = PLAIN,
        retries: Retries = Retries(),
        on_refusal: Callable[[Unauthorized | CreditExhausted], object] | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Open nothing yet. `base_url` is without `/v1`; `on_refusal` hears of each 401 and 402 before it is raised, `watch` of all.

        Raises ValueError for a token that no header can carry.
        """
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError("A Replicate token is one word of printable ASCII characters.")
        self._base = base_url.rstrip("/").removesuffix("/v1")
        self._token = token
        self._retries = retries
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._on_refusal = on_refusal
        self._watch = watch
        try:
            self._http = client(outbound, headers=headers)
        except Unusable as error:
            raise Unavailable(str(error), trouble=error.trouble) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Gateway to {urlsplit(self._base).hostname}>"

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    # What an account has

    def account(self) -> Account:
        """Say whom the token belongs to. Raises Unauthorized for a bad token."""
        said = self._get("/v1/account")
        with self._reading("account"):
            username = str(said["username"])
            return Account(
                username=username,
                type=str(said["type"]),
                name=str(said.get("name") or username),
                github_url=said.get("github_url"),
                avatar_url=said.get("avatar_url"),
            )

    def signing_secret(self) -> str:
        """Fetch the `whsec_…` secret with which this account's webhooks are signed."""
        said = self._get("/v1/webhooks/default/secret")
        with self._reading("signing secret"):
            return str(said["key"])

    # Models

    def latest_version(self, model: str) -> Version:
        """Fetch the newest version of `owner/name`. Raises NotFound for an unknown model and for one without a version."""
        said = self._get(f"/v1/models/{_model(model)}")
        if said.get("latest_version") is None:
            raise NotFound(f"The model {model} has no version.", status=404, detail="The model has no version.")
        with self._reading("model"):
            return _version(model, said["latest_version"])

    def versions(self, model: str) -> list[Version]:
        """List all versions of `owner/name`, newest first."""
        found = []
        for item in self._pages(f"/v1/models/{_model(model)}/versions"):
            with self._reading("list of versions"):
                found.append(_version(model, item))
        return found

    def version(self, model: str, id: str) -> Version:
        """Fetch one version of `owner/name`."""
        said = self._get(f"/v1/models/{_model(model)}/versions/{_segment(id)}")
        with self._reading("version"):
            return _version(model, said)

    # Files

    def upload(
        self,
        file: Path | BinaryIO,
        *,
        filename: str,
        content_type: str,
        metadata: Mapping[str, Any] | None = None,
        report: Callable[[int, int], None] | None = None,
    ) -> UploadedFile:
        """Upload a file in constant memory. It expires soon, so upload just before creating the prediction.

        `report` is told again and again how many bytes of how many are on their way.

        Raises TooLarge over 100 MiB, and OutcomeUnknown where Replicate kept another number of bytes.
        Source: Replicate docs, reference/http#files.create (the part is called `content`).
        """
        with ExitStack() as stack:
            stream = stack.enter_context(file.open("rb")) if isinstance(file, Path) else file
            size = stream.seek(0, os.SEEK_END)
            said = self._send(
                "POST",
                "/v1/files",
                files={"content": (filename, cast(BinaryIO, _Watched(stream, size, report)) if report else stream, content_type)},
                data={"metadata": json.dumps(dict(metadata or {}))},
            )
        kept = self._file(said, sent=True)
        if kept.size is not None and kept.size != size:
            raise OutcomeUnknown(f"Replicate kept {kept.size} of the file's {size} bytes.")
        return kept

    def files(self) -> Iterator[UploadedFile]:
        """Walk through the account's uploaded files. Read to its end without an exception, the list is complete.

        Source: Replicate docs, reference/http#files.list.
        """
        for item in self._pages("/v1/files"):
            yield self._file(item)

    def _file(self, said: Any, *, sent: bool = False) -> UploadedFile:
        with self._reading("file", sent=sent):
            checksums, metadata = said.get("checksums") or {}, said.get("metadata")
            return UploadedFile(
                id=str(said["id"]),
                url=str(said["urls"]["get"]),
                size=said.get("size"),
                sha256=checksums.get("sha256"),
                expires_at=predictions.moment(said.get("expires_at")),
                metadata=metadata if isinstance(metadata, dict) else {},
                raw=predictions.storable(said),
            )

    def delete_file(self, id: str) -> bool:
        """Delete an uploaded file and say whether it is gone: True also where it was gone before."""
        path = f"/v1/files/{_segment(id)}"
        try:
            with self._watched():
                return self._answer("DELETE", path)[0] == 204
        except NotFound:
            return True

    # Predictions

    def create(
        self,
        *,
        version: str,
        input: Mapping[str, Any],
        webhook: str | None,
        events_filter: Sequence[str] = ("start", "completed"),
        cancel_after_seconds: int,
    ) -> Prediction:
        """Create a prediction, which Replicate ends `cancel_after_seconds` after its creation (5 s at least).

        Never tried twice: after OutcomeUnknown or any ReplicateError that is neither Unavailable nor Rejected, it
        may exist. The answer's copy of the input is thrown away, since it may still show the secrets in clear.
        Source: Replicate docs, reference/http#predictions.create.
        """
        body: dict[str, Any] = {"version": version, "input": dict(input)}
        if webhook:
            body |= {"webhook": webhook, "webhook_events_filter": list(events_filter)}
        said = self._send("POST", "/v1/predictions", json=body, headers={"Cancel-After": f"{cancel_after_seconds}s"})
        return self._prediction({**said, "input": {}}, sent=True)

    def prediction(self, id: str) -> Prediction:
        """Fetch one prediction as it is now."""
        return self._prediction(self._get(f"/v1/predictions/{_segment(id)}"))

    def cancel(self, id: str) -> Prediction:
        """Ask for a prediction's end and return it as it is then; a running one may end a little later.

        A refusal to cancel (404, 409, 422) tells nothing, so the prediction is read again and its own state counts.
        """
        try:
            return self._prediction(self._send("POST", f"/v1/predictions/{_segment(id)}/cancel"), sent=True)
        except Rejected as refused:
            if refused.status not in (404, 409, 422):
                raise
        return self.prediction(id)

    def predictions(self, *, created_after: datetime, created_before: datetime | None = None) -> Iterator[Prediction]:
        """Walk through the account's predictions, newest first, from `created_after` on and before `created_before`.

        Read to its end without an exception, the list is complete. It covers whatever uses the account, not only us,
        and holds no logs.
        """
        asked = {"created_after": _stamp(created_after)}
        if created_before is not None:
            asked["created_before"] = _stamp(created_before)
        for item in self._pages("/v1/predictions", params=asked):
            yield self._prediction(item)

    # The wire

    def _prediction(self, said: Any, *, sent: bool = False) -> Prediction:
        with self._reading("prediction", sent=sent):
            return predictions.parse(said)

    def _reading(self, what: str, *, sent: bool = False) -> "_Reading":
        return _Reading(what, OutcomeUnknown if sent else Unavailable)

    def _pages(self, path: str, *, params: Mapping[str, str] | None = None) -> Iterator[Any]:
        seen = set()
        page = self._get(path, params=params)
        while True:
            results, following = page.get("results"), page.get("next")
            if not isinstance(results, list) or not (following is None or isinstance(following, str)):
                raise OutcomeUnknown("Replicate's list has another shape than its documentation says; it cannot be trusted.")
            yield from results
            if not following:
                return
            path = self._on_our_host(following)
            if path in seen:
                raise OutcomeUnknown("Replicate's list names the same next page twice; it has no end.")
            seen.add(path)
            page = self._get(path)

    def _on_our_host(self, following: str) -> str:
        """Turn a list's `next` into a path. The token goes to the API's own host only, and by its own scheme."""
        try:
            base, there = urlsplit(self._base), urlsplit(urljoin(f"{self._base}/", following))
            is_ours = (there.hostname, there.port) == (base.hostname, base.port) and there.path.startswith(f"{base.path}/v1/")
        except ValueError:
            is_ours = False
        if not is_ours:
            raise OutcomeUnknown("Replicate's list goes on at another host, which does not get the token; the list is incomplete.")
        path = there.path.removeprefix(base.path)
        return f"{path}?{there.query}" if there.query else path

    def _get(self, path: str, *, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """GET with a few more tries; whatever went wrong, Replicate did nothing."""
        with self._watched():
            return self._tried(path, params)

    def _tried(self, path: str, params: Mapping[str, str] | None) -> dict[str, Any]:
        left = self._retries.budget_seconds
        for attempt in range(1, self._retries.attempts + 1):
            try:
                return self._object(*self._answer("GET", path, params=params))
            except Unavailable as fault:
                is_worth_it = fault.status in _WORTH_ANOTHER_TRY or isinstance(fault, _Interrupted)
                pause = self._retries.first_pause_seconds * 2 ** (attempt - 1) * random.uniform(1.0, 1.25)  # noqa: S311
                pause = max(pause, fault.retry_after or 0.0)
                if not is_worth_it or attempt == self._retries.attempts or pause > left:
                    raise
            left -= pause
            time.sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _send(self, method: str, path: str, **asked: Any) -> dict[str, Any]:
        """Send what changes something: once."""
        with self._watched():
            return self._object(*self._answer(method, path, **asked), sent=True)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Let whoever watches over the calls speak before one, and hear of its end."""
        if self._watch is None:
            yield
            return
        self._watch.before()
        try:
            yield
        except ReplicateError as error:
            self._watch.after(error)
            raise
        self._watch.after(None)

    def _object(self, status: int, body: bytes, *, sent: bool = False) -> dict[str, Any]:
        with self._reading("answer", sent=sent):
            said = json.loads(body, parse_float=Decimal, parse_constant=lambda _: None)
            if not isinstance(said, dict):
                raise TypeError("not an object")
            # A prediction keeps its exact numbers for `parse`, which makes its own plain copy.
            return said

    def _answer(self, method: str, path: str, **asked: Any) -> tuple[int, bytes]:
        """Make one request and return a 2xx answer's status and body; every other end is one of our errors."""
        is_read = method == "GET"
        steps = Steps(self._base)
        try:
            with self._http.stream(method, f"{self._base}{path}", extensions={"trace": steps}, **asked) as response:
                body = _body(response)
        except _BEFORE_SENDING as error:
            raise _unreached(trouble(error, steps)) from None
        except httpx.HTTPError as error:
            found = trouble(error, steps)
            message = f"The connection to Replicate failed: {found}"
            if not is_read:
                raise OutcomeUnknown(message, trouble=found) from None
            raise (_Interrupted if isinstance(error, _LOST_CONNECTION) else Unavailable)(message, trouble=found) from None
        except _AnswerTooLong:
            raise (Unavailable if is_read else OutcomeUnknown)("Replicate's answer is longer than any that it should give.") from None
        if response.status_code == 407 or (response.status_code == 403 and steps.proxy and not _problem(body)):
            # Without TLS a proxy's refusal looks like the answer itself; Replicate's own refusals are JSON.
            raise _unreached(refusal_of_proxy(response.status_code, steps))
        if not response.is_success:
            refusal = self._refusal(response, body, is_read=is_read)
            if self._on_refusal and isinstance(refusal, Unauthorized | CreditExhausted):
                self._on_refusal(refusal)
            raise refusal
        return response.status_code, body

    def _refusal(self, response: httpx.Response, body: bytes, *, is_read: bool) -> ReplicateError:
        """Say what an answer other than 2xx means; the body may be HTML, or empty."""
        status = response.status_code
        problem = _problem(body)
        detail = self._scrubbed(_detail(problem) or response.reason_phrase or "no reason given")
        message = f"Replicate answered {status}: {detail}"
        if status == 429:  # turned away at the door
            return Unavailable(message, status=status, retry_after=_retry_after(response.headers, problem))
        if 400 <= status < 500 and status not in (408, 499):
            fields = problem.get("invalid_fields")
            fields = [item for item in fields if isinstance(item, dict)] if isinstance(fields, list) else []
            return _REJECTIONS.get(status, Rejected)(message, status=status, detail=detail, invalid_fields=fields)
        if is_read:
            return Unavailable(message, status=status, retry_after=_retry_after(response.headers, problem))
        return OutcomeUnknown(message, status=status)

    def _scrubbed(self, text: str) -> str:
        return text.replace(self._token, "[token]")[:DETAIL_LIMIT]


class _Watched:
    """A stream that tells how far it was read, with as much of a file as httpx asks for."""

    def __init__(self, stream: BinaryIO, size: int, report: Callable[[int, int], None]) -> None:
        self._stream, self._size, self._report = stream, size, report

    def read(self, size: int = -1) -> bytes:
        piece = self._stream.read(size)
        self._report(self._stream.tell(), self._size)
        return piece

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


class _Interrupted(Unavailable):
    """The connection failed or broke off while nothing was changed."""


def _unreached(found: Trouble) -> Unavailable:
    """Nothing was sent: worth another try, unless what is wrong stays wrong."""
    return (_Interrupted if found.is_passing else Unavailable)(f"Replicate cannot be reached: {found}", trouble=found)


class _AnswerTooLong(Exception):
    pass


class _Reading:
    """Turns an answer of an unexpected shape into the error that fits: a lost answer, or a read that may be repeated."""

    def __init__(self, what: str, error: type[ReplicateError]) -> None:
        self._what = what
        self._error = error

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, KeyError | TypeError | AttributeError | ValueError | RecursionError | MalformedPrediction):
            raise self._error(f"Replicate's {self._what} cannot be read: it is cut short or not the JSON that was expected.") from None


def _body(response: httpx.Response) -> bytes:
    body = bytearray()
    try:
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > ANSWER_LIMIT_BYTES:
                raise _AnswerTooLong
    except (httpx.HTTPError, _AnswerTooLong):
        if not response.is_client_error:
            raise
        return b""  # a refusal is certain by its status; only its words are lost
    return bytes(body)


def _problem(body: bytes) -> dict[str, Any]:
    """Read an error's JSON; a proxy on the way may well have answered in HTML."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _detail(problem: Mapping[str, Any]) -> str:
    for key in ("detail", "title"):
        if isinstance(problem.get(key), str) and problem[key].strip():
            return str(problem[key]).strip()
    return ""


def _retry_after(headers: httpx.Headers, problem: Mapping[str, Any]) -> float | None:
    """Read the seconds to wait from the header, else from the body. Source: Replicate docs, topics/predictions/rate-limits."""
    for said in (headers.get("retry-after"), problem.get("retry_after")):
        if said is None or isinstance(said, bool):
            continue
        try:
            return max(0.0, min(float(said), 86_400.0))
        except (TypeError, ValueError):
            pass  # a date, or nothing that we know
        try:
            return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
        except (TypeError, ValueError):
            continue
    return None


def _model(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name, re.ASCII):
        raise NotFound(f"'{name}' is not a model: owner/name is expected.", status=404, detail="owner/name is expected")
    return name


def _segment(id: str) -> str:
    if not id.strip() or id in (".", ".."):
        raise NotFound("The id is empty.", status=404, detail="The id is empty.")
    return quote(id, safe="")


def _version(model: str, said: Mapping[str, Any]) -> Version:
    plain = predictions.storable(said)
    return Version(
        id=str(said["id"]),
        model=model,
        created_at=predictions.moment(said.get("created_at")),
        input_schema=inputs.input_schema(plain.get("openapi_schema")),
        raw=plain,
    )


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
