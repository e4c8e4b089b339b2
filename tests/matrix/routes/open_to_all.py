"""What needs no sign-in, or no team."""

from tests.matrix.table import Door, Route, also_at, get, post

INVITE = {"secret": lambda side: f"{side.mark}-secret"}

ROUTES: list[Route] = [
    get("/", Door.SIGNED_IN, answers=lambda who: 302 if who.is_known else 200),
    # Kept in the browser, and with whoever is signed in.
    post("/language/", Door.OPEN, form={"language": "es"}, answers=302, changes=lambda who: who.is_signed_in),
    # It only goes back to where somebody came from.
    get("/language/", Door.OPEN, answers=302),
    # Gone once there is somebody.
    get("/setup/", Door.PROOF, answers=404),
    post("/setup/", Door.PROOF, answers=404, form={"email": "me@example.com", "username": "me", "team_name": "Mine"}),
    # Whoever has the link of an invite may look at it; nobody here is who it is for, and the form is sent empty.
    get("/invites/<secret>/", Door.OPEN, at=INVITE),
    post("/invites/<secret>/", Door.PROOF, at=INVITE, form={}, answers=200),
    *also_at(["/api/schema", "/api/docs", "/health", "/api/cloud/health"], get("", Door.OPEN)),
    *also_at([f"/api/{place}/health/{word}" for place in ("cloud", "metrics") for word in ("live", "ready")], get("", Door.OPEN)),
]
