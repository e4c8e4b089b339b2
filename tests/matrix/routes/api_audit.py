"""The audit trail of a team by API. The platform's own chain is for staff, who name it: tests/accounts/test_api_audit.py."""

from accounts.roles import Right
from tests.matrix.table import Route, also_at, get, post

ROUTES: list[Route] = [
    *also_at(
        [
            "/api/audit",
            "/api/audit/stats",
            "/api/audit/types",
            "/api/audit/verify",
            "/api/audit/security",
            "/api/audit/export",
            "/api/audit/export-config",
        ],
        get("", Right.AUDIT),
    ),
    get("/api/audit/user/<user_id>", Right.AUDIT),
    post("/api/audit/export-config", Right.MANAGE, json={"security_only": True}),
]
