"""People's own credentials in a team, and a team's resource rules, by API."""

from accounts.roles import Right
from tests.matrix.table import Door, Route, delete, get, post, put

MINE = "/api/users/me/credentials"
THEIRS = "/api/users/<user_id>/credentials"
NEW = {"provider": "replicate", "credential_name": "new", "value": "r8_" + "n" * 37}
RULE = "/api/users/resource-rules/<rule_id>"
LEVEL = "/api/users/levels/<level_id>/rules"

ROUTES: list[Route] = [
    get(MINE, Door.CALLER),
    post(MINE, Right.TOKENS_OWN, json=NEW),
    post(f"{MINE}/rotate", Right.TOKENS_OWN),
    post(f"{MINE}/validate", Door.CALLER),
    delete(f"{MINE}/<provider>/<name>", Right.TOKENS_OWN, at={"name": "own"}),
    get(THEIRS, Right.MANAGE),
    post(THEIRS, Right.MANAGE, json=NEW),
    post(f"{THEIRS}/rotate", Right.MANAGE),
    get(f"{THEIRS}/stale", Right.MANAGE),
    delete(f"{THEIRS}/<provider>/<name>", Right.MANAGE, at={"name": "own"}),
    post("/api/users/credentials/check-stale", Right.MANAGE, changes=False),
    get("/api/users/resource-rules", Right.MANAGE),
    post("/api/users/resource-rules", Right.MANAGE, json={"name": "new", "resource_type": "config", "pattern": "*"}, answers=201),
    get(RULE, Right.MANAGE),
    put(RULE, Right.MANAGE, json={"name": "renamed"}),
    delete(RULE, Right.MANAGE),
    get(LEVEL, Right.MANAGE),
    put(LEVEL, Right.MANAGE, json={"rule_ids": []}),
    # Leads have it already, and viewers do not.
    post(f"{LEVEL}/<rule_id>", Right.MANAGE, at={"level_id": "1"}),
    delete(f"{LEVEL}/<rule_id>", Right.MANAGE),
]
