"""The WSGI application: pages, API, inbox and storage in production."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

django_application = get_wsgi_application()

from config.lengths import knowing_lengths  # noqa: E402 - needs the apps to be loaded

application = knowing_lengths(django_application)
