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

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit
from accounts.callers import Caller, is_within
from accounts.errors import InvalidInput, NotPermitted
from accounts.models import APIToken, Membership, Team, User
from accounts.roles import Scope

PREFIX = "th_"
# In this order also the digits of the checksum.
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH = 8
SECRET_LENGTH = 43
CHECK_LENGTH = 6
FORM = re.compile(rf"th_[0-9A-Za-z]{{{ID_LENGTH + SECRET_LENGTH + CHECK_LENGTH}}}")
LAST_USED_EVERY = timedelta(minutes=1)


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

    `expires_in` None means never. Where a token makes another (`caller`), it gives no scope that it lacks itself.

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
    networks = _checked_addresses(allowed_addresses)
    now = timezone.now()
    plain = _generate()
    with transaction.atomic():
        token = APIToken.objects.create(
            team=team,
            made_by=by,
            name=name[:100],
            key_id=_key_id(plain),
            secret_hash=_digest(plain),
            role=caller.role if caller and caller.token else membership.role,
            scopes=chosen,
            allowed_addresses=networks,
            created_at=now,
            expires_at=None if expires_in is None else now + expires_in,
        )
        after = {
            "name": token.name,
            "role": token.role,
            "scopes": chosen,
            "allowed_addresses": networks,
            "expires_at": token.expires_at,
        }
        audit.record(
            team=team, event_type="api_key.created", action=f"Made the API token {token}", caller=caller, by=by,
            target_type="api_key", target_id=token.key_prefix, after=after,
        )  # fmt: skip
    return token, plain


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
