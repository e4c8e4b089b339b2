"""Mail on its way to the mail server."""

import pytest
from django.core.mail import EmailMessage
from django.db import connection
from django.utils import timezone

from accounts import letters
from accounts.models import Letter
from tests.factories import UserFactory


@pytest.mark.django_db(transaction=True)
def test_a_slow_mail_server_does_not_cost_the_mark_that_a_mail_was_sent(monkeypatch, settings):
    settings.EMAIL_BACKEND = "tests.mail.EmailBackend"
    allowed = []

    def send(message):
        with connection.cursor() as cursor:
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            allowed.append(cursor.fetchone()[0])

    monkeypatch.setattr(EmailMessage, "send", send)
    facts = {"delivery": "msg_1", "job": "j-1", "team": "Atelier", "link": ""}
    Letter.objects.create(event="webhook_dead", person=UserFactory(), language="en", facts=facts, written_at=timezone.now())

    assert letters.send_waiting(now=timezone.now()) == 1
    assert allowed == [f"{letters.MAY_TAKE.total_seconds() / 60:.0f}min"]
