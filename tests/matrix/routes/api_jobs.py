"""Jobs by API: submitting, reading and steering them, and watching their uploads."""

from accounts.roles import Right, Role
from tests.jobs.ready import CONFIG
from tests.matrix.table import Case, Route, also_at, delete, get, has, nobody, post
from tests.matrix.world import OTHER_MARK, Who, World

JOB = "/api/cloud/jobs/<job_id>"


def hide_details(world: World) -> None:
    """Let the team show the details of a job to its submitter, leads and owners only."""
    type(world.own.team).objects.filter(pk=world.own.team.pk).update(shows_details=False)


def sees_all_details(who: Who) -> bool:
    return who.role in (Role.LEAD, Role.OWNER)


def hidden(state: str) -> Case:
    """Another member's job in a team that shows no details."""
    at = {"job_id": lambda side: side.jobs[f"colleague_{state}"].job_id}
    return Case(name="another's job, details hidden", at=at, may=sees_all_details, prepare=hide_details)


def another(state: str) -> Case:
    """Another member's job, which only those may change who may change all."""
    at = {"job_id": lambda side: side.jobs[f"colleague_{state}"].job_id}
    return Case(name="another's job", at=at, may=has(Right.CANCEL_ALL))


def job(state: str) -> dict[str, object]:
    return {"job_id": lambda side: side.jobs[state].job_id}


ROUTES: list[Route] = [
    *also_at(
        ["/api/cloud/jobs/submit", "/api/cloud/<provider>/submit"],
        post(
            "",
            Right.SUBMIT,
            json=lambda side: {"config_name_to_load": side.config.name, "dataset": str(side.version)},
            foreign=404,
            cases=[
                Case(
                    name="a foreign team's dataset",
                    may=nobody,
                    refused=404,
                    json={"config": CONFIG, "dataset": f"{OTHER_MARK}-houses"},
                ),
            ],
        ),
    ),
    get("/api/cloud/pre-submit-check", Right.SUBMIT),
    post("/api/cloud/jobs/sync", Right.SUBMIT),
    get("/api/cloud/jobs", Right.READ, query="sync_active=true"),
    get(JOB, Right.READ),
    delete(JOB, Right.CANCEL_OWN, at=job("completed"), others_need=Right.CANCEL_ALL, cases=[another("completed")]),
    get(f"{JOB}/logs", Right.READ, cases=[hidden("running")]),
    get(f"{JOB}/logs/download", Right.READ, cases=[hidden("running")]),
    get(f"{JOB}/logs/stream", Right.READ, cases=[hidden("running")]),
    get(f"{JOB}/inline-progress", Right.READ, cases=[hidden("running")]),
    get(f"{JOB}/artifacts", Right.READ, at=job("completed"), cases=[hidden("completed")]),
    post(f"{JOB}/cancel", Right.CANCEL_OWN, others_need=Right.CANCEL_ALL, cases=[another("running")]),
    post(
        f"{JOB}/stop-time",
        Right.CANCEL_OWN,
        json={"stop_after_seconds": 600},
        others_need=Right.CANCEL_ALL,
        cases=[another("running")],
    ),
    post(f"{JOB}/retry", Right.SUBMIT, at=job("failed"), others_need=Right.CANCEL_ALL, cases=[another("failed")]),
    post(f"{JOB}/deliveries/check", Right.SUBMIT, at=job("completed"), cases=[hidden("completed")]),
    *also_at(["/api/cloud/upload/progress/<upload_id>", "/api/webhooks/upload/progress/<upload_id>"], get("", Right.SUBMIT)),
]
