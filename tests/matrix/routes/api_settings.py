"""Settings of a team's credentials, of making accounts, and a person's hints, by API."""

from accounts.roles import Right
from tests.matrix.table import Door, Route, get, post, put
from tests.matrix.world import is_staff

ROUTES: list[Route] = [
    get("/api/cloud/settings/credentials", Right.MANAGE),
    put("/api/cloud/settings/credentials", Right.MANAGE, json={"stale_threshold_days": 30}),
    get("/api/cloud/settings/registration", lambda who: is_staff(who) or Right.MANAGE in who.rights),
    put("/api/cloud/settings/registration", is_staff, json={"enabled": True}),
    get("/api/cloud/hints", Door.CALLER),
    get("/api/cloud/hints/status", Door.CALLER),
    post("/api/cloud/hints/dismiss/<name>", Door.CALLER, at={"name": "git"}),
    # Nobody dismissed it yet.
    post("/api/cloud/hints/show/<name>", Door.CALLER, at={"name": "git"}, changes=False),
]
