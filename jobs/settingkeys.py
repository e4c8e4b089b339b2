"""Checks for the values of provider settings: a value as it came in, the value as it is kept out. Nothing is written here.

Every check raises InvalidInput with the key as its field and a sentence that says what the value must be.
Source: SimpleTuner docs, documentation/experimental/cloud/REPLICATE.md and OPERATIONS_TUTORIAL.md.
"""

import ipaddress
import json
import math
import os
import re
import ssl
from collections.abc import Callable, Iterable
from decimal import ROUND_HALF_EVEN, Decimal
from difflib import get_close_matches
from typing import Any
from urllib.parse import SplitResult, urlsplit

from accounts.errors import InvalidInput

Check = Callable[[str, Any], Any]

MOST_USD = 1_000_000_000
MOST_ADDRESSES = 500
MOST_JSON_CHARACTERS = 64 * 1024
PROXY_SCHEMES = ("http", "https", "socks5")
MASK = "***"
# Where webhooks arrive, in any of the ways in which SimpleTuner's documentation writes it.
WEBHOOK_PATHS = ("/api/webhooks/replicate", "/api/cloud/webhooks/replicate", "/api/cloud/webhook/replicate")
PINNED = re.compile(r"(?P<model>[\w.-]+/[\w.-]+):(?P<version>[0-9a-z]{1,64})", re.ASCII)
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")


def refuse_unknown(given: Iterable[str], known: Iterable[str], *, inside: str = "") -> list[InvalidInput]:
    """One refusal for each key that is none of the known, with the key that was likely meant."""
    known = list(known)
    refusals = []
    for key in given:
        if key in known:
            continue
        alike = get_close_matches(key, known, n=1)
        meant = f" Did you mean '{alike[0]}'?" if alike else ""
        where = f" in {inside}" if inside else ""
        field = f"{inside}.{key}" if inside else key
        refusals.append(InvalidInput(f"Unknown setting '{key[:100]}'{where}.{meant}", field=field[:200], details={"type": "unknown"}))
    return refusals


def flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(f"{key} must be true or false.", field=key)
    return value


def whole(least: int, most: int) -> Check:
    def check(key: str, value: Any) -> int:
        if not is_number(value) or not least <= value <= most or value != int(value):
            raise InvalidInput(f"{key} must be a whole number between {least} and {most}.", field=key)
        return int(value)

    return check


def one_of(words: Iterable[str]) -> Check:
    valid = list(words)

    def check(key: str, value: Any) -> str:
        if value not in valid:
            raise InvalidInput(f"{key} must be one of: {', '.join(valid)}.", field=key)
        return str(value)

    return check


def dollars(key: str, value: Any) -> int:
    """An amount in US dollars, as whole micro-dollars."""
    if not is_number(value) or not 0 <= value <= MOST_USD:
        raise InvalidInput(f"{key} must be a number of US dollars, 0 or more.", field=key)
    return int((Decimal(str(value)) * 1_000_000).to_integral_value(rounding=ROUND_HALF_EVEN))


def seconds(key: str, value: Any) -> Decimal | None:
    """A time-out up to ten minutes; 0 stands for none of one's own."""
    if not is_number(value) or not 0 <= value <= 600:
        raise InvalidInput(f"{key} must be a number of seconds above 0 and at most 600, or 0 for the default.", field=key)
    rounded = Decimal(str(value)).quantize(Decimal("0.01"))
    if value and not rounded:
        raise InvalidInput(f"{key} must be at least 0.01 seconds.", field=key)
    return rounded or None


def is_number(value: Any) -> bool:
    """A number as JSON knows it; an integer may be too large to be anything else."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and math.isfinite(value))


def text(key: str, value: Any, *, most: int = 500) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise InvalidInput(f"{key} must be text of at most {most} characters.", field=key)
    return value.strip()


def networks(key: str, value: Any) -> list[str]:
    """Addresses and networks of both families; text is split at its commas. None means that every address may come in."""
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed) or len(listed) > MOST_ADDRESSES:
        raise InvalidInput(f"{key} must be a list of at most {MOST_ADDRESSES} addresses or networks, or text with commas.", field=key)
    found = [_network(key, item.strip()) for item in listed if item.strip()]
    return list(dict.fromkeys(found))


def _network(key: str, item: str) -> str:
    try:
        network = ipaddress.ip_network(item, strict=False)
    except ValueError:
        raise InvalidInput(f"{key}: '{item[:60]}' is neither an address nor a network, like 34.82.0.0/16.", field=key) from None
    return str(network) if "/" in item else str(network.network_address)


def base_url(key: str, value: Any) -> str:
    """A public address cut back to its base: the path where webhooks arrive is appended by us, and may have come along."""
    given = text(key, value).rstrip("/")
    if not given:
        return ""
    for path in WEBHOOK_PATHS:
        given = given.removesuffix(path)
    parts = split(key, given)
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        raise InvalidInput(f"{key} must be the public address of this server without a path, like https://tunehouse.example.", field=key)
    return given.rstrip("/")


def split(key: str, value: str) -> SplitResult:
    """The parts of an address. Raises InvalidInput for what is none."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise InvalidInput(f"{key} is not an address.", field=key) from None
    if any(character.isspace() for character in value):
        raise InvalidInput(f"{key} has a blank in it.", field=key)
    return parts


def proxy(key: str, value: Any) -> str:
    given = text(key, value)
    if not given:
        return ""
    parts = split(key, given)
    if parts.scheme not in PROXY_SCHEMES or not parts.hostname:
        raise InvalidInput(f"{key} must be the address of a proxy that begins with http, https or socks5.", field=key)
    return given


def masked(url: str) -> str:
    """An address without the password in it."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    names, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{names.partition(':')[0]}:{MASK}@{host}").geturl()


def ca_bundle(key: str, value: Any) -> str:
    """The path of a file of this server with certificates; what else is or is not on its disk is not told."""
    path = text(key, value)
    if path and not (os.path.isfile(path) and _holds_certificates(path)):
        raise InvalidInput(f"{key} must be the path of a file with certificates (PEM) on this server.", field=key)
    return path


def _holds_certificates(path: str) -> bool:
    try:
        return bool(ssl.create_default_context(cafile=path).cert_store_stats()["x509"])
    except (OSError, ValueError):
        return False


def pinned(key: str, value: Any) -> str:
    given = text(key, value, most=300)
    if given and not PINNED.fullmatch(given):
        raise InvalidInput(f"{key} must have the form owner/model:hash.", field=key)
    return given


def plain_object(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or len(json.dumps(value)) > MOST_JSON_CHARACTERS:
        raise InvalidInput(f"{key} must be an object of at most {MOST_JSON_CHARACTERS // 1024} KiB.", field=key)
    return value
