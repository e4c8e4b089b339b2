"""What stands in the database, to see whether a request changed a row."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from django.apps import apps
from django.db import connection

# Written by who is turned away as well: that they came, and how often.
LEFT_OUT = {"accounts_auditline", "accounts_audithead", "accounts_pacecount", "django_session", "usersessions_usersession"}
READING = re.compile(r"\s*(SELECT|SAVEPOINT|RELEASE SAVEPOINT|ROLLBACK TO SAVEPOINT)\b")
WRITING = re.compile(r'\s*(?:INSERT INTO|UPDATE|DELETE FROM) "?(\w+)')

Rows = dict[str, tuple[int, int]]


def standing() -> Rows:
    """For each table how many rows it has, and a sum over all that stands in them."""
    with connection.cursor() as cursor:
        cursor.execute(_statement())
        return {table: (count, total) for table, count, total in cursor.fetchall()}


def changed(before: Rows, after: Rows) -> list[str]:
    """The tables that differ."""
    return sorted(table for table in before.keys() | after.keys() if before.get(table) != after.get(table))


class Watch:
    """Whether anything was said to the database that may change a row: most requests only read, and looking at all rows takes time."""

    def __init__(self) -> None:
        self.may_differ = False

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        written = WRITING.match(sql)
        self.may_differ |= not (READING.match(sql) or (written and written[1] in LEFT_OUT))
        return execute(sql, params, many, context)


@contextmanager
def watched() -> Iterator[Watch]:
    watch = Watch()
    with connection.execute_wrapper(watch):
        yield watch


@cache
def _statement() -> str:
    tables = sorted({model._meta.db_table for model in apps.get_models(include_auto_created=True) if model._meta.managed} - LEFT_OUT)
    # Sums need no order, unlike a hash over all rows.
    return " UNION ALL ".join(
        f"SELECT '{table}', count(*), coalesce(sum(hashtextextended(r::text, 0)), 0) FROM {table} AS r"  # noqa: S608 - our own tables
        for table in tables
    )
