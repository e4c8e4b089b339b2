"""The stand-in for Replicate's status page, in both formats that its readers use; all is well here.

Source: incident.io's widget API and Atlassian Statuspage's summary format.
"""

from __future__ import annotations

from typing import Any

PAGE = "https://www.replicatestatus.com"


def widget() -> dict[str, Any]:
    return {
        "page_title": "Replicate",
        "page_url": PAGE,
        "ongoing_incidents": [],
        "in_progress_maintenances": [],
        "scheduled_maintenances": [],
    }


def summary() -> dict[str, Any]:
    return {
        "page": {"id": "sandbox", "name": "Replicate", "url": PAGE, "updated_at": "2026-01-01T00:00:00.000Z"},
        "status": {"indicator": "none", "description": "All Systems Operational"},
        "components": [{"id": "01SBX0COMP", "name": "HTTP API", "status": "operational"}],
        "incidents": [],
        "scheduled_maintenances": [],
    }
