"""A team's way to the provider: its settings, its gateway, and what the provider says of its token."""

from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit, credentials
from accounts.callers import Caller
from accounts.errors import Conflict, InvalidInput, NotFound
from accounts.models import Credential, CredentialHealth, CredentialKind, Team, User
from jobs import tasks
from jobs.models import Job, ProviderSettings, ProviderUpload, Trainer, TrainerVersion
from jobs.models.catalogue import Provider
from jobs.outbound import Outbound, Trouble
from jobs.replicate.gateway import CreditExhausted, Gateway, ReplicateError, Retries, Unauthorized, Unavailable, Version
from jobs.services import breakers
from jobs.services.breakers import address_of
from jobs.states import State, WaitingReason

log = structlog.get_logger(__name__)

NOT_SET = "REPLICATE_API_TOKEN not set"
UNHURRIED = Retries()
# Somebody waits for the answer, and their client gives up after half a minute.
AWAITED = Retries(attempts=2, budget_seconds=2.0)
# With a credential in such health nothing can be created.
HELD_HEALTH = frozenset({CredentialHealth.REFUSED, CredentialHealth.NO_CREDIT})
WAITS_FOR_CREDENTIAL = (WaitingReason.CREDENTIAL, WaitingReason.NO_CREDIT)


class MissingToken(Conflict):
    """Neither the team nor the installation has a Replicate token."""

    code = "missing_token"


class NoToken(NotFound):
    """There is nothing to remove."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What *Validate* answers; `error` is empty when the token is good. `trouble` says why Replicate was not reached, if it was not."""

    valid: bool
    error: str = ""
    trouble: Trouble | None = None
    account: dict[str, Any] = field(default_factory=dict)
    source: str = ""


def settings_of(team: Team) -> ProviderSettings:
    """The team's settings for the provider, with the defaults where it never saved any."""
    return ProviderSettings.objects.filter(team=team).first() or ProviderSettings(team=team)


def outbound(team: Team, *, patience_seconds: float | None = None) -> Outbound:
    """How a team's calls go out, to whomever: its own proxy, certificates and time-out, else the installation's.

    Where somebody waits for the answer, `patience_seconds` is the longest time-out.
    """
    own = settings_of(team)
    timeout = float(own.http_timeout or settings.OUTBOUND_TIMEOUT_SECONDS)
    return Outbound(
        proxy_url=own.proxy_url or None,
        ca_bundle=own.ssl_ca_bundle or settings.OUTBOUND_CA_BUNDLE,
        verify=own.ssl_verify,
        timeout_seconds=min(timeout, patience_seconds or timeout),
    )


def gateway(
    *,
    team: Team,
    credential: Credential,
    retries: Retries = UNHURRIED,
    patience_seconds: float | None = None,
    is_urgent: bool = False,
) -> Gateway:
    """A gateway that speaks with this credential and by the team's outbound settings; `patience_seconds` as there.

    A 401 or 402 to any of its calls is kept as the credential's health. While the credential's breaker is open its calls raise
    Unavailable, unless they are urgent: what somebody waits for, what saves money, and what ends a doubt.
    """
    return Gateway(
        base_url=address_of(credential),
        token=credential.reveal(),
        outbound=outbound(team, patience_seconds=patience_seconds),
        retries=retries,
        on_refusal=partial(note_refusal, credential),
        watch=_watcher(team, credential, is_urgent=is_urgent),
    )


def _watcher(team: Team, credential: Credential, *, is_urgent: bool) -> breakers.Watcher | None:
    """The breaker of a credential; none where a team goes its own way with the installation's, which must not close it for others."""
    if credential.team_id is None and _goes_its_own_way(settings_of(team)):
        return None
    return breakers.Watcher(credential, address=address_of(credential), is_urgent=is_urgent)


def _goes_its_own_way(own: ProviderSettings) -> bool:
    return bool(own.proxy_url or own.ssl_ca_bundle or own.http_timeout)


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


