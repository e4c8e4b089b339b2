"""Training configs by API."""

from accounts.roles import Right
from jobs.trainingexamples import EXAMPLES
from tests.jobs.ready import CONFIG
from tests.matrix.table import Case, Route, also_at, delete, get, has, post, put

ONE = "/api/configs/<name>"
NAME = {"name": lambda side: side.config.name}
ANOTHERS = Case(name="another's config", at={"name": lambda side: side.colleague_config.name}, may=has(Right.CONFIGS_ALL))
OWN = {"others_need": Right.CONFIGS_ALL, "cases": [ANOTHERS]}
CHANGED = {"config": {**CONFIG, "lora_rank": 8}}

ROUTES: list[Route] = [
    get("/api/cloud/available-configs", Right.READ),
    get("/api/configs", Right.READ),
    post("/api/configs", Right.DATASETS, json={"name": "new", "config": CONFIG}, answers=201),
    post("/api/configs/validate", Right.READ, json={"config": CONFIG}, changes=False),
    get("/api/configs/active", Right.READ),
    *also_at(["/api/configs/templates", "/api/configs/examples"], get("", Right.READ)),
    post(
        "/api/configs/import",
        Right.DATASETS,
        json={"name": "new", "data": CONFIG},
        cases=[
            Case(
                name="another's config, overwritten",
                may=has(Right.CONFIGS_ALL),
                json=lambda side: {"name": side.colleague_config.name, "overwrite": True, "data": CHANGED["config"]},
            )
        ],
    ),
    post("/api/configs/from-template", Right.DATASETS, json={"template_name": EXAMPLES[0].name, "config_name": "new"}),
    get(ONE, Right.READ, at=NAME),
    put(ONE, Right.DATASETS, at=NAME, json=CHANGED, **OWN),
    delete(ONE, Right.DATASETS, at=NAME, **OWN),
    post(f"{ONE}/validate", Right.READ, at=NAME, changes=False),
    get(f"{ONE}/export", Right.READ, at=NAME),
    post(f"{ONE}/rename", Right.DATASETS, at=NAME, json={"new_name": "renamed"}, **OWN),
    post(f"{ONE}/copy", Right.DATASETS, at=NAME, json={"target_name": "copied"}),
    post(f"{ONE}/activate", Right.READ, at=NAME),
]
