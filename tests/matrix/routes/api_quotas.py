"""Quotas by API: leads see them, owners set the team's, the platform's staff those of the platform, and everybody sees their own."""

from typing import Any

from accounts.roles import Right, Role
from tests.matrix.table import Case, Door, Route, Staff, delete, get, post
from tests.matrix.world import is_staff

ORG = "/api/orgs/<org>"
SEEN: dict[str, Any] = {"needs": Right.SPEND, "staff": Staff.ANYWHERE}
SET: dict[str, Any] = {"needs": Right.MANAGE, "staff": Staff.ANYWHERE}
QUOTA = {"quota_type": "jobs_per_day", "limit_value": 5}
RESEARCHER: dict[str, Any] = {"user_id": lambda side: side.members[Role.RESEARCHER].user.pk}


ROUTES: list[Route] = [
    get("/api/quotas", **SEEN),
    post(
        "/api/quotas",
        json=QUOTA,
        **SET,
        cases=[Case(name="for the platform", may=is_staff, json={**QUOTA, "org_id": 1})],
    ),
    get("/api/quotas/types", Door.CALLER),
    get("/api/quotas/status", Door.CALLER),
    get("/api/quotas/me", Door.CALLER),
    get("/api/quotas/user/<user_id>", Right.SPEND, at=RESEARCHER, staff=Staff.IN_A_TEAM),
    post("/api/quotas/cost-estimate", Door.CALLER, query="estimated_cost=5", changes=False),
    get("/api/quotas/<quota_id>", **SEEN),
    delete("/api/quotas/<quota_id>", **SET),
    get(f"{ORG}/quotas", Door.PERSON),
    post(f"{ORG}/quotas", is_staff, json=QUOTA, staff=Staff.ANYWHERE),
    get(f"{ORG}/teams/<team>/quotas", Door.PERSON, staff=Staff.ANYWHERE),
    post(f"{ORG}/teams/<team>/quotas", json=QUOTA, **SET),
]
