"""Sign-ins in the audit trail: who came, who went, who was turned away, and what changed about how they sign in.

Django and django-allauth say so by signals, whichever door was used: a page, the administration, or the API. All of it stands
in the platform's chain, since people belong to the installation, not to a team.
"""

import hashlib
import hmac
from typing import Any

from allauth.account import signals as account
from allauth.account.models import EmailAddress
from allauth.mfa import signals as mfa
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth import signals as auth
from django.db.models import Q
from django.dispatch import Signal
from django.http import HttpRequest

from accounts import audit
from accounts.callers import address_of
from accounts.models import User

# How many hex digits tell one unknown name from another.
DIGEST_LENGTH = 16


def connect() -> None:
    """Listen. Called once, when the app is ready."""
    heard: dict[Signal, Any] = {
        auth.user_logged_in: signed_in,
        auth.user_logged_out: signed_out,
        auth.user_login_failed: failed,
        mfa.authentication_failed: second_factor_failed,
        account.password_changed: password_changed,
        account.password_set: password_changed,
        account.password_reset: password_reset,
        account.email_added: email_added,
        account.email_changed: email_changed,
        account.email_removed: email_removed,
        mfa.authenticator_added: second_factor_added,
        mfa.authenticator_removed: second_factor_removed,
        mfa.authenticator_reset: second_factor_reset,
    }
    for signal, receiver in heard.items():
        signal.connect(receiver, dispatch_uid=f"accounts.signins.{receiver.__name__}")


def signed_in(request: HttpRequest | None, user: User, **_: Any) -> None:
    _record(request, "auth.login.success", "Signed in", of=user, by=user)


def signed_out(request: HttpRequest | None, user: User | None, **_: Any) -> None:
    # A session of nobody can be ended as well.
    if user is not None:
        _record(request, "auth.logout", "Signed out", of=user, by=user)


def failed(credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    """Note the person who was tried, else only a keyed hash: people type their password into the field of the name."""
    tried = str(credentials.get("email") or credentials.get("username") or "").strip().replace("\x00", "")
    person = User.objects.filter(Q(email__iexact=tried) | Q(username=tried)).first() if tried else None
    if person is not None:
        _record(request, "auth.login.failed", f"Failed to sign in as {person.username}", of=person)
    else:
        _record(request, "auth.login.failed", "Failed to sign in under a name that nobody has", target_id=f"unknown:{_digest(tried)}")


def second_factor_failed(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    _record(request, "auth.login.failed", f"Gave a wrong second factor ({authenticator.type}) as {user.username}", of=user)


def password_changed(request: HttpRequest, user: User, **_: Any) -> None:
    _record(request, "user.password.changed", "Changed the password", of=user, by=user)


def password_reset(request: HttpRequest, user: User, **_: Any) -> None:
    _record(request, "user.password.changed", "Set a new password by a link that was mailed", of=user, by=user)


def email_added(request: HttpRequest, user: User, email_address: EmailAddress, **_: Any) -> None:
    _record(request, "user.email.added", "Added an e-mail address", of=user, by=user, after={"email": email_address.email})


def email_changed(
    request: HttpRequest, user: User, to_email_address: EmailAddress, from_email_address: EmailAddress | None = None, **_: Any
) -> None:
    before = {"email": from_email_address.email} if from_email_address else {}
    after = {"email": to_email_address.email}
    _record(request, "user.email.changed", "Changed the e-mail address", of=user, by=user, before=before, after=after)


def email_removed(request: HttpRequest, user: User, email_address: EmailAddress, **_: Any) -> None:
    _record(request, "user.email.removed", "Removed an e-mail address", of=user, by=user, before={"email": email_address.email})


def second_factor_added(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    after = {"type": authenticator.type}
    _record(request, "user.mfa.added", f"Added a second factor ({authenticator.type})", of=user, by=user, after=after)


def second_factor_removed(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    before = {"type": authenticator.type}
    _record(request, "user.mfa.removed", f"Removed a second factor ({authenticator.type})", of=user, by=user, before=before)


def second_factor_reset(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    _record(request, "user.mfa.reset", f"Renewed a second factor ({authenticator.type})", of=user, by=user)


def _record(
    request: HttpRequest | None,
    event_type: str,
    action: str,
    *,
    of: User | None = None,
    by: User | None = None,
    target_id: str = "",
    before: dict[str, str] | None = None,
    after: dict[str, str] | None = None,
) -> None:
    audit.record(
        team=None, event_type=event_type, action=action, by=by, address=address_of(request) if request else "",
        target_type="user", target_id=str(of.pk) if of else target_id, before=before, after=after,
    )  # fmt: skip


def _digest(name: str) -> str:
    """The same for the same name, and of no use to whoever lacks the installation's key."""
    keyed = hmac.new(settings.SECRET_KEY.encode(), f"accounts.signins {name.casefold()}".encode(errors="replace"), hashlib.sha256)
    return keyed.hexdigest()[:DIGEST_LENGTH]
