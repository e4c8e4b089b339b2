"""Whether a delivery comes from Replicate: the signature over its id, its time and its exact bytes.

The rule is that of Standard Webhooks. Neither library for it will do: the official client's `Webhooks.validate` takes
signatures of any version for `v1`, wants the body as text, reads the wall clock, fails with errors of several unrelated
kinds on odd headers and quotes a malformed secret in one of them; `standardwebhooks` reads the wall clock too and fails
on an entry without a comma.

Source: Replicate docs, topics/webhooks/verify-webhook; the Standard Webhooks specification.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256

HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
TOLERANCE_SECONDS = 300
# More signatures than any rotation of keys needs; what comes beyond is not looked at.
SIGNATURES_LIMIT = 32


class BadSignature(Exception):
    """The delivery is not proven to be Replicate's; the text may be shown to the sender."""


class MissingSignature(BadSignature):
    """A header is missing: the delivery is not signed at all."""


class NoSigningSecret(BadSignature):
    """We hold no usable secret for the account."""


class StaleTimestamp(BadSignature):
    """The delivery was signed too long ago, or in the future."""


class WrongSignature(BadSignature):
    """No signature matches any of the secrets; the secret may have been rotated."""


def verify(
    headers: Mapping[str, str], body: bytes, *, secrets: Iterable[str], now: datetime, tolerance_seconds: int = TOLERANCE_SECONDS
) -> None:
    """Return if one of the `v1` signatures over the raw body matches one of the secrets (`whsec_…`), else raise.

    Names of headers are taken in any case. `now` is compared with the time of the attempt in the headers.

    Raises MissingSignature, NoSigningSecret, StaleTimestamp, WrongSignature, all of them BadSignature.
    """
    given = {name.lower(): value for name, value in headers.items() if name.lower() in HEADERS}
    if not all(given.get(name, "").strip() for name in HEADERS):
        raise MissingSignature("Webhook signature required but not provided.")
    keys = [key for key in map(_key, secrets) if key]
    if not keys:
        raise NoSigningSecret("Webhook signature verification failed: no signing secret configured.")

    stamp = given["webhook-timestamp"].strip()
    if not re.fullmatch(r"[0-9]{1,12}", stamp):
        raise WrongSignature("Invalid webhook signature")
    if abs(now.timestamp() - int(stamp)) > tolerance_seconds:
        raise StaleTimestamp(f"Webhook timestamp is more than {tolerance_seconds} seconds away from the server's clock.")

    signed = f"{given['webhook-id']}.{stamp}.".encode(errors="replace") + body
    expected = [hmac.digest(key, signed, sha256) for key in keys]
    offered = _signatures(given["webhook-signature"])
    # Every pair is compared before any result is looked at, so that the time taken tells nothing.
    matches = [hmac.compare_digest(one, other) for one in expected for other in offered]
    if not any(matches):
        raise WrongSignature("Invalid webhook signature")


def sign(body: bytes, *, secret: str, webhook_id: str, now: datetime) -> dict[str, str]:
    """The headers with which Replicate would deliver this body. Raises NoSigningSecret for a malformed secret."""
    key = _key(secret)
    if not key:
        raise NoSigningSecret("The signing secret is malformed.")
    stamp = str(int(now.timestamp()))
    digest = hmac.digest(key, f"{webhook_id}.{stamp}.".encode() + body, sha256)
    return dict(zip(HEADERS, (webhook_id, stamp, f"v1,{base64.b64encode(digest).decode()}"), strict=True))


def _key(secret: str) -> bytes:
    """Decode a secret; one that is malformed counts as none."""
    key = secret.strip().removeprefix("whsec_")
    return _decoded(key + "=" * (-len(key) % 4))


def _signatures(header: str) -> list[bytes]:
    """List the signatures of version 1; other versions, and what is malformed, are passed over."""
    entries = [entry.partition(",") for entry in header.split()[:SIGNATURES_LIMIT]]
    return [_decoded(value) for version, _, value in entries if version == "v1"]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, ValueError):
        return b""
