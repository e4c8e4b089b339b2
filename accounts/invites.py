"""Invitations by e-mail: whoever opens the link that went to an address may come into the team with it, once.

The link's secret is made in the moment in which the mail goes out, and only its hash is kept: no row and no message of
the broker ever holds it. Nobody learns by inviting whether an address has an account.
"""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone, translation

from accounts import audit, letters, members, registration
from accounts.callers import Caller, require_active
from accounts.errors import Conflict, InvalidInput, Refusal
from accounts.models import Invite, Membership, Team, User
from accounts.roles import Right, Role

log = structlog.get_logger(__name__)

DAYS = 7
MOST_DAYS = 30
MOST_OPEN = 200
RESENT_EVERY = timedelta(minutes=1)


class InviteEnded(Conflict):
    """The link lets nobody in: it was used, taken back, sent anew or is too old, or never was one."""

    code = "invite_ended"
    status = 410


class AnotherAddress(Conflict):
    """The invite went to an address that is not the person's."""

    code = "invite_for_another"


class AccountExists(Conflict):
    """Who was invited has an account already, and comes in with it."""

    code = "account_exists"


class TooSoon(Refusal):
    """The mail went out a moment ago."""

    code = "rate_limited"
    status = 429


def invite(caller: Caller, *, email: str, role: str, site: str = "", days: int = DAYS) -> Invite:
    """Have an invite sent to an address, in the inviter's language; its link leads to this server at `site`.

    Raises InvalidInput, NotPermitted, and Conflict for an address that is in the team or has an open invite.
    """
    caller.require(Right.MANAGE)
    email = _checked_address(email)
    if role not in Role.values:
        raise InvalidInput(f"There is no role {role!r}. Roles are {', '.join(Role.values)}.", field="role")
    members.require_manages(caller, role)
    if not 1 <= days <= MOST_DAYS:
        raise InvalidInput(f"An invite lasts 1 to {MOST_DAYS} days.", field="days")
    now = timezone.now()
    with transaction.atomic():
        _lock(caller.team)
        _refuse_a_second(caller.team, email, now=now)
        made = Invite.objects.create(
            team=caller.team,
            email=email,
            role=role,
            secret_hash=_digest(_generate()),
            invited_by=caller.user,
            language=translation.get_language() or "en",
            site=site or settings.PUBLIC_URL,
            created_at=now,
            asked_at=now,
            expires_at=now + timedelta(days=days),
        )
        _record(caller, made, "invite.created", f"Invited {email} as {role}", after={"email": email, "role": role, "days": days})
        letters.ring()
    return made


def resend(caller: Caller, invite: Invite, *, site: str = "") -> None:
    """Have it sent again with another secret, from now on for as many days as before. The former link ends at once.

    Raises NotPermitted, InviteEnded, TooSoon less than a minute after the last time.
    """
    caller.require(Right.MANAGE)
    members.require_manages(caller, invite.role)
    now = timezone.now()
    with transaction.atomic():
        kept = _locked(caller, invite)
        if kept.asked_at > now - RESENT_EVERY:
            raise TooSoon("This invite was sent less than a minute ago.", hint="Wait a moment.")
        Invite.objects.filter(pk=kept.pk).update(
            secret_hash=_digest(_generate()),
            asked_at=now,
            sent_at=None,
            proves_address=False,
            site=site or kept.site,
            language=translation.get_language() or kept.language,
            expires_at=now + (kept.expires_at - kept.asked_at),
        )
        _record(caller, kept, "invite.resent", f"Sent the invite of {kept.email} again", before={"expires_at": kept.expires_at})
        letters.ring()


def revoke(caller: Caller, invite: Invite) -> None:
    """Take an invite back: its link ends at once. Raises NotPermitted, InviteEnded."""
    caller.require(Right.MANAGE)
    members.require_manages(caller, invite.role)
    with transaction.atomic():
        kept = _locked(caller, invite)
        Invite.objects.filter(pk=kept.pk).update(revoked_at=timezone.now())
        _record(caller, kept, "invite.revoked", f"Took back the invite of {kept.email}", before={"role": kept.role})


