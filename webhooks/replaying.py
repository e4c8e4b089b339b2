"""Apply deliveries of the inbox again, one or many, by a person or by whoever operates the server."""

import structlog
from django.db import transaction

from accounts import audit
from accounts.callers import Caller
from accounts.errors import Conflict
from accounts.models import Team
from accounts.roles import Right
from jobs.models import Job
from webhooks import applying, tasks
from webhooks.models import Delivery, DeliveryQuerySet, DeliveryState

log = structlog.get_logger(__name__)


class NotReplayable(Conflict):
    """The delivery is held, or contradicts what came before under its id."""

    code = "delivery_not_replayable"


def replay(delivery: Delivery) -> bool:
    """Apply a delivery again, and say whether it may be. What it says is old news, unless it was put aside.

    One in quarantine contradicts what was delivered under its id before, and stays there; one that is held is released.
    """
    if not _mark_for_replay(Delivery.objects.filter(pk=delivery.pk)):
        return False
    delivery.attempts = 0
    applying.attempt(delivery)
    return True


def replay_one(caller: Caller, delivery: Delivery) -> Delivery:
    """The same for a person, with a line in the audit trail; returns the delivery as it is afterwards. Raises NotReplayable."""
    caller.require(Right.MANAGE, permission="admin.config")
    if not replay(delivery):
        raise NotReplayable(
            f"The delivery cannot be applied again: it is {delivery.state}.",
            hint="Release one that is held. One that contradicts an earlier one of the same id stays apart.",
        )
    _audit_replay(caller.team, caller, count=1, what=delivery.webhook_id, job=delivery.job)
    delivery.refresh_from_db()
    return delivery


def replay_all(caller: Caller, deliveries: DeliveryQuerySet, *, what: str = "") -> int:
    """Mark all of these to be applied again, which the sweep then does in the order in which they came; says how many."""
    caller.require(Right.MANAGE, permission="admin.config")
    return replay_of_team(caller.team, deliveries, caller=caller, what=what)


def replay_of_team(team: Team, deliveries: DeliveryQuerySet, *, caller: Caller | None = None, what: str = "") -> int:
    """The same without a person, for whoever operates the server."""
    with transaction.atomic():
        marked = _mark_for_replay(deliveries.of(team))
        if marked:
            _audit_replay(team, caller, count=marked, what=what)
            transaction.on_commit(lambda: tasks.apply_unapplied.delay(), robust=True)
    log.info("deliveries.replayed", team=team.slug, count=marked)
    return marked


def _mark_for_replay(deliveries: DeliveryQuerySet) -> int:
    # Named by their keys: what passes a filter may be joined and ordered, and an UPDATE is neither.
    chosen = Delivery.objects.replayable().filter(pk__in=deliveries.order_by().values("pk"))
    return chosen.update(state=DeliveryState.RECEIVED, attempts=0, try_after=None)


def _audit_replay(team: Team, caller: Caller | None, *, count: int, what: str, job: Job | None = None) -> None:
    audit.record(
        team=team,
        caller=caller,
        event_type="webhook.replayed",
        action=f"Applied the delivery {what} again" if job else f"Had {count} deliveries applied again",
        target_type="job" if job else "inbox",
        target_id=job.job_id if job else "",
        after={} if job else {"count": count, "filter": what},
    )
