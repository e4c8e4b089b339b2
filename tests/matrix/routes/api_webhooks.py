"""The inbox, the tests of its address, and the stream of events."""

from accounts.roles import Right
from tests.matrix.table import Door, Route, also_at, get, post

DELIVERIES = "/api/webhooks/deliveries"
PROVIDER = "/api/cloud/providers/<provider>"

HELD = {"delivery_id": lambda side: side.held_delivery.pk}

ROUTES: list[Route] = [
    # The signature is the login, and there is none.
    *also_at(
        ["/api/webhooks/replicate", "/api/cloud/webhooks/replicate"],
        post("", Door.PROOF, answers=401, json=lambda side: {"id": side.running.prediction_id, "status": "succeeded"}),
    ),
    *also_at(
        ["/api/webhooks/test", "/api/cloud/webhook/test"],
        post("", Right.MANAGE, json={"webhook_url": "http://127.0.0.1:9/"}),
    ),
    post(f"{PROVIDER}/test-webhook", Right.MANAGE),
    post(f"{PROVIDER}/test-webhook-external", Right.MANAGE),
    get(DELIVERIES, Right.MANAGE),
    get(f"{DELIVERIES}/<delivery_id>", Right.MANAGE),
    post(f"{DELIVERIES}/replay", Right.MANAGE, json={"state": "applied"}),
    post(f"{DELIVERIES}/<delivery_id>/replay", Right.MANAGE, json={}),
    post(f"{DELIVERIES}/<delivery_id>/release", Right.MANAGE, json={}, at=HELD),
    get("/api/webhooks/drift", Right.MANAGE),
    *also_at(["/api/events", "/api/events/stream"], get("", Right.READ)),
    get("/api/events/recent", Right.READ),
    get("/broadcast", Right.READ, query="timeout=0"),
]