def hand_out(caller: Caller, invite: Invite) -> str:
    """The secret of a new link, for an inviter who passes it on where this server sends no mail. It proves no address.

    Raises NotPermitted, InviteEnded.
    """
    caller.require(Right.MANAGE)
    members.require_manages(caller, invite.role)
    secret = _generate()
    with transaction.atomic():
        kept = _locked(caller, invite)
        Invite.objects.filter(pk=kept.pk).update(secret_hash=_digest(secret), sent_at=timezone.now(), proves_address=False)
        _record(caller, kept, "invite.handed_out", f"Took the link of the invite of {kept.email} to pass it on")
    return secret


def find(secret: str, *, now: datetime) -> Invite:
    """The invite that this link belongs to. Raises InviteEnded for one that lets nobody in."""
    usable = Invite.objects.usable(now=now).filter(team__archived_at=None)
    found = usable.select_related("team", "invited_by").filter(secret_hash=_digest(secret)).first()
    if found is None:
        raise InviteEnded("This invite is not open: it was used, taken back, sent again, or is too old.", hint="Ask for another one.")
    return found


def is_for(invite: Invite, person: User) -> bool:
    """Whether the invited address is the person's: the one of the account, or another that they have confirmed."""
    others = EmailAddress.objects.filter(user=person, verified=True, email__iexact=invite.email)
    return person.email.lower() == invite.email.lower() or others.exists()


def has_account(invite: Invite) -> bool:
    """Whether the invited address has an account. Only whoever opens the link may learn that."""
    return (
        User.objects.filter(email__iexact=invite.email).exists()
        or EmailAddress.objects.filter(email__iexact=invite.email, verified=True).exists()
    )


def accept(secret: str, *, by: User, address: str) -> Membership:
    """Come into the team by a link, with the account that the invited address has. Raises InviteEnded, AnotherAddress, TeamSuspended."""
    now = timezone.now()
    with transaction.atomic():
        used = _use(secret, now=now)
        if not is_for(used, by):
            raise AnotherAddress("This invite went to another address than yours.", hint="Sign in with the account that has that address.")
        if used.proves_address:
            EmailAddress.objects.filter(user=by, email__iexact=used.email).update(verified=True)
        return members.join(team=used.team, person=by, role=used.role, invited_by=used.invited_by, address=address)


def accept_as_newcomer(secret: str, *, username: str, display_name: str, password: str, address: str) -> Membership:
    """Make an account for the invited address, and come into the team with it. The password was checked by whoever asks.

    Raises InviteEnded, AccountExists, TeamSuspended, and Conflict for a user name that somebody has.
    """
    now = timezone.now()
    with transaction.atomic():
        used = _use(secret, now=now)
        if has_account(used):
            raise AccountExists("This address has an account already.", hint="Sign in with it, and open the link again.")
        person = _new_person(username=username, email=used.email, display_name=display_name, password=password)
        EmailAddress.objects.create(user=person, email=person.email, primary=True, verified=used.proves_address)
        audit.record(
            team=None, event_type="user.created", action=f"Made an account by the invite of {used.team.slug}", by=person, address=address,
            target_type="user", target_id=str(person.pk), after={"username": username},
        )  # fmt: skip
        return members.join(team=used.team, person=person, role=used.role, invited_by=used.invited_by, address=address)


def expire(*, now: datetime) -> int:
    """Close the invites whose time is over, and say how many. Their links let nobody in from that time on in any case."""
    closed = 0
    for late in Invite.objects.open().filter(expires_at__lte=now).select_related("team"):
        with transaction.atomic():
            if Invite.objects.open().filter(pk=late.pk, expires_at__lte=now).update(revoked_at=now):
                _record(None, late, "invite.expired", f"The invite of {late.email} was not used in time")
                closed += 1
    return closed


def send_waiting(*, now: datetime) -> int:
    """Send the invites that were not sent yet, and say how many; none where nobody would get them."""
    if not registration.sends_mail():
        return 0
    waiting = Invite.objects.unsent(now=now).order_by("asked_at", "pk").values_list("pk", flat=True)
    return letters.send_each(waiting[: letters.AT_ONCE], _send)


