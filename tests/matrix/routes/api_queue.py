"""The queue by API: everybody in the team sees it, leads steer it, owners set its numbers, staff those of the platform."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from accounts.roles import Right
from tests.matrix.table import Route, Staff, get, post, put

QUEUE = "/api/queue"
WAITING = {"job_id": lambda side: side.jobs["waiting"].job_id}
STAFF: dict[str, Any] = {"staff": Staff.ANYWHERE}
OWN: dict[str, Any] = {"at": WAITING, "others_need": Right.CANCEL_ALL}


def tomorrow(_side):
    return {"not_before": (timezone.now() + timedelta(days=1)).isoformat(timespec="minutes")}


def submitted(side):
    return {"config_name": side.config.name}


ROUTES: list[Route] = [
    get(QUEUE, Right.READ),
    get(f"{QUEUE}/stats", Right.READ),
    get(f"{QUEUE}/me", Right.READ),
    get(f"{QUEUE}/user/<user_id>", Right.READ, staff=Staff.IN_A_TEAM),
    get(f"{QUEUE}/position/<job_id>", Right.READ, at=WAITING),
    get(f"{QUEUE}/concurrency", Right.READ, **STAFF),
    post(f"{QUEUE}/concurrency", Right.MANAGE, json={"team_max_concurrent": 4}, **STAFF),
    get(f"{QUEUE}/mode", Right.READ, **STAFF),
    post(f"{QUEUE}/mode", Right.QUEUE, json={"mode": "paused"}, **STAFF),
    post(f"{QUEUE}/process", Right.MANAGE),
    # No job of theirs has been over for so long.
    post(f"{QUEUE}/cleanup", Right.MANAGE, changes=False),
    post(f"{QUEUE}/submit", Right.SUBMIT, json=submitted, foreign=404),
    get(f"{QUEUE}/polling/status", Right.READ),
    put(f"{QUEUE}/polling/setting", Right.MANAGE, query="enabled=true", changes=False),
    post(f"{QUEUE}/<job_id>/cancel", Right.CANCEL_OWN, **OWN),
    post(f"{QUEUE}/<job_id>/priority", Right.QUEUE, json={"priority": 45}, at=WAITING),
    post(f"{QUEUE}/<job_id>/not-before", Right.CANCEL_OWN, json=tomorrow, **OWN),
]
