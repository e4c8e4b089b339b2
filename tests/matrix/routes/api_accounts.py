"""Signing in, one's own account and API keys by API."""

from accounts.roles import Right
from tests.factories import PASSWORD
from tests.matrix.table import Case, Door, Route, also_at, delete, get, has, patch, post, put
from tests.matrix.world import Who

NEW_PASSWORD = {"current_password": PASSWORD, "new_password": "a much better staple"}
SOMEBODY = {"email": "me@example.com", "username": "me-too", "password": "a much better staple"}
EXTERNAL = ("/api/auth/external", "/api/cloud/external-auth")
NOT_OFFERED = (
    "providers",
    "providers/<name>",
    "providers/<name>/test",
    "oidc/start",
    "oidc/callback",
    "oidc/<name>/start",
    "oidc/<name>/callback",
    "ldap/login",
)
ANOTHERS = Case(name="another's key", at={"key_id": lambda side: side.colleague_token.pk}, may=has(Right.MANAGE), refused=404)


def is_narrow(who: Who) -> bool:
    """A token with the one scope that makes tokens."""
    return who.is_token and Right.SUBMIT not in who.rights


ROUTES: list[Route] = [
    get("/api/auth/setup/status", Door.OPEN),
    # Somebody is there already.
    post("/api/auth/setup/first-admin", Door.PROOF, json=SOMEBODY, answers=409),
    post("/api/auth/login", Door.PROOF, json={"username": "nobody", "password": "wrong"}, answers=401),
    post("/api/auth/logout", Door.OPEN, changes=False),
    get("/api/auth/check", Door.OPEN),
    post("/api/auth/register", Door.PROOF, json=SOMEBODY, answers=403),
    *also_at(
        ["/api/auth/change-password", "/api/users/me/password"],
        [post("", Door.ACCOUNT, json=NEW_PASSWORD), put("", Door.ACCOUNT, json=NEW_PASSWORD)],
    ),
    *also_at(
        ["/api/auth/api-keys", "/api/cloud/auth/api-keys"],
        [get("", Door.CALLER), post("", Right.TOKENS_OWN, json={"name": "new"})],
    ),
    *also_at(
        ["/api/auth/api-keys/<key_id>", "/api/cloud/auth/api-keys/<key_id>"],
        delete("", Right.TOKENS_OWN, others_need=Right.MANAGE, others_get=404, cases=[ANOTHERS]),
    ),
    *also_at(
        ["/api/auth/api-keys/<key_id>/rotate", "/api/cloud/auth/api-keys/<key_id>/rotate"],
        # The key has every scope, and no token gives another what it lacks itself.
        post(
            "",
            Right.TOKENS_OWN,
            answers=lambda who: 403 if is_narrow(who) else 200,
            changes=lambda who: not is_narrow(who),
            others_need=Right.MANAGE,
            others_get=404,
            cases=[ANOTHERS],
        ),
    ),
    *also_at([f"{base}/available" for base in EXTERNAL], get("", Door.OPEN)),
    *also_at(
        [f"{base}/{path}" for base in EXTERNAL for path in NOT_OFFERED],
        [method("", Door.PROOF, at={"name": "company"}, answers=501) for method in (get, post, patch, delete)],
    ),
    *also_at(["/api/users/me", "/api/auth/me"], get("", Door.PERSON)),
    get("/api/users/me/profile", Door.PERSON),
    patch("/api/users/me/profile", Door.ACCOUNT, json={"display_name": "New"}),
    *also_at(
        ["/api/users/me/avatar", "/api/users/me/avatar/upload"],
        [method("", Door.ACCOUNT, answers=501, changes=False) for method in (post, delete)],
    ),
]
