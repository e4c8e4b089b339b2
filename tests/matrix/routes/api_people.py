"""People, levels, the organization and its teams by API: an owner looks after the team, the platform's staff after everybody."""

from typing import Any

from accounts.roles import Right, Role
from tests.matrix.table import Door, Route, Staff, also_at, delete, get, patch, post, put
from tests.matrix.world import NEWCOMER, is_staff

ONE = "/api/users/<user_id>"
ORG = "/api/orgs/<org>"
TEAM = f"{ORG}/teams/<team>"
OVERSEEN: dict[str, Any] = {"needs": Right.MANAGE, "staff": Staff.ANYWHERE}
IN_A_TEAM: dict[str, Any] = {"needs": Right.MANAGE, "staff": Staff.IN_A_TEAM}
FOR_STAFF: dict[str, Any] = {"needs": is_staff, "staff": Staff.ANYWHERE}
RESEARCHER = {"user_id": lambda side: side.members[Role.RESEARCHER].user.pk}
PERSON = {"email": "new@example.com", "username": "new-one", "password": "a much better staple"}

ROUTES: list[Route] = [
    get("/api/users/meta/auth-status", Door.OPEN),
    *also_at(
        ["/api/users/meta/levels", "/api/users/levels"],
        [get("", **OVERSEEN), post("", json={"name": "new"}, answers=501, changes=False, **OVERSEEN)],
    ),
    get("/api/users/meta/permissions", **OVERSEEN),
    get("/api/users/levels/<level_id>", **OVERSEEN),
    put("/api/users/levels/<level_id>", answers=422, changes=False, **OVERSEEN),
    delete("/api/users/levels/<level_id>", answers=422, changes=False, **OVERSEEN),
    put("/api/users/levels/<level_id>/permissions", answers=422, changes=False, **OVERSEEN),
    get("/api/users", **OVERSEEN),
    post("/api/users", json=PERSON, answers=201, **OVERSEEN),
    get(ONE, **OVERSEEN),
    patch(ONE, json={"display_name": "New"}, **OVERSEEN),
    delete(ONE, **OVERSEEN),
    post(f"{ONE}/deactivate", **OVERSEEN),
    # They are active.
    post(f"{ONE}/activate", changes=False, **OVERSEEN),
    post(f"{ONE}/levels", json={"level_name": "lead"}, **IN_A_TEAM),
    delete(f"{ONE}/levels/<name>", at={**RESEARCHER, "name": "researcher"}, **IN_A_TEAM),
    post(f"{ONE}/permissions", json={"permission_name": "job.submit"}, answers=501, changes=False, **OVERSEEN),
    delete(f"{ONE}/permissions/<name>", at={"name": "job.submit"}, answers=501, changes=False, **OVERSEEN),
    get("/api/orgs", Door.PERSON),
    post("/api/orgs", Door.PERSON, json={"name": "new"}, answers=422, changes=False),
    get(ORG, Door.PERSON),
    patch(ORG, json={"name": "Renamed"}, **FOR_STAFF),
    delete(ORG, Door.PERSON, answers=409, changes=False),
    get(f"{ORG}/members", Door.PERSON),
    post(f"{ORG}/members/<user_id>", changes=False, **OVERSEEN),
    delete(f"{ORG}/members/<user_id>", answers=422, changes=False, **OVERSEEN),
    get(f"{ORG}/teams", Door.PERSON),
    post(f"{ORG}/teams", json={"name": "New"}, **FOR_STAFF),
    get(TEAM, Door.PERSON, staff=Staff.ANYWHERE),
    patch(TEAM, json={"name": "Renamed"}, **OVERSEEN),
    delete(TEAM, **FOR_STAFF),
    get(f"{TEAM}/members", Door.PERSON, staff=Staff.ANYWHERE),
    post(f"{TEAM}/members", json={"email": NEWCOMER}, **OVERSEEN),
    patch(f"{TEAM}/members/<user_id>", json={"role": "lead"}, **OVERSEEN),
    delete(f"{TEAM}/members/<user_id>", **OVERSEEN),
]
