"""The storage endpoint for members and API tokens. S3 clients and upload tokens prove themselves: tests/jobs/storage."""

from dataclasses import replace

from accounts.roles import Right
from tests.matrix.routes.api_jobs import hidden
from tests.matrix.table import Route, get

OBJECT = {"bucket": "outputs", "name": lambda side: f"{side.jobs['completed'].job_id}/weights.safetensors"}

HIDDEN = replace(
    hidden("completed"), refused=404, at={"name": lambda side: f"{side.jobs['colleague_completed'].job_id}/weights.safetensors"}
)

ROUTES: list[Route] = [
    get("/api/cloud/storage", Right.READ),
    get("/api/cloud/storage/<bucket>", Right.READ, at={"bucket": "outputs"}),
    get("/api/cloud/storage/<bucket>/<name>", Right.READ, at=OBJECT, cases=[HIDDEN]),
]
