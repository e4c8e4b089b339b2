"""Let go what the inbox holds: well signed deliveries from addresses outside a team's list."""

import json
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.callers import Caller, is_within
from accounts.errors import Conflict
from accounts.roles import Right
from jobs import settingkeys
from jobs.models import Job
from jobs.replicate import predictions
from jobs.services import progress, provider, provider_settings
from webhooks import tasks
from webhooks.models import Delivery, DeliveryQuerySet, DeliveryState, Source

log = structlog.get_logger(__name__)

AT_ONCE = 500


class NotHeld(Conflict):
    """The delivery waits for nobody."""

    code = "delivery_not_held"


def release(caller: Caller, delivery: Delivery, *, allow: str = "") -> Delivery:
    """Let a held delivery go, to be applied like any. Returns it.

    `allow` is an address or network to put on the team's list first; whatever else is held from there goes along.
    Raises NotHeld, and InvalidInput for an `allow` that is neither.
    """
    caller.require(Right.MANAGE, permission="admin.config")
    if delivery.state != DeliveryState.HELD:
        raise NotHeld(f"The delivery is not held, it is {delivery.state}.")
    held = Delivery.objects.filter(pk=delivery.pk)
    if allow:
        (allow,) = settingkeys.networks("allow", [allow])
        _allow(caller, allow)
        others = Delivery.objects.of(caller.team).held().exclude(address=None)[:AT_ONCE]
        held = Delivery.objects.filter(pk__in=[delivery.pk, *(other.pk for other in others if is_within(other.address or "", [allow]))])
    if not release_all(caller, held, allowed=allow):
        raise NotHeld("Somebody else has released the delivery.")
    delivery.refresh_from_db()
    return delivery


def release_all(caller: Caller, deliveries: DeliveryQuerySet, *, allowed: str = "") -> int:
    """Let all of these go that are held, in the order in which they came; says how many."""
    caller.require(Right.MANAGE, permission="admin.config")
    held = deliveries.held().select_related("job__team").order_by("received_at", "pk")[:AT_ONCE]
    return sum(_release(caller, delivery, allowed=allowed) for delivery in held)


def _release(caller: Caller, delivery: Delivery, *, allowed: str) -> bool:
    with transaction.atomic():
        if not let_go(delivery):
            return False
        audit.record(
            team=caller.team,
            caller=caller,
            event_type="webhook.released",
            action=f"Released the delivery {delivery.webhook_id} for {delivery.job.job_id}"[:300],
            target_type="job",
            target_id=delivery.job.job_id,
            after={"address": delivery.address or "", **({"allowed": allowed} if allowed else {})},
        )
    log.info("delivery.released", team=caller.team.slug, job=delivery.job.job_id, delivery=delivery.webhook_id)
    return True


def _allow(caller: Caller, address: str) -> None:
    """Put one more on the team's list, unless it is there. Raises InvalidInput."""
    listed = provider.settings_of(caller.team).webhook_allowed_ips
    if listed and address not in listed:  # without a list everybody is let in, and one address would keep all others out
        provider_settings.save(caller, {"webhook_allowed_ips": [*listed, address]})


def let_go(delivery: Delivery) -> bool:
    """Put a held delivery among those that are applied, its log at the end of the job's; False if it is held no more."""
    now = timezone.now()
    with transaction.atomic():
        job = Job.objects.locked(delivery.job_id)
        held = Delivery.objects.held().filter(pk=delivery.pk)
        if not held.update(state=DeliveryState.RECEIVED, reason=""):
            return False
        text = Delivery.objects.values_list("held_log", flat=True).get(pk=delivery.pk)
        changes: dict[str, Any] = {"held_log": ""}
        if delivery.source == Source.PROVIDER:
            content = {**delivery.content, **({"logs": text} if delivery.logs_length is not None else {})}
            changes["event"] = progress.hear(job, predictions.parse(json.dumps(content)), now=now)
        Delivery.objects.filter(pk=delivery.pk).update(**changes)
        transaction.on_commit(lambda: tasks.apply.delay(delivery_pk=delivery.pk), robust=True)
    delivery.refresh_from_db()
    return True
