"""A team's bucket at any S3-compatible service, by boto3 as the trainer uses it: the same address, style and keys.

Only the keys that are given count, never the machine's own, and neither do its AWS files and variables.
"""

import os
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote, urlsplit

import botocore.session
from botocore import exceptions
from botocore.client import Config

from jobs.destinations.errors import BadKey, DestinationError, Forbidden, Missing, Refused, Unreachable
from jobs.destinations.shelf import File
from jobs.outbound import PLAIN, Outbound

PIECE_BYTES = 1024 * 1024
# What AWS tools read from the machine, taken away: name in the configuration, variables, default, conversion.
_NOT_THE_MACHINES: dict[str, tuple[Any, Any, Any, Any]] = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
    "ca_bundle": (None, None, None, None),
    "ignore_configured_endpoint_urls": (None, None, True, None),
}
_ELSEWHERE = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "PermanentRedirect",
        "TemporaryRedirect",
        "Redirect",
        "IllegalLocationConstraintException",
        "301",
        "307",
    }
)
_FOR_NOW = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling", "ThrottlingException"})


@dataclass(frozen=True, kw_only=True)
class Place:
    """A bucket and where it is; `endpoint_url` is None for AWS, `path_prefix` "" for the bucket's root."""

    bucket: str
    region: str = "us-east-1"
    endpoint_url: str | None = None
    path_prefix: str = ""
    use_path_style: bool = False

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        """The place that a team's settings, or the details of a pair of keys, name."""
        return cls(
            bucket=kept["bucket"],
            region=kept.get("region") or "us-east-1",
            endpoint_url=kept.get("endpoint_url") or None,
            path_prefix=str(kept.get("path_prefix") or "").strip("/"),
            use_path_style=bool(kept.get("use_path_style")),
        )

    def prefix_of(self, job_id: str) -> str:
        """Where a job's files lie in the bucket, without a slash at the end."""
        return "/".join(part for part in (self.path_prefix, job_id) if part)

    def address_of(self, prefix: str) -> str:
        """The web address below which the files of a prefix lie, with a slash at the end."""
        path = quote(prefix)
        if self.endpoint_url:
            return f"{self.endpoint_url.rstrip('/')}/{self.bucket}/{path}/"
        if self.use_path_style or "." in self.bucket:
            return f"https://s3.{self.region}.amazonaws.com/{self.bucket}/{path}/"
        return f"https://{self.bucket}.s3.{self.region}.amazonaws.com/{path}/"


