"""Who is let in by a password that is kept here."""

from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from django.conf import settings
from django.http import HttpRequest

from accounts.models import User


class PasswordBackend(AuthenticationBackend):
    """django-allauth's, unless TUNEHOUSE_PASSWORDS leaves it to the company's own sign-in to say who is who."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> User | None:
        return super().authenticate(request, **credentials) if settings.ALLOW_PASSWORDS else None
