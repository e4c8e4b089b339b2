"""The team's way to the Hugging Face Hub: its token, and what the Hub says of it."""

from django.conf import settings
from django.utils import timezone

from accounts import credentials
from accounts.callers import Caller
from accounts.models import Credential, CredentialHealth, CredentialKind, Team, User
from jobs.destinations.errors import BadKey, DestinationError
from jobs.destinations.hub import Hub
from jobs.services import provider
from jobs.services.provider import Validation

NOT_SET = "HF_TOKEN not set"
READ_ONLY = "The token may only read: nothing can be pushed with it. Make one there that may write."
# Somebody waits for the answer.
PATIENCE_SECONDS = 10.0


def save_token(caller: Caller, token: str, *, user: User | None = None) -> Validation:
    """Keep a Hugging Face token for the team, or for one person in it, replacing the one before, then ask the Hub about it.

    Raises InvalidInput for a token that cannot be one; nothing is saved then.
    """
    kept = credentials.save(team=caller.team, kind=CredentialKind.HUGGINGFACE, secret=token, by=caller.user, caller=caller, user=user)
    return check(team=caller.team, credential=kept)


def validate(caller: Caller) -> Validation:
    """Say whether the token that a job of this caller would push with is good, and whose it is."""
    found = credentials.find(team=caller.team, user=caller.user, kind=CredentialKind.HUGGINGFACE)
    return check(team=caller.team, credential=found) if found else Validation(valid=False, error=NOT_SET)


def check(*, team: Team, credential: Credential) -> Validation:
    """Ask the Hub whose token this is, and keep what it says as the credential's health.

    One that may only read is good, for models that ask for a token, and no use for results; its reason says so.
    """
    now = timezone.now()
    source = provider.source_of(credential)
    outbound = provider.outbound(team, patience_seconds=PATIENCE_SECONDS)
    try:
        with Hub(endpoint=settings.HF_ENDPOINT, token=credential.reveal(), outbound=outbound) as hub:
            account = hub.account()
    except BadKey:
        credentials.mark(credential, health=CredentialHealth.REFUSED, reason="The Hub does not accept this token.", now=now)
        return Validation(
            valid=False, error="The Hub does not accept this token. It may have been revoked; make a new one there.", source=source
        )
    except DestinationError as error:
        return Validation(valid=False, error=f"The Hub could not be asked: {error}", source=source)
    credentials.mark(credential, health=CredentialHealth.GOOD, reason="" if account.may_write else READ_ONLY, account=account, now=now)
    return Validation(
        valid=account.may_write,
        error="" if account.may_write else READ_ONLY,
        account={"username": account.username, "type": account.type},
        source=source,
    )
