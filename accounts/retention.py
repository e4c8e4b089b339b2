"""Retention: the oldest lines of the audit trail are removed, and the chain goes on to prove all others.

First an anchor is written, with the place and the hash of the last line that goes, and a line that tells of it. Only then
does the database let go of what the anchor covers: see the migration `audit_retention`. A removal that was interrupted is
finished by the next one; meanwhile nobody looks behind the anchor.
"""

from datetime import datetime, time, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.chain import CUT, Point, told_of
from accounts.errors import Conflict
from accounts.models import AuditAnchor, AuditHead, AuditLine, Team, User

log = structlog.get_logger(__name__)

# As many as one statement removes.
BATCH = 10_000


class ChainBroken(Conflict):
    """A cut would throw the evidence away."""

    code = "audit_chain_broken"


def cut(team: Team | None, *, before: datetime, by: User | None = None) -> int:
    """Remove the lines of a chain (`team` None: the platform's) that were written before a time; says how many.

    Raises ChainBroken while the chain does not verify.
    """
    last = _last_line(team, before=before)
    if last is not None:
        _require_whole(team)
        _anchor(team, last, before=before, by=by)
    return _remove_covered(team)


def cut_due(*, now: datetime) -> int:
    """Remove from all chains what is older than the retention setting, by whole days of UTC; says how many lines."""
    days = settings.AUDIT_RETENTION_DAYS
    if not days:
        return 0
    before = datetime.combine((now - timedelta(days=days)).date(), time.min, tzinfo=now.tzinfo)
    removed = 0
    for head in AuditHead.objects.select_related("team"):
        try:
            removed += cut(head.team, before=before)
        except ChainBroken as broken:
            log.error("audit.cut_refused", team=head.team.slug if head.team else "", reason=broken.detail)
    return removed


def _last_line(team: Team | None, *, before: datetime) -> AuditLine | None:
    """The last line of the unbroken run of old ones at the beginning; None where there is none that is not anchored yet."""
    anchored = AuditAnchor.objects.filter(team=team).order_by("-sequence").values_list("sequence", flat=True).first() or 0
    lines = AuditLine.objects.filter(team=team, sequence__gt=anchored).order_by("sequence")
    first_kept = lines.filter(at__gte=before).values_list("sequence", flat=True).first()
    return (lines if first_kept is None else lines.filter(sequence__lt=first_kept)).last()


def _require_whole(team: Team | None) -> None:
    found = audit.verify(team)
    if not found.valid:
        line, reason = found.broken[0]
        raise ChainBroken(
            f"The audit trail of {team or 'the platform'} does not verify (line {line}: {reason}), so nothing is removed from it.",
            hint="Run manage.py verify_audit and find out what happened first.",
        )


def _anchor(team: Team | None, last: AuditLine, *, before: datetime, by: User | None) -> None:
    with transaction.atomic():
        # Of two who cut at once, the second finds the anchor there.
        audit.lock(team)
        if AuditAnchor.objects.filter(team=team, sequence__gte=last.sequence).exists():
            return
        AuditAnchor.objects.create(team=team, sequence=last.sequence, hash=last.hash, at=timezone.now(), made_by=by.username if by else "")
        audit.record(
            team=team,
            event_type=CUT,
            action=f"Removed the lines up to {last.sequence}, written before {before.isoformat(timespec='seconds')}",
            by=by,
            target_type="audit",
            target_id=str(last.sequence),
            after=told_of(Point(last.sequence, last.hash)),
        )


def _remove_covered(team: Team | None) -> int:
    """Remove what the newest anchor covers, a batch at a time, so that no statement is long."""
    anchor = AuditAnchor.objects.filter(team=team).order_by("-sequence").first()
    removed = 0
    while anchor is not None:
        covered = AuditLine.objects.filter(team=team, sequence__lte=anchor.sequence)
        oldest = covered.order_by("sequence").values_list("sequence", flat=True).first()
        if oldest is None:
            break
        count, _ = covered.filter(sequence__lt=oldest + BATCH).delete()
        removed += count
    return removed