class Bucket:
    """What lies below one prefix of a bucket; keys are named from the prefix on. Use it as a context manager, in one thread."""

    def __init__(
        self, place: Place, *, prefix: str, access_key: str, secret_key: str, outbound: Outbound = PLAIN, attempts: int = 3
    ) -> None:
        """Open nothing yet. Raises Refused for an address or keys that cannot be any, Unreachable for bad outbound settings."""
        if not access_key or not secret_key:
            raise Refused("The keys of the bucket are not there any more.")
        self._place = place
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        if outbound.proxy_url and urlsplit(outbound.proxy_url).scheme not in ("http", "https"):
            raise Unreachable("Buckets are reached through http and https proxies only; see the outbound network settings.")
        if outbound.verify and outbound.ca_bundle and not os.path.isfile(outbound.ca_bundle):
            raise Unreachable("The CA bundle of the outbound network settings is not there.")
        try:
            self._s3 = self._client(access_key, secret_key, outbound, attempts)
        except (ValueError, exceptions.BotoCoreError):
            raise Refused("The bucket's address or region cannot be used.") from None

    def _client(self, access_key: str, secret_key: str, outbound: Outbound, attempts: int) -> Any:
        # A session of its own: making clients of a shared one is not safe in threads.
        session = botocore.session.Session(session_vars=_NOT_THE_MACHINES)
        proxies = {"http": outbound.proxy_url, "https": outbound.proxy_url} if outbound.proxy_url else None
        return session.create_client(
            "s3",
            endpoint_url=self._place.endpoint_url,
            region_name=self._place.region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            verify=(outbound.ca_bundle or True) if outbound.verify else False,
            config=Config(
                connect_timeout=outbound.connect_seconds,
                read_timeout=outbound.timeout_seconds,
                retries={"mode": "standard", "total_max_attempts": attempts},
                proxies=proxies,
                signature_version="s3v4",
                s3={"addressing_style": "path" if self._place.use_path_style else "auto"},
                # Not every service knows the checksums that boto3 sends and expects nowadays.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._s3.close()

    def __repr__(self) -> str:
        return f"<Bucket {self._place.bucket}>"

    # What lies there

    def files(self) -> Iterator[File]:
        """All objects below the prefix but for the empty ones that stand for folders."""
        asked: dict[str, Any] = {"Bucket": self._place.bucket, "Prefix": self._prefix}
        while True:
            with _Speaking(self._place):
                page = self._s3.list_objects_v2(**asked)
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):
                    key = item["Key"].removeprefix(self._prefix)
                    yield File(key=key, size_bytes=int(item["Size"]), tag=str(item.get("ETag", "")).strip('"'))
            following = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not following or following == asked.get("ContinuationToken"):
                return
            asked["ContinuationToken"] = following

    def pieces(self, file: File, *, first_bytes: int | None = None) -> Iterator[bytes]:
        """An object's content in pieces of 1 MiB at most."""
        if first_bytes is not None and not file.size_bytes:
            return
        asked: dict[str, Any] = {"Range": f"bytes=0-{first_bytes - 1}"} if first_bytes is not None else {}
        with _Speaking(self._place, file.key):
            answer = self._s3.get_object(Bucket=self._place.bucket, Key=self._prefix + file.key, **asked)
            body, given = answer["Body"], 0
            try:
                while piece := body.read(PIECE_BYTES):
                    yield piece
                    given += len(piece)
                    if first_bytes is not None and given >= first_bytes:
                        return  # a service that knows no ranges would send all of it
            finally:
                body.close()

    def sha256_of(self, file: File) -> str:
        """The service's own SHA-256 of the whole object, in hex; "" where it keeps none. One of parts does not count."""
        with _Speaking(self._place, file.key):
            try:
                said = self._s3.head_object(Bucket=self._place.bucket, Key=self._prefix + file.key, ChecksumMode="ENABLED")
            except exceptions.ClientError as error:
                if _status(error) in (400, 403, 501):
                    return ""  # it may still be read
                raise
        return _hex(said.get("ChecksumSHA256", "")) if said.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT" else ""

    # What a probe does

    def put(self, key: str, content: bytes) -> None:
        with _Speaking(self._place, key):
            self._s3.put_object(Bucket=self._place.bucket, Key=self._prefix + key, Body=content)

    def delete(self, key: str) -> None:
        with _Speaking(self._place, key):
            self._s3.delete_object(Bucket=self._place.bucket, Key=self._prefix + key)


class _Speaking:
    """Turns what botocore raises into the errors of this package, with a sentence each."""

    def __init__(self, place: Place, key: str = "") -> None:
        self._place = place
        self._key = key

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, exceptions.ClientError):
            raise self._refusal(error) from None
        if isinstance(error, RecursionError):
            # botocore follows a redirect that does not say whither by asking again, whose answer is a redirect …
            raise self._elsewhere() from None
        if isinstance(error, exceptions.BotoCoreError | ValueError | OSError):
            raise self._fault(error) from None

    def _refusal(self, error: exceptions.ClientError) -> DestinationError:
        code, status = str(error.response.get("Error", {}).get("Code", "")), _status(error)
        if code in _FOR_NOW or status == 429 or status >= 500:
            return Unreachable(f"The bucket's service does not answer properly for now ({status}).")
        if code in _ELSEWHERE or status in (301, 307):
            return self._elsewhere()
        if code == "InvalidAccessKeyId":
            return BadKey(f"The bucket refuses the key ({status}): its service does not know the access key.")
        if code == "SignatureDoesNotMatch":
            return BadKey(f"The bucket refuses the key ({status}): the secret does not belong to the access key.")
        if code == "RequestTimeTooSkewed":
            return Refused(f"The bucket refuses the key ({status}): this server's clock and the service's differ.")
        if status in (401, 403):
            return Forbidden(f"The bucket refuses the key ({status}).")
        if code == "NoSuchBucket" or (status == 404 and not self._key):
            return Missing(f"There is no bucket {self._place.bucket} there.")
        if status == 404:
            return Missing(f"{self._key} is not in the bucket.")
        return Refused(f"The bucket's service said no ({status} {code[:60]}).")

    def _elsewhere(self) -> DestinationError:
        return Refused(f"The bucket {self._place.bucket} lies in another region than {self._place.region}, or at another address.")

    def _fault(self, error: BaseException) -> DestinationError:
        if isinstance(error, exceptions.SSLError):
            return Unreachable("The certificate of the bucket's address is not trusted by this server; see the CA bundle in the settings.")
        if isinstance(error, exceptions.ProxyConnectionError):
            return Unreachable("The outbound proxy cannot be reached.")
        if isinstance(error, exceptions.ConnectTimeoutError | exceptions.ReadTimeoutError):
            return Unreachable("The bucket's address does not answer in time.")
        if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError | exceptions.IncompleteReadError | OSError):
            return Unreachable("The bucket's address cannot be reached, or the connection broke off.")
        return Refused("The bucket's name or address cannot be used.")


def _status(error: exceptions.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _hex(written: str) -> str:
    """A checksum as S3 writes it, in hex; "" for one of parts, which has a hyphen and their number at its end."""
    try:
        raw = b64decode(written, validate=True)
    except ValueError:
        return ""
    return raw.hex() if len(raw) == 32 else ""
