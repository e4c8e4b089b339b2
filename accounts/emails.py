"""The one address by which a person signs in: in their row, and for django-allauth as a verified one of its own."""

from typing import Any

from allauth.account.models import EmailAddress
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.db import transaction

from accounts.models import User


@transaction.atomic
def vouch(user: User) -> None:
    """Take the address in a person's row for theirs, and forget every other: staff or their directory say so."""
    EmailAddress.objects.filter(user=user).exclude(email__iexact=user.email).delete()
    EmailAddress.objects.update_or_create(
        user=user, email__iexact=user.email, defaults={"email": user.email, "primary": True, "verified": True}
    )


def vouch_once(user: User) -> None:
    """The same for somebody who made no account alone, and so never proved an address: who made it knew whose it is."""
    if not EmailAddress.objects.filter(user=user).exists():
        vouch(user)


class ResetTokens(PasswordResetTokenGenerator):
    """Django's, worthless once the address or the password is another.

    django-allauth's own notes the address in the row as an unproven one, so that whoever asked for a reset would keep
    its owner out.
    """

    def make_token(self, user: Any) -> str:
        vouch_once(user)
        return super().make_token(user)
