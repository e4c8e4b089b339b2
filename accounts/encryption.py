"""Encryption of secrets at rest, with a list of keys so that they can be changed without downtime."""

from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models


def _cipher() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.ENCRYPTION_KEYS])


def encrypt(text: str) -> str:
    """Encrypt with the first key of TUNEHOUSE_ENCRYPTION_KEYS."""
    return _cipher().encrypt(text.encode()).decode()


def decrypt(sealed: str) -> str:
    """Decrypt with whichever key fits. Raises ValueError if none does (a key was taken away too early)."""
    try:
        return _cipher().decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise ValueError(
            "A stored secret does not open with any key of TUNEHOUSE_ENCRYPTION_KEYS. Put the old key back at the end of the list."
        ) from None


def is_current(sealed: str) -> bool:
    """Whether the first key opens it."""
    try:
        Fernet(settings.ENCRYPTION_KEYS[0]).decrypt(sealed.encode())
    except InvalidToken:
        return False
    return True


def is_sealed(text: str) -> bool:
    """Whether it looks like something that was encrypted: version byte 128 and the time, in base 64."""
    return text.startswith("gAAAA")


def renew(sealed: str) -> str:
    """Encrypt with the first key what any of them opens. Raises ValueError as `decrypt`."""
    return encrypt(decrypt(sealed))


class EncryptedTextField(models.TextField):
    """Text that is encrypted in the database and clear in Python; it cannot be searched, and "" stays ""."""

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return encrypt(value) if value else value

    def from_db_value(self, value: str | None, *_: Any) -> str | None:
        return decrypt(value) if value else value
