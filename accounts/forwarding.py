"""Where a chain's new lines are pushed to: reading and changing it. The pushing itself is done by webhooks."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.db import transaction

from accounts import audit
from accounts.addresses import problem_with_public_url
from accounts.callers import Caller, Staff
from accounts.errors import InvalidInput
from accounts.models import AuditFormat, AuditForwarding, AuditHead, Team

LONGEST_URL = 500
LONGEST_TOKEN = 1000


def of(team: Team | None) -> AuditForwarding:
    """The chain's forwarding; one that pushes nothing where nobody has set any."""
    return AuditForwarding.objects.filter(team=team).first() or AuditForwarding(team=team)


def configure(team: Team | None, *, caller: Caller | None, staff: Staff | None, asked: Mapping[str, Any]) -> AuditForwarding:
    """Change what is named in `asked` and nothing else; pushing begins with the first line that is written after this.

    Another host gets no token that was meant for the one before: it must come with the address. Raises InvalidInput.
    """
    checked = _checked(asked)
    with transaction.atomic():
        # Locked until the end, so that nobody writes a line between "now" and the cursor.
        head = audit.lock(team)
        kept = AuditForwarding.objects.filter(team=team).first() or AuditForwarding(team=team)
        before = _described(kept)
        if "webhook_url" in checked:
            _point_to(kept, checked.pop("webhook_url"), head)
        for name, value in checked.items():
            setattr(kept, name, value)
        # What was wrong with the former settings is not wrong with these.
        kept.failures, kept.last_error, kept.try_after = 0, "", None
        kept.save()
        audit.record(
            team=team,
            event_type="config.changed",
            action="Changed where the audit trail is pushed to",
            caller=caller,
            by=staff.user if staff else None,
            address=staff.address if staff else "",
            target_type="audit_export",
            before=before,
            after=_described(kept),
        )
    return kept


def _point_to(kept: AuditForwarding, url: str, head: AuditHead) -> None:
    before, was_off = kept.origin, not kept.webhook_url
    kept.webhook_url = url
    if kept.origin != before:
        kept.auth_token = ""
    if url and was_off:
        kept.sent_sequence = head.sequence


def _checked(asked: Mapping[str, Any]) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    if "format" in asked:
        if asked["format"] not in AuditFormat.values:
            raise InvalidInput(f"Unknown format '{asked['format']}'. Valid ones: {', '.join(AuditFormat.values)}.", field="format")
        checked["format"] = asked["format"]
    if "webhook_url" in asked:
        checked["webhook_url"] = _checked_url(asked["webhook_url"])
    if asked.get("auth_token") is not None:
        checked["auth_token"] = _checked_token(asked["auth_token"])
    if "security_only" in asked:
        if not isinstance(asked["security_only"], bool):
            raise InvalidInput("security_only must be true or false.", field="security_only")
        checked["security_only"] = asked["security_only"]
    return checked


def _checked_url(url: Any) -> str:
    if url in (None, ""):
        return ""
    if not isinstance(url, str) or len(url) > LONGEST_URL:
        raise InvalidInput(f"webhook_url must be an address of at most {LONGEST_URL} characters.", field="webhook_url")
    try:
        parts = urlsplit(url)
        problem = problem_with_public_url(url)
        _ = parts.port  # reading it checks it
    except ValueError:
        raise InvalidInput(f"'{url}' is not an http or https address.", field="webhook_url") from None
    if parts.username is not None:
        problem = "The address must not name a user or a password. Use auth_token."
    if problem:
        raise InvalidInput(problem, field="webhook_url")
    return url


def _checked_token(token: Any) -> str:
    if not isinstance(token, str) or len(token) > LONGEST_TOKEN:
        raise InvalidInput(f"auth_token must be a text of at most {LONGEST_TOKEN} characters.", field="auth_token")
    if not token.isascii() or not token.isprintable() or any(character.isspace() for character in token):
        raise InvalidInput("auth_token has a blank or a character that no token has.", field="auth_token")
    return token


def _described(kept: AuditForwarding) -> dict[str, Any]:
    return {
        "format": kept.format,
        "sent_to": kept.origin or None,
        "has_auth_token": bool(kept.auth_token),
        "security_only": kept.security_only,
    }
