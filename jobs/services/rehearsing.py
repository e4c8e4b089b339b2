"""Rehearsals: jobs that train on our own sandbox while the others train at Replicate. They are free and go nowhere else.

Where the sandbox stands in for Replicate altogether (REPLICATE_BASE_URL names it), money counts and nothing is a rehearsal.
"""

import secrets
import string

import httpx
from django.conf import settings

from accounts import credentials
from accounts.callers import Caller
from accounts.errors import NotFound
from accounts.models import Credential, CredentialKind
from jobs.models import Job
from jobs.replicate.gateway import Unavailable

# As long as one of Replicate's own.
TOKEN_CHARACTERS = 37
INTRODUCTION_SECONDS = 10.0


def is_offered() -> bool:
    """Whether this installation has a sandbox beside the provider that costs money."""
    return bool(settings.SANDBOX_URL) and settings.SANDBOX_URL != settings.REPLICATE_BASE_URL


def require_offered() -> None:
    """Raises NotFound where no sandbox is set up."""
    if not is_offered():
        raise NotFound(
            "This server offers no rehearsals.",
            field="provider",
            hint="An administrator can set TUNEHOUSE_SANDBOX_URL.",
        )


def credential_for(caller: Caller) -> Credential:
    """The team's token at the sandbox; one that is not there yet is made when a job is admitted with it. A real one never goes there."""
    found = credentials.find(team=caller.team, user=caller.user, kind=CredentialKind.SANDBOX)
    return found or Credential(team=caller.team, kind=CredentialKind.SANDBOX)


def admitted(caller: Caller, credential: Credential) -> Credential:
    """The credential that a job is admitted with: for the team's first rehearsal, its token at the sandbox is made up now."""
    if credential.pk is not None:
        return credential
    token = "r8_" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(TOKEN_CHARACTERS))
    return credentials.save(team=caller.team, kind=CredentialKind.SANDBOX, secret=token, by=caller.user, caller=caller)


def introduce(job: Job) -> None:
    """Let the sandbox know the team's token; again and again it changes nothing. Raises Unavailable."""
    told = {"token": job.credential.reveal(), "account": f"rehearsal-{job.team.slug}"}
    try:
        answer = httpx.post(f"{settings.SANDBOX_URL}/control/tokens", json=told, timeout=INTRODUCTION_SECONDS, trust_env=False)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise Unavailable(f"The sandbox cannot be reached: {type(error).__name__}") from None
