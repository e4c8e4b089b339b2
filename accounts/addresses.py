"""Which addresses of others may be called: one rule for webhooks, S3 probes and outgoing hooks."""

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from django.conf import settings


def problem_with_public_url(url: str) -> str:
    """What is wrong with an address that the provider or we shall call; "" if nothing.

    It must be https, or http and private hosts only where the administrator allows them (TUNEHOUSE_ALLOW_PRIVATE_HOSTS).
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return f"'{url}' is not an http or https address."
    if settings.ALLOW_PRIVATE_HOSTS:
        return ""
    if parts.scheme != "https":
        return "The address must begin with https."
    if _is_private(parts.hostname):
        return f"{parts.hostname} is a private host, which the provider cannot reach."
    return ""


def private_address_of(url: str) -> str:
    """The address outside the public internet that a URL's host has from here; "" if it has none, or private hosts are allowed.

    For calls that a team names the address of: they must not tell what stands in this server's own network.
    """
    host = urlsplit(url).hostname or ""
    if settings.ALLOW_PRIVATE_HOSTS:
        return ""
    try:
        return private_among(looked_up(host))
    except (OSError, UnicodeError):
        return ""  # the call itself will say that the name was not found, unless a proxy knows it


def looked_up(host: str) -> list[str]:
    """The addresses that a name leads to from here, in the order in which they are to be tried. Raises OSError, UnicodeError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def private_among(addresses: Iterable[str]) -> str:
    """The first of these addresses that is outside the public internet; "" if none is."""
    return next((address for address in sorted(addresses) if not ipaddress.ip_address(address).is_global), "")


def _is_private(host: str) -> bool:
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host
