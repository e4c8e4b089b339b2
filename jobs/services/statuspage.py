"""What the provider's status page says, kept in a row that is read anew once a minute. It decides nothing: jobs go on without it.

Source: incident.io docs, "Widget API" (ongoing incidents, maintenances in progress and scheduled).
"""

import json
from datetime import datetime, timedelta
from typing import Any

import httpx
import structlog
from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from jobs.models import ProviderStatus
from jobs.models.status import LISTS, StatusWord, no_lists
from jobs.outbound import Outbound, Steps, Unusable, client, trouble
from jobs.replicate.predictions import storable

log = structlog.get_logger(__name__)

REFRESH_SECONDS = 60
# The bell rings once a minute, and a little early must not mean a minute late.
BELL_REST_SECONDS = 30
# After so long without a word nobody knows.
TOO_OLD = timedelta(minutes=5)
# Somebody may wait for the answer while we ask.
TIMEOUT_SECONDS = 5.0
MOST_BYTES = 1024 * 1024


def standing(*, now: datetime) -> ProviderStatus:
    """The provider's status as it was last read, without asking anybody; "unknown" with a reason where that is too long ago."""
    url = settings.STATUS_PAGE_URL
    if not url:
        return ProviderStatus(error="No status page is set (TUNEHOUSE_STATUS_PAGE_URL).")
    row = ProviderStatus.objects.filter(source=url).first() or ProviderStatus(source=url, page_url=url)
    if row.read_at is None:
        return ProviderStatus(source=url, page_url=url, error="The provider's status page has not been read yet.")
    if now - row.read_at > TOO_OLD:
        error = f"The provider's status page was last read at {row.read_at:%Y-%m-%d %H:%M} UTC."
        return ProviderStatus(source=url, page_url=row.page_url, read_at=row.read_at, error=error)
    return row


def read() -> ProviderStatus:
    """The status as it was within the last minute. Only one caller at a time asks for it, the others get what is known."""
    refresh(rest_seconds=REFRESH_SECONDS)
    return standing(now=timezone.now())


def refresh(*, rest_seconds: float = BELL_REST_SECONDS) -> bool:
    """Read the page anew unless somebody began to within the last `rest_seconds`; say whether we did."""
    url, now = settings.STATUS_PAGE_URL, timezone.now()
    if not url:
        return False
    row, _ = ProviderStatus.objects.get_or_create(source=url, defaults={"page_url": url})
    rested = Q(asked_at=None) | Q(asked_at__lte=now - timedelta(seconds=rest_seconds))
    if not ProviderStatus.objects.filter(rested, pk=row.pk).update(asked_at=now):
        return False
    found = _ask(url)
    # One who took so long that another asked meanwhile has old news.
    ProviderStatus.objects.filter(pk=row.pk, asked_at=now).update(read_at=timezone.now(), **found)
    return True


def _ask(url: str) -> dict[str, Any]:
    """The fields of the row as the page says now."""
    steps = Steps(url)
    try:
        return _understood(_fetched(url, steps), url)
    except httpx.HTTPStatusError as error:
        reason = f"it answered {error.response.status_code}"
    except httpx.HTTPError as error:
        reason = str(trouble(error, steps))
    except (ValueError, RecursionError, Unusable) as error:
        reason = str(error)
    log.warning("status_page.unavailable", reason=reason[:300])
    sentence = f"The provider's status page cannot be read: {reason}"
    return {"word": StatusWord.UNKNOWN, "page_url": url, "lists": no_lists(), "error": sentence[:300]}


def _fetched(url: str, steps: Steps) -> Any:
    """The page's summary. Raises ValueError, Unusable and httpx's errors."""
    outbound = Outbound(ca_bundle=settings.OUTBOUND_CA_BUNDLE, timeout_seconds=TIMEOUT_SECONDS)
    with (
        client(outbound, headers={"Accept": "application/json"}) as http,
        http.stream("GET", f"{url}/api/v1/summary", extensions={"trace": steps}) as response,
    ):
        response.raise_for_status()
        body = bytearray()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > MOST_BYTES:
                raise ValueError("the answer is longer than a status page's")
    return json.loads(body)


def _understood(said: Any, url: str) -> dict[str, Any]:
    """Raises ValueError for an answer of another shape."""
    if not isinstance(said, dict):
        raise ValueError("the answer is no object")
    lists = {name: said.get(name, []) for name in LISTS}
    if not all(isinstance(items, list) and all(isinstance(item, dict) for item in items) for items in lists.values()):
        raise ValueError("the answer's lists are none")
    word = StatusWord.OPERATIONAL
    if lists["in_progress_maintenances"]:
        word = StatusWord.MAINTENANCE
    if lists["ongoing_incidents"]:
        word = StatusWord.DEGRADED
    named = said.get("page_url")
    page_url = named if isinstance(named, str) and named.startswith("https://") and len(named) <= 500 else url
    return {"word": word, "page_url": page_url, "lists": storable(lists), "error": ""}