def save_token(caller: Caller, token: str, *, user: User | None = None) -> Validation:
    """Keep a Replicate token for the team, or for one person in it, replacing the one before, then ask Replicate about it.

    Raises InvalidInput for a token that cannot be one; nothing is saved then.
    """
    problem = credentials.problem_with_replicate_token(token)
    if problem:
        raise InvalidInput(problem, field="api_token", hint="Copy the token again from your account at Replicate.")
    with transaction.atomic():
        credential = credentials.save(
            team=caller.team, kind=CredentialKind.REPLICATE, secret=token, by=caller.user, caller=caller, user=user
        )
        audit.record(
            team=caller.team,
            caller=caller,
            event_type="token.saved",
            action=f"Saved a Replicate token of {user.username}'s own" if user else "Saved the team's Replicate token",
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
    with gateway(team=caller.team, credential=credential_for(caller), retries=AWAITED, is_urgent=True) as replicate:
        return replicate.versions(model)


def account_of(caller: Caller, credential: Credential) -> dict[str, str | None]:
    """Whose token this is: as we last heard, else as the provider says now; nulls where it cannot be asked."""
    if not credential.account_username:
        check(team=caller.team, credential=credential)
    return {"username": credential.account_username or None, "type": credential.account_type or None}


def validate(caller: Caller) -> Validation:
    """Say whether the token that a job of this caller would use is good, and whose it is."""
    return _validate(caller.team, caller.user)


def validate_teams(caller: Caller) -> Validation:
    """The same of the token that the team works with, whatever its people have of their own."""
    return _validate(caller.team, None)


def _validate(team: Team, user: User | None) -> Validation:
    credential = credentials.find(team=team, user=user, kind=CredentialKind.REPLICATE)
    return check(team=team, credential=credential) if credential else Validation(valid=False, error=NOT_SET)


def check(*, team: Team, credential: Credential) -> Validation:
    """Ask Replicate whose token this is, and keep what it says as the credential's health."""
    now = timezone.now()
    source = source_of(credential)
    try:
        with gateway(team=team, credential=credential, retries=AWAITED, is_urgent=True) as replicate:
            account = replicate.account()
    except Unauthorized:
        return Validation(
            valid=False, error="Replicate does not accept this token. It may have been disabled; make a new one there.", source=source
        )
    except ReplicateError as error:
        found = error.trouble if isinstance(error, Unavailable) else None
        return Validation(valid=False, error=f"Replicate could not be asked: {found or error}", trouble=found, source=source)
    credentials.mark(credential, health=CredentialHealth.GOOD, account=account, now=now)
    release(credential)
    return Validation(
        valid=True,
        account={"username": account.username, "name": account.name, "github_url": account.github_url, "type": account.type},
        source=source,
    )


def note_refusal(credential: Credential, error: Unauthorized | CreditExhausted) -> None:
    """Keep a 401 or 402 as the credential's health: from now on the jobs that would use it wait, and say why."""
    health, why = (
        (CredentialHealth.REFUSED, WaitingReason.CREDENTIAL)
        if isinstance(error, Unauthorized)
        else (CredentialHealth.NO_CREDIT, WaitingReason.NO_CREDIT)
    )
    if credentials.mark(credential, health=health, reason=str(error), now=timezone.now()):
        log.warning("credential.refused", team=credential.team.slug if credential.team else "", reason=str(error))
    Job.objects.filter(credential=credential, state=State.PENDING).exclude(waiting_reason=why).update(waiting_reason=why)


def release(credential: Credential) -> None:
    """Let the jobs go that waited for a good credential: this one, or the one in whose place it was saved."""
    theirs = Q(credential=credential) | Q(team=credential.team_id, team__isnull=False)
    waiting = Job.objects.filter(theirs, state__in=[State.PENDING, State.UPLOADING], waiting_reason__in=WAITS_FOR_CREDENTIAL)
    begun = list(waiting.filter(state=State.UPLOADING, prediction_id=None).values_list("pk", flat=True))
    Job.objects.filter(pk__in=begun).update(try_after=None)
    if begun or waiting.exists():
        transaction.on_commit(lambda: _ring(begun), robust=True)


def _ring(begun: list[int]) -> None:
    tasks.dispatch.delay()
    for pk in begun:
        tasks.launch.delay(job_pk=pk)


def note_acceptance(credential: Credential) -> None:
    """A token with which something was created is good again, and credit is there."""
    if credential.health in HELD_HEALTH:
        credentials.mark(credential, health=CredentialHealth.GOOD, now=timezone.now())
        release(credential)


def take_new_credential(job: Job) -> bool:
    """Give a job whose token the provider refuses the one that was saved in its place; say whether there was one.

    Only for a job of which no call is open: a prediction belongs to the account that was asked for it. And never another's,
    not even the team's for a person's or the installation's for a team's: they would pay for what they did not admit.
    """
    if job.credential.health not in HELD_HEALTH:
        return False
    found = credentials.find(team=job.team, user=job.submitted_by, kind=job.credential.kind)
    if found is None or found.pk == job.credential_id or found.health in HELD_HEALTH:
        return False
    if (found.team_id, found.user_id) != (job.credential.team_id, job.credential.user_id):
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
        with gateway(team=team, credential=credential, is_urgent=True) as replicate:
            newest = replicate.signing_secret()
    except ReplicateError as error:
        log.warning("signing_keys.unavailable", team=team.slug, reason=str(error))
        return keys
    keys = [newest, *(key for key in keys if key != newest)][:2]
    credential.signing_keys = "\n".join(keys)
    credential.signing_keys_fetched_at = now
    credential.save(update_fields=["signing_keys"])
    return keys


def known_version(trainer: Trainer, *, provider: str = Provider.REPLICATE, pinned: str = "") -> TrainerVersion | None:
    """The trainer's version as we last saw it, without asking anybody: the pinned one, else the newest."""
    seen = trainer.versions.filter(provider=provider)
    if pinned and provider == Provider.REPLICATE:
        return seen.filter(version=pinned).first()
    return seen.order_by("-fetched_at").first()


def current_version(replicate: Gateway, trainer: Trainer, *, provider: str = Provider.REPLICATE, pinned: str = "") -> TrainerVersion:
    """The version to run now, asked of the provider, with its input schema; kept in the catalogue. The sandbox knows no pinned ones."""
    is_pinned = bool(pinned) and provider == Provider.REPLICATE
    found: Version = replicate.version(trainer.model, pinned) if is_pinned else replicate.latest_version(trainer.model)
    row, _ = TrainerVersion.objects.update_or_create(
        trainer=trainer,
        provider=provider,
        version=found.id,
        defaults={"input_schema": found.input_schema, "published_at": found.created_at, "fetched_at": timezone.now()},
    )
    return row
