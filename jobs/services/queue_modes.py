"""Pausing, draining and resuming: the platform and its providers by staff, a team by its leads and owners, or by staff."""

from typing import Any

import structlog
from django.db import transaction

from accounts import audit
from accounts.callers import Caller, Staff
from accounts.errors import InvalidInput, NotPermitted
from accounts.models import Team
from accounts.roles import Right
from jobs import tasks
from jobs.models import QueueSettings
from jobs.models.admission import QueueMode
from jobs.models.catalogue import Provider
from jobs.services import queue_rules

log = structlog.get_logger(__name__)

LONGEST_REASON = 300
DONE = {QueueMode.PAUSED: "Paused", QueueMode.DRAINING: "Drained", QueueMode.RUNNING: "Resumed"}


class HeldByStaff(NotPermitted):
    """The platform's staff have stopped the team's queue, and only they let it go on."""

    code = "held_by_staff"


def set_team(caller: Caller, *, mode: str, reason: str = "") -> QueueSettings:
    """Pause, drain or resume the caller's team. Raises NotPermitted, HeldByStaff, InvalidInput."""
    caller.require(Right.QUEUE, permission="queue.manage")
    mode = checked_mode(mode)
    with transaction.atomic():
        row = queue_rules.row_of(caller.team)
        if row.is_staffs and row.mode != QueueMode.RUNNING:
            raise HeldByStaff(
                "The platform's staff have stopped this team's queue, and only they let it go on.",
                hint="Ask an administrator of this installation.",
                details={"reason": row.reason},
            )
        return _set(row, mode=mode, reason=reason, is_staffs=False, caller=caller)


def set_as_staff(by: Staff, *, mode: str, reason: str = "", team: Team | None = None, provider: str = "") -> QueueSettings:
    """Pause, drain or resume a team, a provider, or with neither the platform. Raises InvalidInput."""
    mode = checked_mode(mode)
    if provider and provider not in Provider.values:
        raise InvalidInput(f"provider must be one of {', '.join(Provider.values)}.", field="provider")
    with transaction.atomic():
        row = queue_rules.row_of(team, provider)
        return _set(row, mode=mode, reason=reason, is_staffs=True, by=by.user, address=by.address)


def checked_mode(mode: str) -> str:
    """Raises InvalidInput for a word that is none."""
    if mode not in QueueMode.values:
        raise InvalidInput(f"mode must be one of {', '.join(QueueMode.values)}.", field="mode")
    return mode


def whose(row: QueueSettings) -> str:
    """What a row is about, in a word of the audit trail."""
    return f"the team {row.team.slug}" if row.team else f"jobs for {row.provider}" if row.provider else "the platform"


def _set(row: QueueSettings, *, mode: str, reason: str, is_staffs: bool, **who: Any) -> QueueSettings:
    """Change the locked row, and have the queue looked at. Where nothing would change, nothing is written."""
    reason = "" if mode == QueueMode.RUNNING else reason.strip()[:LONGEST_REASON]
    before = {"mode": row.mode, "reason": row.reason}
    if before == {"mode": mode, "reason": reason} and row.is_staffs == is_staffs:
        return row
    row.mode, row.reason, row.is_staffs = mode, reason, is_staffs
    row.save(update_fields=["mode", "reason", "is_staffs"])
    audit.record(
        team=row.team,
        event_type="queue.mode_changed",
        action=f"{DONE[QueueMode(mode)]} the queue of {whose(row)}",
        target_type="queue",
        target_id=row.provider or (row.team.slug if row.team else "platform"),
        before=before,
        after={"mode": mode, "reason": reason},
        reason=reason,
        **who,
    )
    transaction.on_commit(lambda: tasks.dispatch.delay(), robust=True)
    log.info("queue.mode_changed", of=whose(row), mode=mode)
    return row
