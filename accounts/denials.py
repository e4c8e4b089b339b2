"""Denied rights in the audit trail."""

from datetime import datetime, timedelta

from django.db import transaction

from accounts import audit
from accounts.callers import Caller
from accounts.models import AuditLine

NOTED_EVERY = timedelta(minutes=1)


def note(caller: Caller, *, permission: str, asked_for: str, now: datetime) -> bool:
    """Leave a line in the team's chain that somebody was denied a right, and say whether it is new.

    There is one a minute for each caller and permission at most: whoever keeps on knocking must not fill the trail.
    """
    if _noted(caller, permission, now):
        return False
    with transaction.atomic():
        # Looked at again in turn: of many calls in the same moment one leaves a line.
        audit.lock(caller.team)
        if _noted(caller, permission, now):
            return False
        audit.record(
            team=caller.team,
            caller=caller,
            event_type="security.permission_denied",
            action=f"Denied {permission}: {asked_for}",
            target_type="permission",
            target_id=permission,
        )
    return True


def _noted(caller: Caller, permission: str, now: datetime) -> bool:
    lines = AuditLine.objects.filter(team=caller.team, event_type="security.permission_denied", at__gt=now - NOTED_EVERY)
    prefix = caller.token.key_prefix if caller.token else ""
    return lines.filter(actor_id=caller.user.pk, token_prefix=prefix, target_id=permission).exists()