def _send(key: int) -> bool:
    """Make the link of an invite and send it, unless somebody else does; one that fails is sent another time with another link."""
    with transaction.atomic():
        waiting = Invite.objects.unsent(now=timezone.now()).select_related("team", "invited_by")
        found = waiting.select_for_update(skip_locked=True, of=("self",), no_key=True).filter(pk=key).first()
        if found is None:
            return False
        secret = _generate()
        Invite.objects.filter(pk=key).update(secret_hash=_digest(secret), sent_at=timezone.now(), proves_address=True)
        facts = {
            "team": found.team.name,
            "role": Role(found.role).label,
            "inviter": str(found.invited_by or found.team),
            "link": found.site + reverse("invite", args=[secret]),
            "expires_at": found.expires_at,
            "time_zone": found.team.time_zone,
        }
        letters.mail(event="invite", to=found.email, language=found.language, facts=facts)
    log.info("invite.sent", team=found.team.slug, invite=key)
    return True


def _use(secret: str, *, now: datetime) -> Invite:
    """Use a link up: of several at once the row lets one in. The team is locked first, as wherever its people change."""
    found = find(secret, now=now)
    team = _lock(found.team)
    if not Invite.objects.usable(now=now).filter(pk=found.pk, secret_hash=found.secret_hash).update(accepted_at=now):
        raise InviteEnded("This invite was used or taken back in this very moment.", hint="Ask for another one.")
    require_active(team)
    return found


def _new_person(*, username: str, email: str, display_name: str, password: str) -> User:
    if User.objects.filter(username__iexact=username).exists():
        raise Conflict("Somebody has this user name already.", field="username", hint="Choose another one.")
    try:
        with transaction.atomic():
            return User.objects.create_user(username=username, email=email, password=password, display_name=display_name)
    except IntegrityError:
        raise AccountExists("This address or user name got an account in this very moment.", hint="Try again.") from None


def _refuse_a_second(team: Team, email: str, *, now: datetime) -> None:
    if Membership.objects.filter(team=team, user__email__iexact=email).exists():
        raise Conflict("Somebody with this address is in the team already.", field="email")
    # One that is too old and waits for the sweep makes room here.
    Invite.objects.open().filter(team=team, email__iexact=email, expires_at__lte=now).update(revoked_at=now)
    waiting = Invite.objects.open().filter(team=team)
    if waiting.filter(email__iexact=email).exists():
        raise Conflict("This address has an open invite already.", field="email", hint="Send that one again, or take it back first.")
    if waiting.count() >= MOST_OPEN:
        raise Conflict(f"{MOST_OPEN} invites are open already.", hint="Take back what nobody uses.")


def _lock(team: Team) -> Team:
    return Team.objects.select_for_update(no_key=True).get(pk=team.pk)


def _locked(caller: Caller, invite: Invite) -> Invite:
    """The invite of the caller's team as it is now, locked after the team. Raises InviteEnded."""
    _lock(caller.team)
    kept = Invite.objects.open().select_for_update(no_key=True).filter(team=caller.team, pk=invite.pk).first()
    if kept is None:
        raise InviteEnded("This invite was used or taken back meanwhile.")
    return kept


def _checked_address(email: str) -> str:
    email = email.strip()
    try:
        validate_email(email)
    except ValidationError:
        raise InvalidInput(f"{email[:100]!r} is no e-mail address.", field="email") from None
    return email


def _generate() -> str:
    return secrets.token_urlsafe(32)


def _digest(secret: str) -> str:
    # A fast hash is enough: the secret has 256 bits and cannot be guessed from it.
    return hashlib.sha256(secret.encode()).hexdigest()


def _record(
    caller: Caller | None,
    invite: Invite,
    event_type: str,
    action: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    audit.record(
        team=invite.team, caller=caller, event_type=event_type, action=action,
        target_type="invite", target_id=str(invite.pk), before=before, after=after,
    )  # fmt: skip
