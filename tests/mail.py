"""Mail servers for tests: one that keeps what it is given, and one that is away."""

from typing import Any

from django.core.mail.backends import locmem


class EmailBackend(locmem.EmailBackend):
    """Keeps mails in `django.core.mail.outbox`, and counts as a server whose mail reaches its reader."""


def link_in(message: Any) -> str:
    """The only link in a mail."""
    (found,) = [line for line in message.body.splitlines() if line.startswith("http")]
    return found
