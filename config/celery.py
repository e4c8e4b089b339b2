"""The Celery application. Celery is only the alarm clock: every task may be lost, repeated or late."""

import os

from celery import Celery
from celery.signals import setup_logging

from config.embedded import readiness

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("tunehouse")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
readiness.connect()


@setup_logging.connect
def keep_our_logging(**_: object) -> None:
    """Let Django's LOGGING stand, so that every process writes the same scrubbed lines."""
