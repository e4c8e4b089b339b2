"""API tokens: made once, shown once, found by one indexed look-up.

A token reads `th_`, 8 characters of key id, 43 of secret, 6 of checksum: letters and digits only, so that a double
click selects all of it. The checksum tells a typing error from a revoked token without asking the database, and lets
secret scanners be sure of what they found.
"""

import hashlib
import hmac
import ipaddress
import re
import secrets
import string
import zlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit
from accounts.callers import Caller, is_within
from accounts.errors import Conflict, InvalidInput, NotPermitted
from accounts.models import APIToken, APITokenQuerySet, Membership, Team, User
from accounts.roles import PERMISSIONS, RIGHTS_OF_SCOPE, Right, Role, Scope, names_of

PREFIX = "th_"
# In this order also the digits of the checksum.
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH = 8
SECRET_LENGTH = 43
CHECK_LENGTH = 6
FORM = re.compile(rf"th_[0-9A-Za-z]{{{ID_LENGTH + SECRET_LENGTH + CHECK_LENGTH}}}")
LAST_USED_EVERY = timedelta(minutes=1)
LONGEST_OVERLAP = timedelta(days=7)


class AddressNotAllowed(NotPermitted):
    """The token is right, and is used from where it may not be."""

    code = "ip_not_allowed"


def create(
    *,
    team: Team,
    by: User,
    name: str,
    scopes: Sequence[str],
    expires_in: timedelta | None = timedelta(days=90),
    allowed_addresses: Sequence[str] = (),
    caller: Caller | None = None,
) -> tuple[APIToken, str]:
    """Make a token with the maker's role of today, and return it with its text, which is kept nowhere.

    `expires_in` None means never. Where a token makes another (`caller`), it gives no scope that it lacks itself, both
    share its spend limit, and the new one works from nowhere else unless said.

    Raises InvalidInput, and NotPermitted for a maker who is not a member of the team.
    """
    membership = Membership.objects.filter(team=team, user=by).first()
    if membership is None:
        raise NotPermitted("Only a member of the team can make a token for it.")
    name = name.strip()
    if not name:
        raise InvalidInput("A token needs a name, so that it can be told from others.", field="name")
    if expires_in is not None and expires_in <= timedelta(0):
        raise InvalidInput("A token must expire in the future, or never.", field="expires_in")
    chosen = _checked_scopes(scopes, caller)
    parent = caller.token if caller else None
    networks = _checked_addresses(allowed_addresses) or (parent.allowed_addresses if parent else [])
    now = timezone.now()
    plain = _generate()
    with transaction.atomic():
        token = APIToken.objects.create(
            team=team,
            made_by=by,
            name=name[:100],
            key_id=_key_id(plain),
            secret_hash=_digest(plain),
            role=caller.role if caller and parent else membership.role,
            scopes=chosen,
            allowed_addresses=networks,
            origin_id=parent.origin_key if parent else None,
            created_at=now,
            expires_at=None if expires_in is None else now + expires_in,
        )
        audit.record(
            team=team, event_type="api_key.created", action=f"Made the API token {token}", caller=caller, by=by,
            target_type="api_key", target_id=token.key_prefix, after=_audited(token),
        )  # fmt: skip
    return token, plain


def scopes_for(caller: Caller, permissions: Sequence[str] | None) -> list[str]:
    """The scopes of a token that may do what these permissions of SimpleTuner's name, and nothing beyond; None means all that one has.

    A scope is taken if all that it would give this caller is named; reading goes with every one. Raises InvalidInput for a name
    that is unknown, that the caller lacks, or that comes with no scope but together with others.
    """
    own = caller.token.scopes if caller.token else Scope.values
    if permissions is None:
        return list(own)
    wanted = {_right_named(caller, name) for name in permissions}
    beyond_reading = {scope: (RIGHTS_OF_SCOPE[Scope(scope)] & caller.rights) - {Right.READ} for scope in own}
    fitting = [scope for scope, rights in beyond_reading.items() if scope == Scope.READ or (rights and rights <= wanted)]
    if left := sorted(wanted - {Right.READ}.union(*(beyond_reading[scope] for scope in fitting))):
        raise InvalidInput(_companions(caller, own, left[0], wanted), field="scoped_permissions")
    return fitting


def _right_named(caller: Caller, name: str) -> Right:
    right = PERMISSIONS.get(name)
    if right is None:
        raise InvalidInput(f"No API key can have the permission {name[:60]!r}.", field="scoped_permissions")
    if not caller.may(right):
        raise InvalidInput(f"You lack the permission {name} yourself.", field="scoped_permissions")
    return right


