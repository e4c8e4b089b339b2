"""Signing in by JSON, on django-allauth's own machinery: the same passwords, rate limits and second factors.

The audit trail hears of it by the same signals, too (`signins`).
"""

from datetime import timedelta

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login import record_authentication
from allauth.account.internal.flows.password_change import change_password as set_password
from allauth.account.internal.flows.password_change import finalize_password_change
from allauth.core import ratelimit
from allauth.mfa.utils import is_mfa_enabled
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest

from accounts import audit, users
from accounts.callers import address_of
from accounts.errors import Refusal
from accounts.models import User

SHORT_STAY = timedelta(hours=24)
LONG_STAY = timedelta(days=30)
# As long as django-allauth counts failures of one account.
LOCKED_SECONDS = 300


class WrongPassword(Refusal):
    """One sentence for an unknown name, a wrong password and an account that is closed: who asks learns nothing."""

    code = "invalid_credentials"
    status = 401


class MFARequired(Refusal):
    """The password is right, and the person has a second factor, which only the sign-in page asks for."""

    code = "mfa_required"
    status = 401


class TooManyAttempts(Refusal):
    """Somebody tries passwords."""

    code = "rate_limit_exceeded"
    status = 429


def sign_in(request: HttpRequest, *, name: str, password: str, is_long: bool) -> User:
    """Let somebody in by user name or e-mail address; the session lasts 24 hours, or 30 days if it `is_long`.

    Raises WrongPassword, MFARequired, TooManyAttempts.
    """
    try:
        person = get_adapter(request).authenticate(request, email=_email_of(name), password=password)
    except ValidationError:
        raise TooManyAttempts("Too many failed attempts to sign in. Try again later.", details={"retry_after": LOCKED_SECONDS}) from None
    if person is None or not person.is_active:
        raise WrongPassword("Invalid username or password")
    if is_mfa_enabled(person):
        audit.record(
            team=None, event_type="auth.login.failed", action=f"Refused {person.username} by API, without the second factor",
            address=address_of(request), target_type="user", target_id=str(person.pk),
        )  # fmt: skip
        raise MFARequired(
            "This account has a second factor, which is asked for on the sign-in page only.",
            hint="Sign in at /accounts/login/, or use an API key.",
        )
    let_in(request, person, stay=LONG_STAY if is_long else SHORT_STAY)
    return person


def let_in(request: HttpRequest, person: User, *, stay: timedelta) -> None:
    """Make the session of somebody who has just proved who they are."""
    get_adapter(request).login(request, person)
    request.session.set_expiry(int(stay.total_seconds()))
    # They typed their password this moment, so that pages with secrets need not ask for it again.
    record_authentication(request, person, method="password")


def register(request: HttpRequest, *, email: str, username: str, password: str, display_name: str) -> User:
    """Make an account for whoever asks, where registration is open; it is in no team yet.

    Raises InvalidInput. Which of name and address is taken is not said, since that would tell who has an account.
    """
    try:
        with transaction.atomic():
            person = users.add(email=email, username=username, password=password, display_name=display_name)
            audit.record(
                team=None, event_type="user.created", action=f"{person.username} made an account", by=person, address=address_of(request),
                target_type="user", target_id=str(person.pk), after={"username": person.username},
            )  # fmt: skip
    except users.Duplicate:
        raise users.Duplicate(
            "This user name or e-mail address cannot be used.",
            hint="Choose another name, or sign in if you have an account.",
            field="username",
        ) from None
    let_in(request, person, stay=SHORT_STAY)
    return person


def change_password(request: HttpRequest, person: User, *, current: str, new: str) -> None:
    """Give the signed-in person another password. Their other sessions end, this one stays.

    Raises WrongPassword, InvalidInput, TooManyAttempts.
    """
    if not ratelimit.consume(request, action="change_password", user=person):
        raise TooManyAttempts("Too many attempts to change the password. Try again later.", details={"retry_after": 60})
    if not person.check_password(current):
        raise WrongPassword("The current password is wrong.", field="current_password")
    users.check_password(new, person, field="new_password")
    with transaction.atomic():
        set_password(person, new)
        finalize_password_change(request, person)


def _email_of(name: str) -> str:
    """The address by which django-allauth knows whoever has this user name; for nobody's name an address that nobody has.

    So an unknown name costs the time and counts the failures that a wrong password does.
    """
    name = name.strip()
    if "@" in name:
        return name
    found = User.objects.filter(username=name).values_list("email", flat=True).first()
    return found or f"{name}@nobody.invalid"
