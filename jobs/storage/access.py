"""Who is at the storage's door, and where their key pair fits. A key pair opens its bucket, its prefix, for its lifetime."""

import hmac
import re
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet
from django.http import HttpRequest

from jobs.models import Job, StorageKey
from jobs.storage import pace, signatures
from jobs.storage.errors import AccessDenied, InvalidName, KeyEnded, NameTooLong, NoSuchKey, UnknownKey
from jobs.storage.keys import OUTPUTS
from jobs.storage.signatures import UNSIGNED, ChunkSigner

# Source: Amazon S3 User Guide, "Naming Amazon S3 objects"; a part of a name must also fit a file system.
LONGEST_NAME_BYTES = 1024
LONGEST_PART_BYTES = 255
# Control characters, line ends in disguise, halves of characters: what neither a log, a header nor XML can carry.
UNTELLABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
TOKEN_HEADERS = ("X-Upload-Token", "X-SimpleTuner-Secret")


@dataclass(frozen=True)
class Grant:
    """A key pair that was shown to be the caller's. `payload` is what its signature says of the body."""

    pair: StorageKey
    payload: str = UNSIGNED
    signer: ChunkSigner | None = None

    @property
    def job(self) -> Job:
        return self.pair.job

    def require_bucket(self, bucket: str) -> None:
        """Raises AccessDenied, for a bucket that is not there as well."""
        if bucket != self.pair.bucket:
            raise AccessDenied(f"This key opens the bucket {self.pair.bucket} only.")

    def require(self, bucket: str, name: str) -> str:
        """The object's name below the key's prefix. Raises InvalidName, NameTooLong, AccessDenied, NoSuchKey."""
        check_name(name)
        self.require_bucket(bucket)
        if f"{name}/" == self.pair.prefix:
            # rclone asks whether a folder is a file, and takes anything but 404 for yes.
            raise NoSuchKey("This is the folder that the key opens, and not an object.")
        if not name.startswith(self.pair.prefix):
            raise AccessDenied(f"This key opens {self.pair.bucket}/{self.pair.prefix} only.")
        return name.removeprefix(self.pair.prefix)


def check_name(name: str) -> None:
    """Raises InvalidName for a name that is no plain path, NameTooLong."""
    parts = name.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        raise InvalidName("An object's name must be a plain path: no empty part, no '.' or '..', no slash at either end.")
    if UNTELLABLE.search(name) or "\\" in name:
        raise InvalidName("An object's name must not contain control characters or backslashes.")
    if len(name.encode()) > LONGEST_NAME_BYTES or any(len(part.encode()) > LONGEST_PART_BYTES for part in parts):
        raise NameTooLong(f"The name is too long: at most {LONGEST_NAME_BYTES} bytes, and {LONGEST_PART_BYTES} between slashes.")


def by_signature(request: HttpRequest, *, now: datetime) -> Grant:
    """The key pair that the request is signed with. Raises UnknownKey, KeyEnded, SlowDown and what `signatures` raises."""
    with pace.counting_strangers(request):
        claim = signatures.read(request)
        pair = _pairs().filter(access_key=claim.access_key).first()
        if pair is None:
            raise UnknownKey("The access key is not known here.")
    with pace.counting_strangers(request, team=pair.job.team):
        signer = signatures.verify(claim, request, secret=pair.secret, now=now)
        _require_usable(pair, now=now)
    pace.count_key(request, pair)
    return Grant(pair, claim.payload, signer)


def has_token(request: HttpRequest) -> bool:
    return any(name in request.headers for name in TOKEN_HEADERS)


def by_token(request: HttpRequest, *, name: str, now: datetime) -> Grant:
    """The key pair of the job that begins `name`, whose secret the request carries in a header.

    Raises UnknownKey, KeyEnded, TooManyRequests.
    """
    token = next(request.headers[header] for header in TOKEN_HEADERS if header in request.headers)
    pairs = _pairs().filter(job__job_id=name.partition("/")[0], bucket=OUTPUTS)
    pair = next((pair for pair in pairs if hmac.compare_digest(pair.secret.encode(), token.encode())), None)
    with pace.counting_strangers(request):
        if pair is None:
            raise UnknownKey(
                "The upload token is not valid for this job.", hint="The path begins with the job's id, and the token is its key's secret."
            )
        _require_usable(pair, now=now)
    pace.count_key(request, pair)
    return Grant(pair)


def _pairs() -> QuerySet[StorageKey]:
    """Key pairs with all that is asked of them at the door."""
    return StorageKey.objects.select_related("job__team__provider_settings")


def _require_usable(pair: StorageKey, *, now: datetime) -> None:
    """Raises KeyEnded. Asked only after the secret was proven, so that strangers learn nothing about a key's life."""
    if pair.revoked_at is not None or pair.expires_at <= now:
        raise KeyEnded("This key pair is no longer valid: its job has ended, or its time is over.")
