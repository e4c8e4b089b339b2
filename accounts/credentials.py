"""Credentials: the secrets with which a team works at Replicate, the Hub and an object store."""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from accounts import audit
from accounts.callers import Caller
from accounts.errors import InvalidInput
from accounts.models import Credential, CredentialHealth, CredentialKind, Membership, Team, User


class ProviderAccount(Protocol):
    """The account behind a credential, as its provider names it."""

    @property
    def username(self) -> str: ...

    @property
    def type(self) -> str: ...


def fingerprint(secret: str) -> str:
    """Tell one secret from another without keeping it: SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def problem_with_replicate_token(text: str) -> str:
    """What is wrong with the look of a Replicate token, in a sentence; "" if nothing is. Replicate is not asked."""
    problem = _problem_with_text(text, "token")
    if not problem and not text.startswith("r8_"):
        return "A Replicate token begins with r8_. Copy it from https://replicate.com/account/api-tokens."
    return problem


def problem_with_hub_token(text: str) -> str:
    """What is wrong with the look of a Hugging Face token, in a sentence; "" if nothing is. The Hub is not asked."""
    problem = _problem_with_text(text, "token")
    if not problem and not text.startswith("hf_"):
        return "A Hugging Face token begins with hf_. Copy it from https://huggingface.co/settings/tokens."
    return problem


def problem_with_secret(kind: str, text: str) -> str:
    """What is wrong with the look of a secret of this kind, in a sentence; "" if nothing is."""
    if kind == CredentialKind.REPLICATE:
        return problem_with_replicate_token(text)
    return problem_with_hub_token(text) if kind == CredentialKind.HUGGINGFACE else _problem_with_text(text, "secret")


def problem_with_pair(text: str) -> str:
    """What is wrong with the look of the two words of an S3 key pair, in a sentence; "" if nothing is."""
    access_key, colon, secret = text.partition(":")
    if problem := _problem_with_text(text, "secret"):
        return problem
    return "" if access_key and colon and secret else "An S3 key pair is the access key and the secret key with a colon between them."


def save(
    *,
    team: Team,
    kind: str,
    secret: str,
    by: User,
    caller: Caller | None = None,
    user: User | None = None,
    name: str = "api_token",
    details: dict[str, Any] | None = None,
    description: str = "",
) -> Credential:
    """Keep a secret of the team, or of one person (`user`) in it; the former one of that name stays only for jobs that have it.

    Raises InvalidInput if the secret cannot be one.
    """
    kind = CredentialKind(kind)
    if problem := problem_with_secret(kind, secret):
        raise InvalidInput(problem, field="secret")
    now = timezone.now()
    with transaction.atomic():
        # Two who save at once take turns, and the later one stays.
        Team.objects.select_for_update(no_key=True).get(pk=team.pk)
        former = Credential.objects.in_use().filter(team=team, user=user, kind=kind, name=name).first()
        if former is not None:
            Credential.objects.filter(pk=former.pk).update(removed_at=now)
        credential = Credential.objects.create(
            team=team,
            user=user,
            kind=kind,
            name=name,
            description=description,
            secret=secret,
            fingerprint=fingerprint(secret),
            last_four=secret[-4:],
            details=details or {},
            created_by=by,
            created_at=now,
        )
        audit.record(
            team=team, event_type="credential.created", action=f"Saved the credential {credential}", caller=caller, by=by,
            target_type="credential", target_id=str(credential.pk), before=_described(former), after=_described(credential),
        )  # fmt: skip
    return credential


def remove(credential: Credential, *, by: User, caller: Caller | None = None, reason: str = "") -> bool:
    """Offer a credential no more; jobs that were admitted with it keep it. Says whether it was still in use."""
    now = timezone.now()
    with transaction.atomic():
        removed = Credential.objects.in_use().filter(pk=credential.pk).update(removed_at=now)
        if removed:
            credential.removed_at = now
            audit.record(
                team=credential.team, event_type="credential.deleted", action=f"Removed the credential {credential}", caller=caller, by=by,
                target_type="credential", target_id=str(credential.pk), before=_described(credential), reason=reason,
            )  # fmt: skip
    return bool(removed)


def wipe_removed(*, still_needed: Iterable[int]) -> int:
    """Forget the secrets of removed credentials, but for the ids that are still needed; says how many.

    Whoever knows what needs them (the jobs that are not over) calls this now and then.
    """
    idle = Credential.objects.filter(removed_at__isnull=False).exclude(secret="", signing_keys="").exclude(pk__in=set(still_needed))
    return idle.update(secret="", signing_keys="")


def find(*, team: Team, user: User | None, kind: str, name: str = "api_token") -> Credential | None:
    """The credential with which a person works in a team: their own there, else the team's, else the installation's.

    The installation's comes from the environment and is given only if SHARE_INSTALLATION_CREDENTIALS allows it.
    Another team's is never looked at, nor one of a person who has left the team, whose tokens may still work.
    """
    own = Q(user=user) & Exists(Membership.objects.filter(team=team, user=OuterRef("user")))
    candidates = Credential.objects.in_use().filter(own | Q(user=None), team=team, kind=kind, name=name)
    found = candidates.order_by(F("user_id").asc(nulls_last=True)).first()
    if found is None and settings.SHARE_INSTALLATION_CREDENTIALS:
        return _from_environment(CredentialKind(kind))
    return found


def mark(credential: Credential, *, health: str, reason: str = "", account: ProviderAccount | None = None, now: datetime) -> bool:
    """Keep what the provider said of a credential at `now`, and say whether its health is another than before."""
    with transaction.atomic():
        kept = Credential.objects.select_for_update(no_key=True).only("health").get(pk=credential.pk)
        changes: dict[str, Any] = {"health": CredentialHealth(health), "health_reason": reason[:500], "checked_at": now}
        if account is not None:
            changes |= {"account_username": account.username, "account_type": account.type}
        Credential.objects.filter(pk=credential.pk).update(**changes)
    for name, value in changes.items():
        setattr(credential, name, value)
    return kept.health != health


def _from_environment(kind: CredentialKind) -> Credential | None:
    """The row that stands for the installation's token, made when it is first needed; another token has another row."""
    token = {CredentialKind.REPLICATE: settings.REPLICATE_API_TOKEN, CredentialKind.HUGGINGFACE: settings.HF_TOKEN}.get(kind, "")
    if not token:
        return None
    rows = Credential.objects.filter(team=None, kind=kind, is_from_environment=True)
    found = rows.in_use().filter(fingerprint=fingerprint(token)).first()
    if found is not None:
        return found
    with transaction.atomic():
        rows.in_use().exclude(fingerprint=fingerprint(token)).update(removed_at=timezone.now())
        found, _is_new = Credential.objects.get_or_create(
            team=None, user=None, kind=kind, is_from_environment=True, fingerprint=fingerprint(token), defaults={"last_four": token[-4:]}
        )
        # A token that comes back finds its row again.
        rows.filter(pk=found.pk).update(removed_at=None)
        found.removed_at = None
    return found


def _problem_with_text(text: str, what: str) -> str:
    if not text:
        return f"The {what} is empty."
    if any(character.isspace() for character in text):
        return f"The {what} has a blank or a line break in it. Copy it again without them."
    if not text.isascii() or not text.isprintable():
        return f"The {what} has characters that no {what} has. Copy it again."
    return ""


def _described(credential: Credential | None) -> dict[str, Any]:
    """What an audit line says of a credential."""
    if credential is None:
        return {}
    return {
        "kind": credential.kind,
        "name": credential.name,
        "person": credential.user.username if credential.user else None,
        "last_four": credential.last_four,
        "details": credential.details,
    }
