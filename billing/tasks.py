"""The bell of spend limits. It is the sweep as well: what it finds stands in the rows."""

from typing import Any

from celery import shared_task


@shared_task(name="billing.watch_limits")
def watch_limits(**_: Any) -> None:
    from django.utils import timezone

    from billing import alerts

    now = timezone.now()
    alerts.look_again(now=now)
    alerts.tell_waiting(now=now)
