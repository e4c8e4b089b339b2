"""The bell of the mail. It is the sweep as well: whatever was not sent waits in its row."""

from typing import Any

from celery import shared_task


@shared_task(name="accounts.send_mail")
def send_mail(**_: Any) -> None:
    from django.utils import timezone

    from accounts import invites, letters

    now = timezone.now()
    invites.expire(now=now)
    invites.send_waiting(now=now)
    letters.send_waiting(now=now)
