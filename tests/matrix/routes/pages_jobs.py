"""The pages of jobs and of their results."""

from dataclasses import replace

from accounts.roles import Right
from tests.matrix.routes.api_jobs import another, hidden, job
from tests.matrix.table import Case, Door, Route, get, nobody, page, post
from tests.matrix.world import OTHER_MARK, Side

JOB = "/t/<team>/jobs/<job_id>"
# More than any of these jobs can cost, in micro-dollars.
AGREED = 1_000_000_000
# The form does not know such a config, and is shown again.
FOREIGN_CONFIG = Case(name="a foreign team's config", may=nobody, refused=200, form={"config_name": f"{OTHER_MARK}-flux", "agreed": AGREED})
HIDDEN_FILE = replace(
    hidden("completed"),
    at={"job_id": lambda side: side.jobs["colleague_completed"].job_id, "artifact_id": lambda side: side.colleague_artifact.pk},
)


def asked(side: Side) -> dict[str, object]:
    return {"config_name": side.config.name, "agreed": AGREED}


def running(side: Side) -> dict[str, object]:
    return {"job": side.jobs["running"].job_id}


ROUTES: list[Route] = [
    get("/t/<team>/jobs/", Right.READ),
    *page("/t/<team>/jobs/new/", Right.SUBMIT, form=asked, send={"cases": [FOREIGN_CONFIG]}),
    post("/t/<team>/jobs/sync/", Right.SUBMIT, answers=302),
    *page("/t/<team>/jobs/cancel/", Right.CANCEL_OWN, form=running, send={"others_need": Right.CANCEL_ALL}),
    get(f"{JOB}/", Right.READ),
    get(f"{JOB}/live/", Right.READ),
    get(f"{JOB}/log/", Right.READ, cases=[hidden("running")]),
    get(f"{JOB}/log.txt", Right.READ, cases=[hidden("running")]),
    *page(f"{JOB}/cancel/", Right.CANCEL_OWN, form={}, others_need=Right.CANCEL_ALL, cases=[another("running")]),
    *page(f"{JOB}/delete/", Right.CANCEL_OWN, at=job("failed"), form={}, others_need=Right.CANCEL_ALL, cases=[another("failed")]),
    *page(
        f"{JOB}/stop-time/",
        Right.CANCEL_OWN,
        form={"stop_after_seconds": 600},
        others_need=Right.CANCEL_ALL,
        cases=[another("running")],
    ),
    *page(
        f"{JOB}/retry/", Right.SUBMIT, at=job("failed"), form={"agreed": AGREED}, others_need=Right.CANCEL_ALL, cases=[another("failed")]
    ),
    post(f"{JOB}/check/", Right.SUBMIT, at=job("completed"), answers=302, cases=[hidden("completed")]),
    get(f"{JOB}/files/<artifact_id>/", Right.READ, at=job("completed"), answers=302, cases=[HIDDEN_FILE]),
    # The signature in the address is the lock: whoever has the link has the file.
    get(
        "/t/<team>/files/<signed>/<name>",
        Door.OPEN,
        at={"name": "weights.safetensors"},
        cases=[
            Case(name="at another team's address", at={"team": OTHER_MARK}, may=nobody, refused=404),
            Case(name="a forged link", at={"signed": "forged"}, may=nobody, refused=404),
        ],
    ),
    get("/t/<team>/results/", Right.READ),
    get("/t/<team>/help/", Right.READ),
    get("/t/<team>/help/prices/", Right.READ),
]
