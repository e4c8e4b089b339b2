"""The pages of training configs."""

import json

from accounts.roles import Right
from tests.jobs.ready import CONFIG
from tests.matrix.table import Case, Route, get, has, page, post

ONE = "/t/<team>/configs/<config_id>"
ANOTHERS = Case(name="another's config", at={"config_id": lambda side: side.colleague_config.pk}, may=has(Right.CONFIGS_ALL))
OWN = {"others_need": Right.CONFIGS_ALL, "cases": [ANOTHERS]}
FORM = {"name": "new", "config": json.dumps({**CONFIG, "lora_rank": 8})}

ROUTES: list[Route] = [
    get("/t/<team>/configs/", Right.READ),
    *page("/t/<team>/configs/new/", Right.DATASETS, form=FORM),
    get(f"{ONE}/", Right.READ),
    *page(f"{ONE}/edit/", Right.DATASETS, form=FORM, **OWN),
    *page(f"{ONE}/copy/", Right.DATASETS, form={"name": "copied"}),
    *page(f"{ONE}/delete/", Right.DATASETS, form={}, **OWN),
    post(f"{ONE}/activate/", Right.READ, answers=302),
]
