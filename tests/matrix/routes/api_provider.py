"""A team's provider by API: its settings, its token, its versions, its state."""

from accounts.roles import Right
from tests.matrix.table import Door, Route, also_at, delete, get, patch, post, put

ONE = "/api/cloud/providers/<provider>"
SETTING = {"webhook_rate_limit_max": 7}

ROUTES: list[Route] = [
    *also_at(
        [ONE, f"{ONE}/config"],
        [get("", Door.CALLER), put("", Right.MANAGE, json=SETTING), patch("", Right.MANAGE, json=SETTING)],
    ),
    get(f"{ONE}/advanced", Right.MANAGE),
    patch(f"{ONE}/advanced", Right.MANAGE, json={"http_timeout": 12}),
    put(f"{ONE}/token", Right.MANAGE, json={"api_token": "r8_" + "n" * 37}),
    delete(f"{ONE}/token", Right.MANAGE),
    post(
        f"{ONE}/test-s3",
        Right.MANAGE,
        changes=False,
        json={"bucket": "results", "access_key_id": "a" * 16, "secret_access_key": "s" * 16, "endpoint_url": "http://127.0.0.1:9"},
    ),
    *also_at([f"{ONE}/validate", "/api/cloud/<provider>/validate"], get("", Door.CALLER)),
    get(f"{ONE}/versions", Door.CALLER),
    get(f"{ONE}/billing", Door.CALLER),
    get("/api/cloud/polling/status", Door.CALLER),
    put("/api/cloud/polling/setting", Right.MANAGE, json={"enabled": True}, changes=False),
    *also_at(["/api/cloud/system-status", "/api/cloud/replicate/status", "/api/metrics/replicate/status"], get("", Door.CALLER)),
]
