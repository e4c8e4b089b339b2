"""The files in which clouds publish their networks, read into networks by region; and what a new list changes.

Source: Google's cloud.json and goog.json (`prefixes` of `ipv4Prefix` or `ipv6Prefix`, `service`, `scope`), AWS's
ip-ranges.json (`prefixes` of `ip_prefix`, `ipv6_prefixes` of `ipv6_prefix`, `region`).
"""

import ipaddress
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from accounts.errors import InvalidInput

MOST_BYTES = 8 * 1024 * 1024
# The names under which a prefix and its region stand.
PREFIXES = ("ipv4Prefix", "ipv6Prefix", "ip_prefix", "ipv6_prefix")
REGIONS = ("scope", "region")
NO_REGION = "global"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class BadFile(InvalidInput):
    """The file is none that we can read, or could not be fetched."""

    code = "bad_range_file"


@dataclass(frozen=True)
class RangeFile:
    """Networks by region, and when the file was made, by its own word."""

    by_region: Mapping[str, list[str]]
    made: str = ""

    def networks(self, regions: Iterable[str]) -> list[str]:
        """The networks of these regions in as few as say the same, IPv4 first."""
        chosen = [ipaddress.ip_network(network) for region in regions for network in self.by_region.get(region, [])]
        fours = ipaddress.collapse_addresses(network for network in chosen if isinstance(network, ipaddress.IPv4Network))
        sixes = ipaddress.collapse_addresses(network for network in chosen if isinstance(network, ipaddress.IPv6Network))
        return [*map(str, fours), *map(str, sixes)]


@dataclass(frozen=True)
class Difference:
    """What saving `proposed` in the place of the present list would change."""

    added: list[str]
    removed: list[str]
    kept: list[str]


def read(content: bytes) -> RangeFile:
    """Read a file. Raises BadFile with a sentence."""
    if len(content) > MOST_BYTES:
        raise BadFile(f"The file is larger than {MOST_BYTES // (1024 * 1024)} MiB; a list of networks is not.")
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        raise BadFile("The file is not JSON. Give the cloud's own file, like Google's cloud.json, as it was downloaded.") from None
    listed = [*_entries(said, "prefixes"), *_entries(said, "ipv6_prefixes")] if isinstance(said, dict) else []
    if not listed:
        raise BadFile('The file has no list of networks: it must be an object with a list called "prefixes".')
    by_region: dict[str, list[str]] = {}
    for number, entry in enumerate(listed, 1):
        network, region = _entry(entry, number)
        by_region.setdefault(region, []).append(network)
    made = said.get("creationTime") or said.get("createDate") or ""
    return RangeFile({region: by_region[region] for region in sorted(by_region)}, made[:40] if isinstance(made, str) else "")


def difference(present: Iterable[str], proposed: Iterable[str]) -> Difference:
    present, proposed = list(present), list(proposed)
    return Difference(
        added=[network for network in proposed if network not in present],
        removed=[network for network in present if network not in proposed],
        kept=[network for network in present if network in proposed],
    )


def _entries(said: Mapping[str, Any], name: str) -> list[Any]:
    found = said.get(name)
    return found if isinstance(found, list) else []


def _entry(entry: Any, number: int) -> tuple[str, str]:
    """One network and its region; a file that has one entry wrong is refused, since nobody knows what else is."""
    if not isinstance(entry, dict):
        raise BadFile(f"Entry {number} of the file is not an object.")
    given = next((entry[name] for name in PREFIXES if isinstance(entry.get(name), str)), None)
    if given is None:
        raise BadFile(f"Entry {number} of the file names no network: it has none of {', '.join(PREFIXES)}.")
    try:
        network = ipaddress.ip_network(given.strip())
    except ValueError:
        raise BadFile(f"Entry {number} of the file names '{given[:60]}', which is no network.") from None
    if not network.prefixlen:
        raise BadFile(f"Entry {number} of the file names {network}, which is every address there is.")
    region = next((entry[name] for name in REGIONS if isinstance(entry.get(name), str) and entry[name].strip()), NO_REGION)
    return str(network), region.strip()[:60]
