"""The stand-in for Replicate's status page, in both formats that its readers use.

Source: incident.io's widget API and Atlassian Statuspage's summary format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PAGE = "https://www.replicatestatus.com"
MOMENT = "2026-01-01T00:00:00.000Z"
LATER = "2026-01-01T02:00:00.000Z"
COMPONENT = {"id": "01SBX0COMP", "name": "HTTP API"}
NAMES = {"degraded_performance": "Slow cold boots", "partial_outage": "Some predictions fail to start", "full_outage": "API unavailable"}
# incident.io's words for how bad it is, in Statuspage's.
INDICATORS = {"degraded_performance": "minor", "partial_outage": "major", "full_outage": "critical"}
DESCRIPTIONS = {
    "none": "All Systems Operational",
    "minor": "Minor Service Outage",
    "major": "Partial System Outage",
    "critical": "Major Service Outage",
}


@dataclass(frozen=True)
class Status:
    """What the page tells of: the impact of an incident, and whether maintenance is `scheduled` or `in_progress`."""

    incident: str | None = None
    maintenance: str | None = None

    def widget(self) -> dict[str, Any]:
        """Show the page as incident.io's widget does."""
        return {
            "page_title": "Replicate",
            "page_url": PAGE,
            "ongoing_incidents": [self._ongoing()] if self.incident else [],
            "in_progress_maintenances": [self._in_progress()] if self.maintenance == "in_progress" else [],
            "scheduled_maintenances": [self._scheduled()] if self.maintenance == "scheduled" else [],
        }

    def _ongoing(self) -> dict[str, Any]:
        affected = {**COMPONENT, "group_name": "API", "current_status": self.incident}
        return {
            "id": "01SBX0INCIDENT",
            "name": NAMES[str(self.incident)],
            "status": "investigating",
            "url": f"{PAGE}/incidents/01SBX0INCIDENT",
            "last_update_at": MOMENT,
            "last_update_message": "We are looking into it.",
            "current_worst_impact": self.incident,
            "affected_components": [affected],
        }

    @staticmethod
    def _maintenance(status: str) -> dict[str, Any]:
        return {
            "id": "01SBX0MAINTENANCE",
            "name": "Database maintenance",
            "status": status,
            "url": f"{PAGE}/maintenances/01SBX0MAINTENANCE",
            "last_update_at": MOMENT,
            "last_update_message": "Predictions may start late.",
            "affected_components": [{**COMPONENT, "group_name": "API", "current_status": "operational"}],
        }

    def _in_progress(self) -> dict[str, Any]:
        return {**self._maintenance("maintenance_in_progress"), "started_at": MOMENT, "scheduled_end_at": LATER}

    def _scheduled(self) -> dict[str, Any]:
        return {**self._maintenance("maintenance_scheduled"), "starts_at": MOMENT, "ends_at": LATER}

    def summary(self) -> dict[str, Any]:
        """Show the page as Statuspage's summary does."""
        indicator = INDICATORS.get(str(self.incident), "none")
        return {
            "page": {"id": "sandbox", "name": "Replicate", "url": PAGE, "updated_at": MOMENT},
            "status": {"indicator": indicator, "description": DESCRIPTIONS[indicator]},
            "components": [{**COMPONENT, "status": self.incident or "operational"}],
            "incidents": [self._incident(indicator)] if self.incident else [],
            "scheduled_maintenances": [self._planned()] if self.maintenance else [],
        }

    def _incident(self, indicator: str) -> dict[str, Any]:
        return {
            "id": "01SBX0INCIDENT",
            "name": NAMES[str(self.incident)],
            "status": "investigating",
            "impact": indicator,
            "created_at": MOMENT,
            "updated_at": MOMENT,
            "incident_updates": [],
        }

    def _planned(self) -> dict[str, Any]:
        return {
            "id": "01SBX0MAINTENANCE",
            "name": "Database maintenance",
            "status": str(self.maintenance),
            "impact": "maintenance",
            "scheduled_for": MOMENT,
            "scheduled_until": LATER,
            "incident_updates": [],
        }
