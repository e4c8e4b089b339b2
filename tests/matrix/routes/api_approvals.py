"""Approvals by API. The requests are the researcher's and a colleague's; nobody who may approve is either of them."""

from accounts.roles import Right
from tests.matrix.table import Case, Door, Route, also_at, delete, get, has, patch, post

REQUESTS = "/api/approvals/requests"
ONE = f"{REQUESTS}/<request_id>"
SHORT = "/api/approvals/<request_id>"
RULE = "/api/approvals/rules/<rule_id>"
OF_RULE = {"rule_id": lambda side: side.approval_rule.pk}
BLOCKED = {"job_id": lambda side: side.jobs["blocked"].job_id}
COLLEAGUES = Case(name="a colleague's request", at={"request_id": lambda side: side.colleague_approval.pk}, may=has(Right.APPROVE))
COLLEAGUES_JOB = Case(name="a colleague's job", at={"job_id": lambda side: side.jobs["colleague_blocked"].job_id}, may=has(Right.APPROVE))


def several(side):
    return {"request_ids": [side.approval.pk]}


ROUTES: list[Route] = [
    *also_at(["/api/approvals", REQUESTS], get("", Right.APPROVE)),
    get(f"{REQUESTS}/pending/count", Right.APPROVE),
    # Each id is answered for by itself: a foreign one is not found.
    post(f"{REQUESTS}/bulk-approve", Right.APPROVE, json=several, foreign=200),
    post(f"{REQUESTS}/bulk-reject", Right.APPROVE, json=several, foreign=200),
    get(f"{REQUESTS}/job/<job_id>", Door.CALLER, at=BLOCKED, others_need=Right.APPROVE),
    get(ONE, Right.APPROVE),
    *also_at([f"{ONE}/approve", f"{SHORT}/approve"], post("", Right.APPROVE, cases=[COLLEAGUES])),
    *also_at([f"{ONE}/reject", f"{SHORT}/reject"], post("", Right.APPROVE, cases=[COLLEAGUES])),
    post(f"{ONE}/cancel", Door.CALLER, others_need=Right.APPROVE, cases=[COLLEAGUES]),
    get("/api/approvals/me", Door.CALLER),
    # Nothing is overdue.
    post("/api/approvals/expire", Right.APPROVE, changes=False),
    get("/api/approvals/rules", Right.APPROVE),
    post("/api/approvals/rules", Right.MANAGE, json={"name": "new", "condition": "first_job"}),
    get(RULE, Right.APPROVE, at=OF_RULE),
    patch(RULE, Right.MANAGE, at=OF_RULE, json={"threshold": "7"}),
    delete(RULE, Right.MANAGE, at=OF_RULE),
    get("/api/approvals/conditions", Right.APPROVE),
    post("/api/queue/<job_id>/approve", Right.APPROVE, at=BLOCKED, cases=[COLLEAGUES_JOB]),
    post("/api/queue/<job_id>/reject", Right.APPROVE, at=BLOCKED, query="reason=no", cases=[COLLEAGUES_JOB]),
]
