"""Putting every secret that is kept encrypted on the newest key, while everything runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from allauth.mfa.models import Authenticator
from django.apps import apps
from django.db import models
from django.db.models import TextField, Value
from django.db.models.functions import Cast

from accounts import encryption
from accounts.encryption import EncryptedTextField

BATCH = 500
# A row that somebody writes at the very moment is looked at again; nobody writes the same one so often.
MOST_PASSES = 20


@dataclass
class Renewed:
    """What became of one column: how many secrets it has, how many got the newest key, and how many no key opens."""

    column: str
    found: int = 0
    renewed: int = 0
    unreadable: int = 0


def renew() -> list[Renewed]:
    """Encrypt anew what is not on the first key of TUNEHOUSE_ENCRYPTION_KEYS; says what it did, column by column.

    Each secret is written by itself, and only if it is still what was read: so this may be killed and repeated, and
    loses nothing that others write meanwhile. What no key opens is left as it is.
    """
    return [_renew_column(model, field) for model, field in sealed_columns()] + [_renew_second_factors()]


def sealed_columns() -> Iterator[tuple[type[models.Model], EncryptedTextField]]:
    """Every encrypted field of every table, by the class of the field."""
    for model in apps.get_models(include_auto_created=True):
        if model._meta.proxy or not model._meta.managed:
            continue
        for field in model._meta.local_concrete_fields:
            if isinstance(field, EncryptedTextField):
                yield model, field


def _renew_column(model: type[models.Model], field: EncryptedTextField) -> Renewed:
    """As text and not as its field shows it, which would open each secret and seal it again."""
    rows = model._base_manager.annotate(sealed=Cast(field.name, TextField())).exclude(sealed="").exclude(sealed=None)
    result = Renewed(f"{model._meta.label}.{field.name}")
    for _ in range(MOST_PASSES):
        result.found = result.unreadable = lost = 0
        for key, sealed in _in_batches(rows, "sealed"):
            result.found += 1
            if encryption.is_current(sealed):
                continue
            try:
                fresh = encryption.renew(sealed)
            except ValueError:
                result.unreadable += 1
                continue
            written = rows.filter(pk=key, sealed=sealed).update(**{field.name: Value(fresh, TextField())})
            result.renewed += written
            lost += not written
        if not lost:
            break
    return result


def _renew_second_factors() -> Renewed:
    """django-allauth keeps what its adapter encrypted among other values in JSON."""
    result = Renewed(f"{Authenticator._meta.label}.data")
    for key, data in _in_batches(Authenticator.objects.all(), "data"):
        fresh = {}
        for name, value in data.items():
            fresh[name] = [_renewed(one, result) for one in value] if isinstance(value, list) else _renewed(value, result)
        if fresh != data:
            result.renewed += Authenticator.objects.filter(pk=key, data=data).update(data=fresh)
    return result


def _renewed(value: Any, result: Renewed) -> Any:
    """The value on the newest key, if it is a secret that is not."""
    if not isinstance(value, str) or not encryption.is_sealed(value):
        return value
    result.found += 1
    if encryption.is_current(value):
        return value
    try:
        return encryption.renew(value)
    except ValueError:
        result.unreadable += 1
        return value


def _in_batches(rows: models.QuerySet[Any], column: str) -> Iterator[tuple[Any, Any]]:
    """Key and value of each row in the order of keys, so few at a time that no long read is held open."""
    last = None
    while True:
        following = rows.filter(pk__gt=last) if last is not None else rows
        batch = list(following.order_by("pk").values_list("pk", column)[:BATCH])
        yield from batch
        if len(batch) < BATCH:
            return
        last = batch[-1][0]