def _companions(caller: Caller, own: Sequence[str], right: Right, wanted: set[Right]) -> str:
    """Which permissions must be named as well, since they come in one scope."""
    scope = next(scope for scope in own if right in RIGHTS_OF_SCOPE[Scope(scope)])
    missing = names_of((RIGHTS_OF_SCOPE[Scope(scope)] & caller.rights) - wanted - {Right.READ})
    named = names_of(frozenset({right}))[0]
    return f"{named} comes in one scope ({scope}) with {', '.join(missing)}: name one permission of each, too, or leave it out."


def rotate(token: APIToken, *, by: User, overlap: timedelta = timedelta(0), caller: Caller | None = None) -> tuple[APIToken, str]:
    """Put a token in another's place, with the same rights for as long again, and return it with its text, which is kept nowhere.

    The former one works on for `overlap` (0 to 7 days) beside it. Both act in the name of whoever made the first, and
    share its spend limit. Whoever rotates gives no role or scope beyond their own.

    Raises InvalidInput, Conflict for a token that opens no door or was replaced before, and NotPermitted.
    """
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise InvalidInput("The former token can work on for 0 to 7 days.", field="overlap")
    membership = Membership.objects.filter(team=token.team_id, user=by).first()
    if membership is None:
        raise NotPermitted("Only a member of the team can rotate its tokens.")
    now = timezone.now()
    plain = _generate()
    with transaction.atomic():
        former = APIToken.objects.select_for_update(of=("self",), no_key=True).select_related("team", "made_by").get(pk=token.pk)
        _require_rotatable(former, now=now)
        _checked_scopes(former.scopes, caller)
        successor = APIToken.objects.create(
            team=former.team,
            made_by=former.made_by,
            name=former.name,
            key_id=_key_id(plain),
            secret_hash=_digest(plain),
            role=_lower(former.role, caller.role if caller and caller.token else membership.role),
            scopes=former.scopes,
            allowed_addresses=former.allowed_addresses,
            origin_id=former.origin_key,
            created_at=now,
            expires_at=None if former.expires_at is None else now + (former.expires_at - former.created_at),
        )
        APIToken.objects.filter(pk=former.pk).update(replaced_by=successor, revoked_at=now + overlap)
        token.replaced_by, token.revoked_at = successor, now + overlap
        audit.record(
            team=former.team, event_type="api_key.rotated", action=f"Rotated the API token {former}", caller=caller, by=by,
            target_type="api_key", target_id=former.key_prefix,
            before={"expires_at": former.expires_at, "role": former.role},
            after=_audited(successor) | {"replaced_by": successor.key_prefix, "works_until": now + overlap},
        )  # fmt: skip
    return successor, plain


def visible_to(caller: Caller) -> APITokenQuerySet:
    """Those that a caller may see, rotate and revoke: their own, and with the right to manage the whole team's. Newest first."""
    found = caller.team.api_tokens.select_related("made_by", "replaced_by").with_maker_here().order_by("-created_at", "-pk")
    return found if caller.may(Right.MANAGE) else found.filter(made_by=caller.user)


def describe(token: APIToken) -> dict[str, Any]:
    """What a token is and may do, in plain values and without its secret; how its spend limits stand is billing's to add.

    `permissions` are SimpleTuner's names. `works_until` is set while a rotation's overlap lasts.
    """
    return {
        "id": token.pk,
        "name": token.name,
        "key_prefix": token.key_prefix,
        "team": token.team.slug,
        "team_name": token.team.name,
        "made_by": token.made_by.username if token.made_by else None,
        "role": token.role,
        "scopes": token.scopes,
        "permissions": [name for name, right in PERMISSIONS.items() if right in token.rights],
        "allowed_addresses": token.allowed_addresses,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "works_until": token.revoked_at,
        "replaced_by": token.replaced_by.key_prefix if token.replaced_by else None,
        "last_used_at": token.last_used_at,
        "last_used_address": token.last_used_address,
        "last_used_endpoint": token.last_used_endpoint or None,
    }


