"""What there is to train on, what it costs, and where data and results go, by API."""

from accounts.roles import Right
from tests.matrix.table import Case, Door, Route, also_at, get, nobody, post, put
from tests.matrix.world import OTHER_MARK

ROUTES: list[Route] = [
    get("/api/cloud/providers", Door.CALLER),
    get("/api/cloud/hardware-options", Door.CALLER),
    post("/api/cloud/cost-estimate", Right.SUBMIT, json=lambda side: {"dataset": str(side.version)}, changes=False, foreign=404),
    *also_at(
        [
            "/api/cloud/cost-limit/status",
            "/api/cloud/metrics/cost-limit",
            "/api/cloud/metrics/cost-limit-status",
            "/api/metrics/cost-limit/status",
        ],
        get("", Door.CALLER),
    ),
    get("/api/cloud/spend", Door.CALLER),
    *also_at(["/api/cloud/metrics", "/api/metrics"], get("", Door.CALLER)),
    *also_at(["/api/cloud/billing/refresh", "/api/metrics/billing/refresh"], post("", Door.CALLER, changes=False)),
    get("/api/metrics/status", Door.CALLER),
    get("/api/metrics/costs", Door.CALLER),
    get("/api/metrics/usage", Door.CALLER),
    *also_at(["/api/cloud/circuit-breakers", "/api/metrics/circuit-breakers"], get("", Door.CALLER)),
    get("/api/cloud/data-consent/setting", Door.CALLER),
    put("/api/cloud/data-consent/setting", Right.MANAGE, json={"consent": "deny"}),
    post(
        "/api/cloud/data-consent/preview",
        Right.SUBMIT,
        json=lambda side: {"dataset": str(side.version)},
        changes=False,
        foreign=404,
        cases=[Case(name="a foreign team's dataset", may=nobody, refused=404, json={"dataset": f"{OTHER_MARK}-houses"})],
    ),
    get("/api/cloud/publishing/status", Door.CALLER),
    get("/api/cloud/publishing-status", Door.CALLER),
    post("/api/cloud/publishing/enable-recommended", Right.DATASETS),
    get("/api/cloud/local-upload/config", Right.SUBMIT),
]
