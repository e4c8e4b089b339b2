"""Where a team's data goes and how long it stays there, and the team's word that it may.

The words are a statement with today's facts. Who agrees agrees to these: when a fact changes, the team is asked again.
"""

import hashlib
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from accounts import audit
from accounts.callers import Caller
from accounts.errors import InvalidInput
from accounts.models import Team
from accounts.roles import Right
from jobs.models import Consent, ProviderSettings
from jobs.models.catalogue import DataConsent
from jobs.services import provider

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Flow:
    """One row of the statement: what, where to, and how long it stays."""

    what: str
    goes_to: str
    stays: str


def statement(team: Team) -> list[Flow]:
    """What leaves this server for a job of the team, in the words of the language that is in use.

    Source: Replicate docs, topics/predictions/data-retention, and reference/http#files.create; SimpleTuner docs, cloud training,
    "Data flow".
    """
    host = urlsplit(settings.REPLICATE_BASE_URL).netloc
    bucket = provider.settings_of(team).s3_delivery.get("bucket")
    flows = [
        Flow(
            _("Images with their captions, when they travel as an archive (at most 100 MiB)"),
            _("File storage of Replicate (%(host)s)") % {"host": host},
            _("Deleted by us when the job ends, and by Replicate a day after the upload at the latest"),
        ),
        Flow(
            _("Images with their captions, when the trainer reads them from here"),
            _("The trainer's machine at Replicate"),
            _("Until the run ends; the key that opens them is revoked then"),
        ),
        Flow(
            _("The config with its prompts, and the log"),
            _("The prediction at Replicate (%(host)s)") % {"host": host},
            _("Removed by Replicate about an hour after the end; our copy of the log stays at least %(days)s days")
            % {"days": settings.LOG_RETENTION_DAYS},
        ),
        Flow(
            _("The result, when it is kept here"),
            _("This server, straight from the trainer"),
            _("Until the team removes it"),
        ),
        Flow(
            _("The result and a token for it, when the Hub is chosen"),
            _("Your repository at Hugging Face; the token is a secret input that Replicate does not show"),
            _("Until you remove it there"),
        ),
    ]
    if bucket:
        flows.append(
            Flow(
                _("The result and keys for it, when external S3 is chosen"),
                _("The team's bucket %(bucket)s") % {"bucket": bucket},
                _("Until you remove it there"),
            )
        )
    return flows


def fingerprint(team: Team) -> str:
    """SHA-256 of the statement as it reads today, in English whatever the reader's language."""
    with override("en"):
        rows = [[flow.what, flow.goes_to, flow.stays] for flow in statement(team)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def is_missing(team: Team) -> bool:
    """Whether somebody of the team must agree before its data is uploaded from a page."""
    if provider.settings_of(team).data_consent != DataConsent.ASK:
        return False
    return not team.consents.filter(statement_sha256=fingerprint(team), withdrawn_at=None).exists()


def give(caller: Caller) -> Consent:
    """Record that the caller agreed for the team to the statement as it reads now; a second time changes nothing."""
    caller.require(Right.SUBMIT)
    with transaction.atomic():
        given, is_new = Consent.objects.get_or_create(
            team=caller.team,
            statement_sha256=fingerprint(caller.team),
            withdrawn_at=None,
            defaults={"user": caller.user, "given_at": timezone.now()},
        )
        if is_new:
            audit.record(
                team=caller.team,
                caller=caller,
                event_type="data_consent.given",
                action="Agreed to where the team's data goes",
                target_type="consent",
                target_id=str(given.pk),
                after={"statement_sha256": given.statement_sha256},
            )
            log.info("consent.given", team=caller.team.slug, user=caller.user.username)
    return given


def choose(caller: Caller, mode: str) -> None:
    """Set whether the team's data may be uploaded: ask, allow or deny. Enforced at submit. Raises InvalidInput."""
    caller.require(Right.MANAGE, permission="admin.config")
    if mode not in DataConsent.values:
        raise InvalidInput(f"consent must be one of: {', '.join(DataConsent.values)}.", field="consent")
    with transaction.atomic():
        Team.objects.select_for_update(no_key=True).get(pk=caller.team.pk)
        own, _is_new = ProviderSettings.objects.get_or_create(team=caller.team)
        if own.data_consent == mode:
            return
        before, own.data_consent = own.data_consent, mode
        own.save(update_fields=["data_consent", "updated_at"])
        audit.record(
            team=caller.team,
            caller=caller,
            event_type="config.changed",
            action=f"Set the upload of the team's data to '{mode}'",
            target_type="provider",
            target_id="replicate",
            before={"data_consent": before},
            after={"data_consent": mode},
        )
    log.info("consent.chosen", team=caller.team.slug, mode=mode)
