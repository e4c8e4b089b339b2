"""The product's ASGI application on a benchmark's database, for a server of its own."""

import json
import os

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"

from django.conf import settings

place = json.loads(os.environ["BENCH_DATABASE"])
settings.DATABASES["default"].update({"NAME": place.pop("NAME"), **{name.upper(): value for name, value in place.items()}})

from config.asgi import application  # noqa: E402 - with the database that was named

__all__ = ["application"]
