"""The inbox's bells. Rows are the truth: `apply_unapplied` finds what a lost bell left."""

from typing import Any

from celery import shared_task


@shared_task(name="webhooks.apply")
def apply(*, delivery_pk: int, **_: Any) -> None:
    from webhooks import services
    from webhooks.models import Delivery

    services.apply(Delivery.objects.select_related("job__team").get(pk=delivery_pk))


@shared_task(name="webhooks.apply_unapplied")
def apply_unapplied(**_: Any) -> None:
    from webhooks import services

    services.apply_unapplied()
