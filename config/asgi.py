"""The ASGI application: live streams in production, everything in `manage.py up`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

django_application = get_asgi_application()

from jobs.storage.spooling import answering_when_full  # noqa: E402 - needs the apps to be loaded

application = answering_when_full(django_application)
