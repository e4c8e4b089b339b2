"""Idempotency: of all sendings of one submission the first makes the job, and the others are answered with it."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction

from accounts.errors import Conflict
from accounts.models import Team
from jobs.models import IdempotencyKey

KEY_LIFETIME = timedelta(hours=24)


class IdempotencyConflict(Conflict):
    """The key was used for another submission."""

    code = "idempotency_conflict"


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """A client's idempotency key with what was asked. A strict one refuses a repeat that asks for something else.

    Of `body` only a hash of each field is kept: enough to name the fields in which a repeat differs.
    """

    key: str
    body: dict[str, Any]
    is_strict: bool = False

    @property
    def fingerprints(self) -> dict[str, str]:
        """A hash of each field; one that is null is as one that is not there."""
        asked = {name: value for name, value in self.body.items() if value is not None}
        return {name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest() for name, value in asked.items()}


class KeyTaken(Exception):
    """Another submission with the same key was first."""


def take(team: Team, repeat: Repeat, *, now: datetime) -> IdempotencyKey:
    """Claim the key. Of two at once the second waits here until the first is admitted or refused."""
    team.idempotency_keys.filter(key=repeat.key, created_at__lte=now - KEY_LIFETIME).delete()
    try:
        with transaction.atomic():
            return IdempotencyKey.objects.create(team=team, key=repeat.key, body=repeat.fingerprints, created_at=now)
    except IntegrityError:
        raise KeyTaken from None


def first(team: Team, repeat: Repeat, *, now: datetime) -> IdempotencyKey | None:
    """What an earlier submission with this key has left, if it was admitted and the key is still remembered."""
    keys = team.idempotency_keys.select_related("job__trainer", "job__team")
    return keys.filter(key=repeat.key, created_at__gt=now - KEY_LIFETIME, job__isnull=False).first()


def differences(first: IdempotencyKey, repeat: Repeat) -> list[str]:
    """What to tell somebody whose submission repeats an earlier one. Raises IdempotencyConflict for a strict repeat of something else."""
    asked = repeat.fingerprints
    differing = sorted(name for name in first.body.keys() | asked.keys() if first.body.get(name) != asked.get(name))
    if not differing:
        return []
    if repeat.is_strict:
        raise IdempotencyConflict(
            f"This Idempotency-Key was used for another submission; these fields differ: {', '.join(differing)}.",
            hint="Use a new key for a new job.",
            details={"job_id": first.job.job_id if first.job else "", "fields": differing},
        )
    return [f"The idempotency key was used before with other values of: {', '.join(differing)}. The first job stands."]
