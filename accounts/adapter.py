"""How django-allauth behaves here."""

from typing import Any
from urllib.parse import urljoin, urlsplit

import structlog
from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.conf import settings
from django.core.validators import MaxLengthValidator
from django.http import HttpRequest, HttpResponse

from accounts import directory, emails, encryption, registration
from accounts.callers import address_of
from accounts.models import LONGEST_EMAIL, Origin, User

log = structlog.get_logger(__name__)

NOWHERE = "0.0.0.0"  # noqa: S104 - what stands for the address of a caller who has none
USERNAME_STRANGERS = r"[^A-Za-z0-9_\s@-]"


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """People are invited into a team; they make accounts for themselves only where staff allow it."""
        return registration.current().is_open

    def clean_email(self, email: str) -> str:
        """django-allauth's forms take longer addresses than its rows and ours can keep."""
        MaxLengthValidator(LONGEST_EMAIL)(email)
        return super().clean_email(email)

    def get_client_ip(self, request: HttpRequest) -> str:
        """The address that counts wrong passwords, by our own rule of whom to believe; a socket without addresses has one for all."""
        return address_of(request) or NOWHERE

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """What counts wrong passwords for one account: without the Host header, in which the guesser is free to vary the port."""
        return str(credentials.get("email", "")).strip().lower()

    def populate_username(self, request: HttpRequest, user: User) -> None:
        """Find a free user name for somebody who comes from the company's directory and was asked for none."""
        if not user.username:
            user.username = self.generate_unique_username([user.email, user.display_name, "person"], regex=USERNAME_STRANGERS)

    def pre_login(self, request: HttpRequest, user: User, **options: Any) -> HttpResponse | None:
        emails.vouch_once(user)
        return super().pre_login(request, user, **options)

    def post_login(self, request: HttpRequest, user: User, *, signal_kwargs: dict[str, Any] | None, **options: Any) -> HttpResponse:
        """Whoever comes by OIDC gets the roles of their groups, once every factor was asked for."""
        login = (signal_kwargs or {}).get("sociallogin")
        if login is not None:
            groups = _groups_in(login.account.extra_data)
            directory.follow(user=user, origin=Origin.OIDC, groups=groups, roles=settings.OIDC_ROLES, address=address_of(request))
        return super().post_login(request, user, signal_kwargs=signal_kwargs, **options)

    def get_reset_password_from_key_url(self, key: str) -> str:
        return _public(super().get_reset_password_from_key_url(key))

    def get_email_confirmation_url(self, request: HttpRequest, emailconfirmation: Any) -> str:
        return _public(super().get_email_confirmation_url(request, emailconfirmation))

    def send_password_reset_mail(self, user: User, email: str, context: dict[str, Any]) -> None:
        """Whoever signs in by the company's directory gets no password here, past which it could not shut them out."""
        if user.has_usable_password():
            super().send_password_reset_mail(user, email, context)
        else:
            self.send_mail("account/email/password_elsewhere", email, {})

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """A mail server that is away must not break the page, nor tell by it which addresses have an account."""
        try:
            super().send_mail(template_prefix, email, context)
        except OSError as error:  # smtplib's errors are OSErrors, too
            log.error("mail.failed", mail=template_prefix, reason=type(error).__name__)


class MFAAdapter(DefaultMFAAdapter):
    """The secrets of second factors are encrypted like all others."""

    def encrypt(self, text: str) -> str:
        return encryption.encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        return encryption.decrypt(encrypted_text)


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        """Who is new may come in by OIDC where the operator says so, and where anybody may."""
        return settings.OIDC_SIGN_UP or super().is_open_for_signup(request, sociallogin)

    def populate_user(self, request: HttpRequest, sociallogin: Any, data: dict[str, Any]) -> User:
        user = super().populate_user(request, sociallogin, data)
        user.display_name = str(data.get("name") or "")[:100]
        return user


def _public(url: str) -> str:
    """A link for a mail: to the public address, whatever the Host header of whoever asked for the mail says."""
    return urljoin(settings.PUBLIC_URL, urlsplit(url).path) if settings.PUBLIC_URL else url


def _groups_in(said: dict[str, Any]) -> list[str]:
    """The groups that the provider names, in its userinfo or else in the ID token; one alone may be a plain text."""
    for part in (said.get("userinfo"), said.get("id_token")):
        groups = (part or {}).get(settings.OIDC_GROUP_CLAIM)
        if groups is not None:
            return [groups] if isinstance(groups, str) else [str(group) for group in groups]
    return []
