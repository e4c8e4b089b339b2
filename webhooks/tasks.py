"""The bells of what comes in and goes out. Rows are the truth: `apply_unapplied` finds what a lost bell left."""

from typing import Any

from celery import shared_task


@shared_task(name="webhooks.apply")
def apply(*, delivery_pk: int, **_: Any) -> None:
    from webhooks import applying
    from webhooks.models import Delivery

    applying.attempt(Delivery.objects.select_related("job__team").defer("held_log").get(pk=delivery_pk))


@shared_task(name="webhooks.apply_unapplied")
def apply_unapplied(**_: Any) -> None:
    from webhooks import applying

    applying.apply_unapplied()


@shared_task(name="webhooks.settle_lost_checks")
def settle_lost_checks(**_: Any) -> None:
    from django.utils import timezone

    from webhooks import external_check

    external_check.settle_lost(now=timezone.now())


@shared_task(name="webhooks.push_audit")
def push_audit(**_: Any) -> None:
    from webhooks import forwarding

    forwarding.push_due()
