"""A command that uses the embedded database: runs each statement of its input on a new connection and prints the first value."""

import sys
from pathlib import Path

import django
from django.conf import settings

from config.embedded import postgres

database = postgres.database_settings(Path(sys.argv[1]))
if "pool" in sys.argv:
    database |= {"OPTIONS": {"pool": {"min_size": 1, "max_size": 2, "timeout": 10}}, "CONN_HEALTH_CHECKS": True}
settings.configure(DATABASES={"default": database})
django.setup()

from django.db import connection  # noqa: E402 (settings first)

for statement in sys.stdin:
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute(statement)
        print(cursor.fetchone()[0] if cursor.description else "done", flush=True)
