"""Checks AWS Signature Version 4, in the header and in the query, with botocore's own signer.

Source: Amazon S3 API Reference, "Authenticating Requests (AWS Signature Version 4)".
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials
from django.http import HttpRequest

from jobs.storage.errors import AccessDenied, MalformedSignature, NotOffered, SignatureWrong, StorageRefusal, TimeTooSkewed

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
SKEW = timedelta(minutes=15)
LONGEST_LIFE_SECONDS = 7 * 86_400
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

_FIELD = re.compile(r"\s*(Credential|SignedHeaders|Signature)=([^,\s]+)\s*")
_TIMESTAMP = re.compile(r"\d{8}T\d{6}Z")


def is_signed(request: HttpRequest) -> bool:
    """Whether the request carries an AWS signature of any version, right or wrong."""
    if request.headers.get("Authorization", "").startswith(("AWS4-", "AWS ")):
        return True
    return "X-Amz-Algorithm" in request.GET or "X-Amz-Signature" in request.GET or "AWSAccessKeyId" in request.GET


@dataclass(frozen=True)
class Claim:
    """What a signed request says about its signature; nothing of it is checked yet."""

    access_key: str
    timestamp: str
    region: str
    signed_headers: tuple[str, ...]
    signature: str
    payload: str
    # Seconds that a presigned address lives; None for a signature in the header.
    life: int | None

    @property
    def signed_at(self) -> datetime:
        return datetime.strptime(self.timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)

    @property
    def scope(self) -> str:
        return f"{self.timestamp[:8]}/{self.region}/s3/aws4_request"


def read(request: HttpRequest) -> Claim:
    """Take the claim out of the header or the query. Raises MalformedSignature, NotOffered for other signature versions."""
    header = request.headers.get("Authorization", "")
    if header.startswith("AWS ") or ("AWSAccessKeyId" in request.GET and "X-Amz-Signature" not in request.GET):
        raise NotOffered(
            "This request is signed with AWS Signature Version 2, which is not accepted.",
            hint="Use Signature Version 4: in boto3 Config(signature_version='s3v4'), in rclone v2_auth = false.",
        )
    if header:
        return _from_header(request, header)
    return _from_query(request)


def _from_header(request: HttpRequest, header: str) -> Claim:
    algorithm, _, rest = header.partition(" ")
    if algorithm != ALGORITHM:
        raise NotOffered(f"Signatures of the kind {algorithm[:40]} are not accepted.", hint=f"Use {ALGORITHM}.")
    fields = {match[1]: match[2] for match in map(_FIELD.fullmatch, rest.split(",")) if match}
    if len(fields) != 3:
        raise MalformedSignature("The Authorization header needs Credential, SignedHeaders and Signature.")
    payload = request.headers.get("x-amz-content-sha256", "")
    if not payload:
        raise StorageRefusal("The header x-amz-content-sha256 is missing.")
    return _claim(
        credential=fields["Credential"],
        timestamp=request.headers.get("x-amz-date", ""),
        signed_headers=fields["SignedHeaders"],
        signature=fields["Signature"],
        payload=payload,
        life=None,
    )


def _from_query(request: HttpRequest) -> Claim:
    query = request.GET
    if query.get("X-Amz-Algorithm") != ALGORITHM:
        raise NotOffered(f"A presigned address must be signed with {ALGORITHM}.")
    life = query.get("X-Amz-Expires", "")
    if not (life.isascii() and life.isdigit() and len(life) < 9 and 0 < int(life) <= LONGEST_LIFE_SECONDS):
        raise MalformedSignature(f"X-Amz-Expires must be a number of seconds from 1 to {LONGEST_LIFE_SECONDS}.")
    signed_headers = query.get("X-Amz-SignedHeaders", "")
    is_hash_signed = "x-amz-content-sha256" in signed_headers.split(";")
    return _claim(
        credential=query.get("X-Amz-Credential", ""),
        timestamp=query.get("X-Amz-Date", ""),
        signed_headers=signed_headers,
        signature=query.get("X-Amz-Signature", ""),
        payload=request.headers.get("x-amz-content-sha256", "") if is_hash_signed else query.get("X-Amz-Content-Sha256", UNSIGNED),
        life=int(life),
    )


def _claim(*, credential: str, timestamp: str, signed_headers: str, signature: str, payload: str, life: int | None) -> Claim:
    access_key, *scope = credential.split("/")
    if len(scope) != 4 or scope[2:] != ["s3", "aws4_request"] or not access_key.isalnum():
        raise MalformedSignature("The credential must read <access key>/<date>/<region>/s3/aws4_request.")
    names = tuple(name.strip().lower() for name in signed_headers.split(";"))
    claim = Claim(access_key, timestamp, scope[1], names, signature, payload, life)
    try:
        is_time = _TIMESTAMP.fullmatch(timestamp) and claim.signed_at
    except ValueError:
        is_time = None
    if not is_time or timestamp[:8] != scope[0]:
        raise MalformedSignature("X-Amz-Date must be a time like 20260102T030405Z, on the day that the credential names.")
    if "host" not in names:
        raise MalformedSignature("The host header must be signed.")
    return claim


def verify(claim: Claim, request: HttpRequest, *, secret: str, now: datetime) -> "ChunkSigner":
    """Check the signature and its time against the request as it came in; returns what checks the chunks of its body.

    Raises SignatureWrong, TimeTooSkewed, AccessDenied for a presigned address that is over.
    """
    signer = _Signer(claim, secret)
    asked = _as_signed(claim, request)
    expected = signer.signature(signer.string_to_sign(asked, signer.canonical_request(asked)), asked)
    if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
        raise SignatureWrong(
            "The signature does not match the request.",
            hint="Check the secret key. A proxy in between must keep the Host header with its port and must not rewrite the path.",
        )
    age = now - claim.signed_at
    if claim.life is not None and age > timedelta(seconds=claim.life):
        raise AccessDenied("Request has expired: this presigned address is no longer valid.")
    if age < -SKEW or (claim.life is None and age > SKEW):
        raise TimeTooSkewed("The request's time differs from the server's by more than 15 minutes.", hint="Set the clock of the client.")
    return ChunkSigner(signer, asked, claim)


class _Signer(S3SigV4Auth):
    """botocore's signer, told which headers the other side has signed rather than choosing them."""

    def __init__(self, claim: Claim, secret: str) -> None:
        super().__init__(Credentials(claim.access_key, secret), "s3", claim.region)
        self._names = claim.signed_headers

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        headers = HTTPHeaders()
        for name in self._names:
            headers[name] = request.headers.get(name, "")
        return headers


