"""What the provider's status page says, asked at most once a minute. It decides nothing: jobs go on without it.

Source: incident.io docs, "Widget API" (ongoing incidents, maintenances in progress and scheduled).
"""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import structlog
from django.conf import settings
from django.core.cache import cache

from jobs.replicate.gateway import Outbound, tls

log = structlog.get_logger(__name__)

KEPT_SECONDS = 60
# Somebody waits for the answer while we ask.
TIMEOUT_SECONDS = 5.0
MOST_BYTES = 1024 * 1024
LISTS = ("ongoing_incidents", "in_progress_maintenances", "scheduled_maintenances")


@dataclass(frozen=True, kw_only=True)
class ProviderStatus:
    """What the page said, or why it said nothing; `word` is operational, maintenance, degraded or unknown."""

    word: str
    url: str
    lists: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {name: [] for name in LISTS})
    error: str = ""


def read() -> ProviderStatus:
    """The provider's status as it was within the last minute; "unknown" with a reason where the page cannot be read."""
    url = settings.STATUS_PAGE_URL
    if not url:
        return ProviderStatus(word="unknown", url="", error="No status page is set (TUNEHOUSE_STATUS_PAGE_URL).")
    kept: ProviderStatus | None = cache.get(f"status-page:{url}")
    if kept is None:
        kept = _ask(url)
        cache.set(f"status-page:{url}", kept, KEPT_SECONDS)
    return kept


def _ask(url: str) -> ProviderStatus:
    try:
        return _understood(_fetched(url), url)
    except (OSError, ValueError, httpx.HTTPError, httpx.InvalidURL) as error:
        log.warning("status_page.unavailable", reason=f"{type(error).__name__} {error}"[:300])
        return ProviderStatus(word="unknown", url=url, error="The provider's status page cannot be read.")


def _fetched(url: str) -> Any:
    """The page's summary. Raises OSError, ValueError and httpx's errors."""
    with (
        httpx.Client(timeout=TIMEOUT_SECONDS, verify=tls(Outbound(ca_bundle=settings.OUTBOUND_CA_BUNDLE))) as http,
        http.stream("GET", f"{url}/api/v1/summary", headers={"Accept": "application/json"}) as response,
    ):
        response.raise_for_status()
        body = bytearray()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > MOST_BYTES:
                raise ValueError("the answer is longer than a status page's")
    return json.loads(body)


def _understood(said: Any, url: str) -> ProviderStatus:
    """Raises ValueError for an answer of another shape."""
    if not isinstance(said, dict):
        raise ValueError("the answer is no object")
    lists = {name: said.get(name, []) for name in LISTS}
    if not all(isinstance(items, list) and all(isinstance(item, dict) for item in items) for items in lists.values()):
        raise ValueError("the answer's lists are none")
    word = "operational"
    if lists["in_progress_maintenances"]:
        word = "maintenance"
    if lists["ongoing_incidents"]:
        word = "degraded"
    named = said.get("page_url")
    return ProviderStatus(word=word, url=named if isinstance(named, str) and named.startswith("https://") else url, lists=lists)
