"""Who is calling: a person in a team, or a team's token, with their rights and the address they call from."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest

from accounts.errors import NotPermitted
from accounts.models import APIToken, Membership, Team, User
from accounts.roles import PERMISSIONS, Right

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# The name by which SimpleTuner's clients know a right, for refusals: the first of PERMISSIONS that asks for it.
PERMISSION_OF_RIGHT: dict[Right, str] = {right: name for name, right in reversed(PERMISSIONS.items())}


class TeamSuspended(NotPermitted):
    """Staff have suspended the team: its work can be read, and nothing can be changed."""

    code = "team_suspended"


@dataclass(frozen=True)
class Caller:
    """One who acts in one team. `user` is the maker where a token calls; `token` is None for a person."""

    team: Team
    user: User
    role: str
    rights: frozenset[Right]
    token: APIToken | None
    address: str

    def may(self, right: Right) -> bool:
        return right in self.rights

    def require(self, right: Right, *, permission: str = "") -> None:
        """Raise NotPermitted without the right; `permission` is SimpleTuner's name for it where the usual one is too general."""
        if self.may(right):
            return
        name = permission or PERMISSION_OF_RIGHT[right]
        who = "This token" if self.token else f"Your role in {self.team}"
        hint = "Make a token with more scopes, or ask an owner of the team." if self.token else "Ask an owner of the team."
        raise NotPermitted(f"{who} does not allow this; it needs {name}.", hint=hint, details={"required_permission": name})


@dataclass(frozen=True)
class Staff:
    """One of the platform's staff, who calls for the platform and not for a team."""

    user: User
    address: str


def require_active(team: Team) -> None:
    """Raises TeamSuspended, for whoever is about to change something of the team's."""
    if team.is_suspended:
        raise TeamSuspended(
            f"The team {team} is suspended: its work can be read, and nothing can be changed.",
            hint="Ask an administrator of this installation.",
        )


def address_of(request: HttpRequest) -> str:
    """The address of the client: the socket's, or what our own proxies say of it; "" on a socket without addresses.

    Only a request that comes from one of TRUSTED_PROXIES may speak for another: then it is the rightmost address in
    X-Forwarded-For that is not a trusted proxy itself, or X-Real-IP. Everything further left is the client's own word.
    """
    peer = _address(request.META.get("REMOTE_ADDR", ""))
    if peer is None:
        return ""
    proxies = tuple(settings.TRUSTED_PROXIES)
    if not _is_within(peer, proxies):
        return str(peer)
    forwarded = request.headers.get("X-Forwarded-For") or request.headers.get("X-Real-IP") or ""
    client = peer
    for hop in reversed(forwarded.split(",")):
        said = _address(hop.strip())
        if said is None:
            break
        client = said
        if not _is_within(said, proxies):
            break
    return str(client)


def is_within(address: str, networks: Iterable[str]) -> bool:
    """Whether an address lies in one of the networks; an address counts as a network of one."""
    parsed = _address(address)
    return parsed is not None and _is_within(parsed, tuple(networks))


def member_caller(request: HttpRequest, membership: Membership) -> Caller:
    """The caller that a membership makes of its person."""
    return Caller(
        team=membership.team,
        user=membership.user,
        role=membership.role,
        rights=membership.rights,
        token=None,
        address=address_of(request),
    )


def is_still_welcome(caller: Caller, *, now: datetime) -> bool:
    """Whether who was let in would be let in again: for what stays open for long."""
    return renewed([caller], now=now)[0] is not None


def renewed(callers: Sequence[Caller], *, now: datetime) -> list[Caller | None]:
    """Each caller as they would be let in now, with the rights of now; None for who would not be. Two questions for however many."""
    tokens = APIToken.objects.usable(now=now).select_related("team", "made_by").in_bulk({each.token.pk for each in callers if each.token})
    people = [each for each in callers if each.token is None]
    members = Membership.objects.select_related("team", "user").filter(
        team__in={each.team.pk for each in people}, user__in={each.user.pk for each in people}, user__is_active=True
    )
    by_person = {(member.team_id, member.user_id): member for member in members}
    return [_renewed(each, tokens, by_person) for each in callers]


def _renewed(caller: Caller, tokens: dict[int, APIToken], members: dict[tuple[int, int], Membership]) -> Caller | None:
    if caller.token is not None:
        token = tokens.get(caller.token.pk)
        return replace(caller, team=token.team, role=token.role, rights=token.rights, token=token) if token else None
    found = members.get((caller.team.pk, caller.user.pk))
    return replace(caller, team=found.team, user=found.user, role=found.role, rights=found.rights) if found else None


def _address(text: str) -> Address | None:
    try:
        # Without the interface that some write behind a link-local address, which no column takes.
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # A server that listens on both families writes IPv4 clients as ::ffff:192.0.2.1.
    return (parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None) or parsed


def _is_within(address: Address, networks: tuple[str, ...]) -> bool:
    return any(address in network for network in _parsed(networks))


@lru_cache(maxsize=1024)
def _parsed(networks: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(network, strict=False) for network in networks)
