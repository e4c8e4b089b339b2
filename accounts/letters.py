"""Mail to people. What is to be sent is a row first; sending may be lost, repeated or late.

The template of an event is `templates/mail/<event>.txt`: its first line is the subject, the rest the text. Beside the
facts it knows `reader`, the key of whoever gets it: a link that is their own is made in the moment of sending, since the
row must hold no secret.
"""

import smtplib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.core.mail import EmailMessage
from django.db import connection, transaction
from django.template.loader import render_to_string
from django.utils import timezone, translation

from accounts import registration, tasks
from accounts.models import Letter, Team, User

log = structlog.get_logger(__name__)

AT_ONCE = 200
# News that is older than this helps nobody.
TRIED_FOR = timedelta(days=7)
# One mail, with all that the mail server lets us wait for.
MAY_TAKE = timedelta(minutes=10)


def write(*, event: str, to: Iterable[User], team: Team | None, facts: Mapping[str, Any], now: datetime | None = None) -> list[Letter]:
    """Have a mail sent to each of these people, in their own language. Call it in the transaction of what it tells of.

    Whose language is not known reads that of whoever causes it. So facts are plain values that the template puts into words:
    amounts in micro-dollars, moments as ISO texts in UTC beside the `time_zone` in which they are shown, codes.
    """
    current, now = translation.get_language() or "en", now or timezone.now()
    written = Letter.objects.bulk_create(
        Letter(event=event, person=person, team=team, language=person.language or current, facts=dict(facts), written_at=now)
        for person in to
    )
    ring()
    return written


def ring() -> None:
    """Send what waits as soon as this transaction is over."""
    transaction.on_commit(lambda: tasks.send_mail.delay(), robust=True)


def send_waiting(*, now: datetime) -> int:
    """Send the mails that were not sent yet, and say how many; none where nobody would get them."""
    if not registration.sends_mail():
        return 0
    waiting = Letter.objects.filter(sent_at=None, written_at__gt=now - TRIED_FOR, person__is_active=True).order_by("written_at", "pk")
    return send_each(waiting.values_list("pk", flat=True)[:AT_ONCE], _send)


def send_each(keys: Iterable[int], send: Callable[[int], bool]) -> int:
    """Send one mail for each key. One that the mail server refuses waits for the next sweep, and so do all while it is away."""
    sent = 0
    for key in keys:
        try:
            sent += send(key)
        except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused) as error:
            log.warning("mail.refused", reason=type(error).__name__)
        except OSError as error:
            log.warning("mail.unsent", reason=type(error).__name__)
            break
    return sent


def mail(*, event: str, to: str, language: str, facts: Mapping[str, Any]) -> None:
    """Write a mail and give it to the mail server. Raises OSError, of which smtplib's errors are.

    Call it in the transaction that marks it as sent. A mail server may be slow on purpose; ended meanwhile by the database, that
    mark would be lost and the mail sent again and again.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, true)", [f"{MAY_TAKE.total_seconds():.0f}s"])
    with translation.override(language):
        subject, _line_end, text = render_to_string(f"mail/{event}.txt", dict(facts)).strip().partition("\n")
    EmailMessage(subject=subject.strip(), body=text.strip() + "\n", to=[to]).send()


def _send(key: int) -> bool:
    """Send a mail and mark it, unless somebody else does; a mail that fails leaves no mark."""
    with transaction.atomic():
        waiting = Letter.objects.select_for_update(skip_locked=True, of=("self",), no_key=True).select_related("person")
        letter = waiting.filter(pk=key, sent_at=None).first()
        if letter is None:
            return False
        Letter.objects.filter(pk=key).update(sent_at=timezone.now())
        mail(event=letter.event, to=letter.person.email, language=letter.language, facts=letter.facts | {"reader": letter.person_id})
    return True
