"""A team's way to the provider: its settings, its gateway, and what the provider says of its token."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit, credentials
from accounts.callers import Caller
from accounts.errors import Conflict, InvalidInput, NotFound
from accounts.models import Credential, CredentialHealth, CredentialKind, Team
from jobs.models import Job, ProviderSettings, ProviderUpload, Trainer, TrainerVersion
from jobs.models.catalogue import Provider
from jobs.replicate.gateway import CreditExhausted, Gateway, Outbound, ReplicateError, Retries, Unauthorized, Version

log = structlog.get_logger(__name__)

NOT_SET = "REPLICATE_API_TOKEN not set"
UNHURRIED = Retries()
# Somebody waits for the answer, and their client gives up after half a minute.
AWAITED = Retries(attempts=2, budget_seconds=2.0)
# With a credential in such health nothing can be created.
HELD_HEALTH = frozenset({CredentialHealth.REFUSED, CredentialHealth.NO_CREDIT})


class MissingToken(Conflict):
    """Neither the team nor the installation has a Replicate token."""

    code = "missing_token"


class NoToken(NotFound):
    """There is nothing to remove."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What *Validate* answers; `error` is empty when the token is good."""

    valid: bool
    error: str = ""
    account: dict[str, Any] = field(default_factory=dict)
    source: str = ""


def settings_of(team: Team) -> ProviderSettings:
    """The team's settings for the provider, with the defaults where it never saved any."""
    return ProviderSettings.objects.filter(team=team).first() or ProviderSettings(team=team)


def gateway(*, team: Team, credential: Credential, retries: Retries = UNHURRIED) -> Gateway:
    """A gateway that speaks with this credential and by the team's outbound settings."""
    own = settings_of(team)
    outbound = Outbound(
        proxy_url=own.proxy_url or None,
        ca_bundle=own.ssl_ca_bundle or settings.OUTBOUND_CA_BUNDLE,
        verify=own.ssl_verify,
        timeout_seconds=float(own.http_timeout or settings.OUTBOUND_TIMEOUT_SECONDS),
    )
    return Gateway(base_url=settings.REPLICATE_BASE_URL, token=credential.reveal(), outbound=outbound, retries=retries)


def credential_for(caller: Caller) -> Credential:
    """The Replicate credential that a job of this caller is admitted with.

    Raises MissingToken.
    """
    found = credentials.find(team=caller.team, user=caller.user, kind=CredentialKind.REPLICATE)
    if found is None:
        raise MissingToken(
            NOT_SET, hint="Save a Replicate token for the team with PUT /api/cloud/providers/replicate/token or under Settings."
        )
    return found


def source_of(credential: Credential) -> str:
    """SimpleTuner's word for where a token comes from: user, team or global."""
    if credential.team_id is None:
        return "global"
    return "user" if credential.user_id else "team"


def save_token(caller: Caller, token: str) -> Validation:
    """Keep a Replicate token for the team, replacing the one before, then ask Replicate about it.

    Raises InvalidInput for a token that cannot be one; nothing is saved then.
    """
    problem = credentials.problem_with_replicate_token(token)
    if problem:
        raise InvalidInput(problem, field="api_token", hint="Copy the token again from your account at Replicate.")
    with transaction.atomic():
        credential = credentials.save(team=caller.team, kind=CredentialKind.REPLICATE, secret=token, by=caller.user, caller=caller)
        audit.record(
            team=caller.team,
            caller=caller,
            event_type="token.saved",
            action="Saved the team's Replicate token",
            target_type="credential",
            target_id=str(credential.pk),
            after={"last_four": credential.last_four},
        )
    return check(team=caller.team, credential=credential)


def remove_token(caller: Caller) -> None:
    """Offer the team's own Replicate token no more; jobs that were admitted with it keep it. Raises NoToken."""
    stored = Credential.objects.in_use().filter(team=caller.team, user=None, kind=CredentialKind.REPLICATE, name="api_token").first()
    if stored is None or not credentials.remove(stored, by=caller.user, caller=caller):
        raise NoToken("The team has no Replicate token stored.")


def versions(caller: Caller, model: str) -> list[Version]:
    """The versions of `owner/name` at the provider, newest first. Raises MissingToken, and the gateway's errors."""
    with gateway(team=caller.team, credential=credential_for(caller), retries=AWAITED) as replicate:
        return replicate.versions(model)


def account_of(caller: Caller, credential: Credential) -> dict[str, str | None]:
    """Whose token this is: as we last heard, else as the provider says now; nulls where it cannot be asked."""
    if not credential.account_username:
        check(team=caller.team, credential=credential)
    return {"username": credential.account_username or None, "type": credential.account_type or None}