def find(plain: str, *, address: str, now: datetime) -> APIToken | None:
    """The token with this text, with its team and maker, if it opens a door at `now`; None if it does not.

    A deactivated maker does not matter, since the token is the team's; a maker whose account was deleted does, for
    work needs a name. Raises AddressNotAllowed.
    """
    if not well_formed(plain):
        return None
    found = APIToken.objects.usable(now=now).select_related("team", "made_by")
    token = found.filter(key_id=_key_id(plain), made_by__isnull=False).first()
    if token is None or not hmac.compare_digest(token.secret_hash, _digest(plain)):
        return None
    if token.allowed_addresses and not is_within(address, token.allowed_addresses):
        raise AddressNotAllowed("This token may not be used from your address.", hint="Ask whoever made it to allow your address.")
    return token


def mark_used(token: APIToken, *, address: str, endpoint: str, now: datetime) -> None:
    """Keep when, from where and for what a token was last used; written at most once a minute."""
    due = now - LAST_USED_EVERY
    if token.last_used_at is not None and token.last_used_at > due:
        return
    # The row decides again: of many calls in the same moment one writes.
    APIToken.objects.filter(Q(last_used_at=None) | Q(last_used_at__lte=due), pk=token.pk).update(
        last_used_at=now, last_used_address=address or None, last_used_endpoint=endpoint[:200]
    )


def revoke(token: APIToken, *, by: User, caller: Caller | None = None) -> bool:
    """End a token now, also one that a rotation left a while to live. Says whether it was still usable; a second call changes nothing."""
    now = timezone.now()
    with transaction.atomic():
        revoked = APIToken.objects.filter(Q(revoked_at=None) | Q(revoked_at__gt=now), pk=token.pk).update(revoked_at=now)
        if revoked:
            audit.record(
                team=token.team, event_type="api_key.revoked", action=f"Revoked the API token {token}", caller=caller, by=by,
                target_type="api_key", target_id=token.key_prefix, before={"revoked_at": token.revoked_at}, after={"revoked_at": now},
            )  # fmt: skip
            token.revoked_at = now
    return bool(revoked)


def well_formed(plain: str) -> bool:
    """Whether a text has the form and the checksum of a token, known or not."""
    return bool(FORM.fullmatch(plain)) and hmac.compare_digest(plain[-CHECK_LENGTH:], _check(plain[:-CHECK_LENGTH]))


def _generate() -> str:
    body = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(ID_LENGTH + SECRET_LENGTH))
    return body + _check(body)


def _check(body: str) -> str:
    """The CRC32 of what precedes, in base 62."""
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECK_LENGTH):
        rest, digit = divmod(rest, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def _key_id(plain: str) -> str:
    return plain[len(PREFIX) : len(PREFIX) + ID_LENGTH]


def _digest(plain: str) -> str:
    # A fast hash is enough: the secret has 256 bits and cannot be guessed from it.
    return hashlib.sha256(plain.encode()).hexdigest()


def _audited(token: APIToken) -> dict[str, Any]:
    """What an audit line says of a new token."""
    return {
        "name": token.name,
        "role": token.role,
        "scopes": token.scopes,
        "allowed_addresses": token.allowed_addresses,
        "expires_at": token.expires_at,
    }


def _require_rotatable(token: APIToken, *, now: datetime) -> None:
    if token.replaced_by_id is not None:
        raise Conflict("This token was replaced before.", hint="Rotate the one that took its place.")
    if token.revoked_at is not None or (token.expires_at is not None and token.expires_at <= now):
        raise Conflict("This token works no more.", hint="Make a new one.")
    if token.made_by_id is None:
        raise Conflict("The account of whoever made this token was deleted, so it opens nothing.", hint="Make a new one.")


def _lower(role: str, other: str) -> str:
    """The one of two roles that may less."""
    return min(Role(role), Role(other), key=list(Role).index)


def _checked_scopes(scopes: Sequence[str], caller: Caller | None) -> list[str]:
    unknown = sorted(set(scopes) - set(Scope.values))
    if unknown:
        raise InvalidInput(f"There is no scope {unknown[0]!r}. Scopes are {', '.join(Scope.values)}.", field="scopes")
    if not scopes:
        raise InvalidInput("A token needs at least one scope.", field="scopes")
    if caller and caller.token and not set(scopes) <= set(caller.token.scopes):
        raise NotPermitted("A token cannot make another with scopes that it lacks itself.")
    return [scope for scope in Scope.values if scope in scopes]


def _checked_addresses(addresses: Sequence[str]) -> list[str]:
    networks = []
    for address in addresses:
        try:
            networks.append(str(ipaddress.ip_network(str(address).strip(), strict=False)))
        except ValueError:
            raise InvalidInput(f"{address!r} is neither an address nor a network.", field="allowed_addresses") from None
    return networks
