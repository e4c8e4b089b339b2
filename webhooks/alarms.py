"""What a team's owners must hear of its inbox: deliveries from addresses outside the list, and those that cannot be applied."""

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db.models import F, Q
from django.urls import reverse

from accounts import audit, letters, members
from accounts.models import Letter, Team
from webhooks.models import Delivery, OutsideAddress

log = structlog.get_logger(__name__)

OUTSIDE, DEAD = "webhook_outside", "webhook_dead"
# Nobody needs to hear the same every minute.
TOLD_FOR = timedelta(days=1)


def note_outside(delivery: Delivery, *, is_held: bool, now: datetime, is_repeat: bool = False) -> None:
    """Count a well signed delivery by its address, and tell the owners of each address once a day. Call it in a transaction.

    What is held leaves a line in the audit trail, but not again for each try of the sender; what was taken leaves one a day.
    """
    team, job_id, address = delivery.job.team, delivery.job.job_id, delivery.address or ""
    row, _ = OutsideAddress.objects.get_or_create(team=team, address=address, defaults={"first_seen_at": now})
    counted = {"held": F("held") + 1} if is_held else {"passed": F("passed") + 1}
    mine = OutsideAddress.objects.filter(pk=row.pk)
    mine.update(last_seen_at=now, **counted)
    # Whoever moves the stamp tells.
    is_news = bool(mine.filter(Q(told_at=None) | Q(told_at__lte=now - TOLD_FOR)).update(told_at=now))
    if is_news:
        log.error("delivery.outside", team=team.slug, job=job_id, delivery=delivery.webhook_id)
        facts = {"address": address, "is_held": int(is_held), "job": job_id, "team": team.name, "link": _inbox(team)}
        letters.write(event=OUTSIDE, to=members.owners(team), team=team, facts=facts, now=now)
    if is_news or (is_held and not is_repeat):
        what = "Held a delivery for" if is_held else "Took a delivery for"
        audit.record(
            team=team,
            event_type="webhook.rejected" if is_held else "webhook.drifted",
            action=f"{what} {job_id}: it came from an address outside the list",
            target_type="job",
            target_id=job_id,
            after={"address": address},
        )


def tell_of_dead(delivery: Delivery, *, reason: str, now: datetime) -> None:
    """Say that a delivery was put aside: each in the audit trail, by mail at most once a day. Call it in a transaction."""
    team = delivery.job.team
    log.error("delivery.dead", team=team.slug, job=delivery.job.job_id, delivery=delivery.webhook_id, reason=reason)
    if not Letter.objects.filter(team=team, event=DEAD, written_at__gt=now - TOLD_FOR).exists():
        facts = {"delivery": delivery.webhook_id, "job": delivery.job.job_id, "team": team.name, "link": _inbox(team)}
        letters.write(event=DEAD, to=members.owners(team), team=team, facts=facts, now=now)
    audit.record(
        team=team,
        event_type="webhook.dead",
        action=f"Put the delivery {delivery.webhook_id} for {delivery.job.job_id} aside: it could not be applied",
        target_type="job",
        target_id=delivery.job.job_id,
        reason=reason,
    )


def _inbox(team: Team) -> str:
    return settings.PUBLIC_URL + reverse("webhooks:inbox", args=[team.slug]) if settings.PUBLIC_URL else ""
