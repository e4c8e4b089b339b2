"""Pushes new lines of the audit trail to where a team or the platform keeps them too, in order, each at least once.

The cursor moves when the receiver has said 2xx, and never back. A receiver that fails is asked again after a while, longer
each time; meanwhile nothing is skipped. A line that a retention cut removed before it could be pushed is gone.
"""

import json
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import structlog
from django.conf import settings
from django.db.models import F, Q
from django.utils import timezone

from accounts import events, exports, trail
from accounts.addresses import private_address_of, problem_with_public_url
from accounts.models import AuditFormat, AuditForwarding, AuditLine
from jobs.outbound import Outbound, Steps, Unusable, public_client, trouble

log = structlog.get_logger(__name__)

BATCH = 500
# One call of the bell pushes so many batches of a chain at most; the next goes on.
BATCHES = 20
LEASE = timedelta(minutes=10)
TIMEOUT_SECONDS = 20.0
LONGEST_WAIT = timedelta(hours=1)


class NotTaken(Exception):
    """The receiver did not take the lines; says why."""


def push_due() -> int:
    """Push what is new of every chain that is to be pushed; says how many lines arrived."""
    now = timezone.now()
    due = AuditForwarding.objects.exclude(webhook_url="").filter(Q(try_after=None) | Q(try_after__lte=now))
    return sum(push(forwarding) for forwarding in due.select_related("team"))


def push(forwarding: AuditForwarding) -> int:
    """Push what is new of one chain, unless another worker does; says how many lines arrived."""
    now = timezone.now()
    mine = AuditForwarding.objects.filter(pk=forwarding.pk)
    free = mine.filter(Q(claimed_until=None) | Q(claimed_until__lte=now))
    if not free.update(claimed_until=now + LEASE):
        return 0
    forwarding.refresh_from_db()
    pushed = 0
    try:
        for _ in range(BATCHES):
            lines = _next_lines(forwarding)
            if not lines or timezone.now() > now + LEASE / 2:
                break
            chosen = [line for line in lines if not forwarding.security_only or line.event_type in events.SECURITY]
            if chosen:
                _send(forwarding, chosen)
            if not _move_cursor(forwarding, lines[-1].sequence):
                break
            pushed += len(chosen)
    except NotTaken as reason:
        _note_failure(forwarding, str(reason))
    finally:
        mine.update(claimed_until=None)
    return pushed


def _next_lines(forwarding: AuditForwarding) -> list[AuditLine]:
    lines = AuditLine.objects.filter(team=forwarding.team, sequence__gt=forwarding.sent_sequence)
    return list(lines.order_by("sequence")[:BATCH])


def _move_cursor(forwarding: AuditForwarding, sequence: int) -> bool:
    """Keep how far it came, and say whether the settings are still those that we pushed by."""
    kept = AuditForwarding.objects.filter(pk=forwarding.pk, sent_sequence=forwarding.sent_sequence, webhook_url=forwarding.webhook_url)
    moved = kept.update(sent_sequence=sequence, sent_at=timezone.now(), failures=0, last_error="", try_after=None)
    forwarding.sent_sequence = sequence
    return bool(moved)


def _send(forwarding: AuditForwarding, lines: list[AuditLine]) -> None:
    """Raises NotTaken for everything but a 2xx. Redirects are not followed: they would lead past the address rule."""
    body, content_type = _body(forwarding, lines)
    headers = {"Content-Type": content_type}
    if forwarding.auth_token:
        headers["Authorization"] = f"Bearer {forwarding.auth_token}"
    if problem := problem_with_public_url(forwarding.webhook_url) or _problem_with_host(forwarding.webhook_url):
        raise NotTaken(problem)
    way, steps = Outbound(ca_bundle=settings.OUTBOUND_CA_BUNDLE, timeout_seconds=TIMEOUT_SECONDS), Steps(forwarding.webhook_url)
    try:
        with (
            public_client(way, forwarding.webhook_url, headers=headers) as http,
            # What is answered beyond the status is nobody's business, however long it is.
            http.stream("POST", forwarding.webhook_url, content=body, extensions={"trace": steps}) as response,
        ):
            status = response.status_code
    except (Unusable, httpx.InvalidURL) as error:
        raise NotTaken(str(error)) from None
    except httpx.HTTPError as error:
        raise NotTaken(f"The receiver cannot be reached: {trouble(error, steps)}") from None
    if not 200 <= status < 300:
        raise NotTaken(f"The receiver answered {status}.")


def _body(forwarding: AuditForwarding, lines: list[AuditLine]) -> tuple[bytes, str]:
    """The lines as an export has them, with all that their hashes cover."""
    records = [exports.line_record(line.as_link()) for line in lines]
    if forwarding.format == AuditFormat.CSV:
        return b"".join(exports.write(records, "csv")), exports.CONTENT_TYPES["csv"]
    told = {"chain": trail.name_of(forwarding.team), "entries": records}
    return json.dumps(told, ensure_ascii=False).encode(), "application/json"


def _problem_with_host(url: str) -> str:
    """What is wrong with where a name leads today, whatever it looked like when it was saved; "" if nothing is known."""
    return f"{urlsplit(url).hostname} leads to a private host." if private_address_of(url) else ""


def _note_failure(forwarding: AuditForwarding, reason: str) -> None:
    wait = min(LONGEST_WAIT, timedelta(minutes=2 ** min(forwarding.failures, 10)))
    AuditForwarding.objects.filter(pk=forwarding.pk, webhook_url=forwarding.webhook_url).update(
        failures=F("failures") + 1, last_error=reason[:300], try_after=timezone.now() + wait
    )
    log.warning("audit.not_pushed", team=forwarding.team.slug if forwarding.team else "", reason=reason)