def validate(caller: Caller) -> Validation:
    """Say whether the token that a job of this caller would use is good, and whose it is."""
    try:
        credential = credential_for(caller)
    except MissingToken as missing:
        return Validation(valid=False, error=missing.detail)
    return check(team=caller.team, credential=credential)


def check(*, team: Team, credential: Credential) -> Validation:
    """Ask Replicate whose token this is, and keep what it says as the credential's health."""
    now = timezone.now()
    source = source_of(credential)
    try:
        with gateway(team=team, credential=credential, retries=AWAITED) as replicate:
            account = replicate.account()
    except Unauthorized:
        credentials.mark(credential, health=CredentialHealth.REFUSED, reason="Replicate does not accept this token.", now=now)
        return Validation(
            valid=False, error="Replicate does not accept this token. It may have been disabled; make a new one there.", source=source
        )
    except ReplicateError as error:
        return Validation(valid=False, error=f"Replicate could not be asked: {error}", source=source)
    credentials.mark(credential, health=CredentialHealth.GOOD, account=account, now=now)
    return Validation(
        valid=True,
        account={"username": account.username, "name": account.name, "github_url": account.github_url, "type": account.type},
        source=source,
    )


def note_refusal(credential: Credential, error: ReplicateError) -> None:
    """Keep a 401 or 402 as the credential's health, which holds the jobs that would use it."""
    if isinstance(error, Unauthorized):
        credentials.mark(credential, health=CredentialHealth.REFUSED, reason=str(error), now=timezone.now())
    elif isinstance(error, CreditExhausted):
        credentials.mark(credential, health=CredentialHealth.NO_CREDIT, reason=str(error), now=timezone.now())


def note_acceptance(credential: Credential) -> None:
    """A token with which something was created is good again, and credit is there."""
    if credential.health in HELD_HEALTH:
        credentials.mark(credential, health=CredentialHealth.GOOD, now=timezone.now())


def take_new_credential(job: Job) -> bool:
    """Give a job whose token the provider refuses the one that is in use by now; say whether there was another.

    Only for a job of which no call is open: a prediction belongs to the account that was asked for it.
    """
    if job.credential.health not in HELD_HEALTH:
        return False
    found = credentials.find(team=job.team, user=job.submitted_by, kind=CredentialKind.REPLICATE)
    if found is None or found.pk == job.credential_id or found.health in HELD_HEALTH:
        return False
    with transaction.atomic():
        if not Job.objects.filter(pk=job.pk, prediction_id=None).update(credential=found, try_after=None):
            return False
        # What was uploaded belongs to the former account, and expires there within a day.
        ProviderUpload.objects.filter(job=job).delete()
    job.credential = found
    log.info("job.credential_replaced", team=job.team.slug, job=job.job_id)
    return True


def signing_keys(*, team: Team, credential: Credential, refetch: bool = False) -> list[str]:
    """The secrets that may have signed a webhook of this account, newest first; fetched when first needed.

    `refetch` asks again, at most once a minute whoever asks, since the account may have changed its secret. The one
    before stays valid beside it.
    """
    now = timezone.now()
    keys = credential.signing_keys.split()
    if keys and not refetch:
        return keys
    rested = Q(signing_keys_fetched_at=None) | Q(signing_keys_fetched_at__lte=now - timedelta(minutes=1))
    if not Credential.objects.filter(rested, pk=credential.pk).update(signing_keys_fetched_at=now):
        return Credential.objects.get(pk=credential.pk).signing_keys.split()
    try:
        with gateway(team=team, credential=credential) as replicate:
            newest = replicate.signing_secret()
    except ReplicateError as error:
        log.warning("signing_keys.unavailable", team=team.slug, reason=str(error))
        return keys
    keys = [newest, *(key for key in keys if key != newest)][:2]
    credential.signing_keys = "\n".join(keys)
    credential.signing_keys_fetched_at = now
    credential.save(update_fields=["signing_keys"])
    return keys


def known_version(trainer: Trainer, *, pinned: str = "") -> TrainerVersion | None:
    """The trainer's version as we last saw it, without asking anybody: the pinned one, else the newest."""
    seen = trainer.versions.filter(provider=Provider.REPLICATE)
    if pinned:
        return seen.filter(version=pinned).first()
    return seen.order_by("-fetched_at").first()


def current_version(replicate: Gateway, trainer: Trainer, *, pinned: str = "") -> TrainerVersion:
    """The version to run now, asked of the provider, with its input schema; kept in the catalogue."""
    found: Version = replicate.version(trainer.model, pinned) if pinned else replicate.latest_version(trainer.model)
    row, _ = TrainerVersion.objects.update_or_create(
        trainer=trainer,
        provider=Provider.REPLICATE,
        version=found.id,
        defaults={"input_schema": found.input_schema, "published_at": found.created_at, "fetched_at": timezone.now()},
    )
    return row
