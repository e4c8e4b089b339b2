"""Sign-in by LDAP: by the same form, with the address and password that the directory knows.

Needs the group `ldap` of pyproject.toml, and is loaded only where TUNEHOUSE_LDAP_URL is set.
"""

from typing import Any

from allauth.account.adapter import get_adapter
from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.core.validators import validate_email
from django.db import transaction
from django.http import HttpRequest
from django_auth_ldap import backend

from accounts import audit, directory, emails
from accounts.callers import address_of
from accounts.models import Origin, User


class LDAPBackend(backend.LDAPBackend):
    """The directory says whether the password is right and which groups somebody is in; the person is the one with that address."""

    def authenticate(self, request: HttpRequest, email: str | None = None, password: str | None = None, **_: Any) -> User | None:
        if not email or not password:
            return None
        user = super().authenticate(request, username=email, password=password)
        if user is None or not user.is_active:
            return None
        groups = user.ldap_user.group_names if settings.LDAP_ROLES else ()
        directory.follow(user=user, origin=Origin.LDAP, groups=groups, roles=settings.LDAP_ROLES, address=address_of(request))
        return user

    def get_user(self, user_id: int) -> User | None:
        # django-auth-ldap's own lets the inactive in.
        return ModelBackend().get_user(user_id)

    def get_or_build_user(self, username: str, ldap_user: Any) -> tuple[User, bool]:
        """Never says that it built one, so that django-auth-ldap saves none: the row is whole when it comes from here."""
        person = User.objects.filter(email__iexact=username).first()
        if person is None:
            if not settings.LDAP_SIGN_UP:
                raise ldap_user.AuthenticationFailed("nobody has an account with this address, and the directory makes none.")
            person = _sign_up(username.lower(), ldap_user)
        return person, False


@transaction.atomic
def _sign_up(email: str, ldap_user: Any) -> User:
    validate_email(email)
    person = User(email=email, display_name=ldap_user.attrs.get("displayName", ldap_user.attrs.get("cn", [""]))[0][:100])
    person.set_unusable_password()
    get_adapter().populate_username(ldap_user._request, person)
    person.save()
    emails.vouch(person)
    audit.record(
        team=None, event_type="user.created", action=f"Made {person.username}, by LDAP", by=person, address=address_of(ldap_user._request),
        target_type="user", target_id=str(person.pk), after={"username": person.username},
    )  # fmt: skip
    return person