def _as_signed(claim: Claim, request: HttpRequest) -> AWSRequest:
    """The request as its sender saw it when signing. S3 clients encode a path once and in one way, so it can be encoded anew."""
    # A bare "#" would end the query for botocore and not for Django; encoded, it only fails the signature.
    query = request.META.get("QUERY_STRING", "").replace("#", "%23")
    if claim.life is not None:
        query = "&".join(pair for pair in query.split("&") if not pair.startswith("X-Amz-Signature="))
    url = f"http://{request.META.get('HTTP_HOST', '')}{quote(request.path, safe='/~')}"
    # The signer takes the body's hash from this header, signed or not.
    headers = {name: request.headers.get(name, "") for name in claim.signed_headers} | {"x-amz-content-sha256": claim.payload}
    asked = AWSRequest(method=request.method, url=f"{url}?{query}" if query else url, headers=headers)
    asked.context["timestamp"] = claim.timestamp
    return asked


class ChunkSigner:
    """Follows the chain of signatures over the chunks of an `aws-chunked` body; each covers the one before.

    Source: Amazon S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks".
    """

    def __init__(self, signer: _Signer, asked: AWSRequest, claim: Claim) -> None:
        self._signer = signer
        self._asked = asked
        self._claim = claim
        self._previous = claim.signature

    def check_chunk(self, sha256: str, signature: str) -> None:
        """Check the next chunk, of which `sha256` is the hash. Raises SignatureWrong."""
        self._check("AWS4-HMAC-SHA256-PAYLOAD", [EMPTY_SHA256, sha256], signature)

    def check_trailer(self, sha256: str, signature: str) -> None:
        """Check the trailing headers after the last chunk. Raises SignatureWrong."""
        self._check("AWS4-HMAC-SHA256-TRAILER", [sha256], signature)

    def _check(self, kind: str, hashes: list[str], signature: str) -> None:
        text = "\n".join([kind, self._claim.timestamp, self._claim.scope, self._previous, *hashes])
        expected = self._signer.signature(text, self._asked)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise SignatureWrong("The signature of a chunk of the body does not match its content.")
        self._previous = expected
