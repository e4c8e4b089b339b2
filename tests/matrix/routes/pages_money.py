"""The pages of money and quotas."""

from accounts.roles import Right
from tests.matrix.table import Case, Route, get, nobody, page, post

ROUTES: list[Route] = [
    get("/t/<team>/spend/", Right.READ),
    get("/t/<team>/spend/jobs/", Right.READ),
    get(
        "/t/<team>/spend/report/<by>.csv",
        Right.READ,
        at={"by": "job"},
        cases=[Case(name="no such report", may=nobody, refused=404, at={"by": "nothing"})],
    ),
    get("/t/<team>/spend/limits/", Right.SPEND),
    get("/t/<team>/ledger/", Right.SPEND),
    get("/t/<team>/ledger/lines.csv", Right.SPEND),
    get("/t/<team>/ledger/verify/", Right.SPEND),
    get("/t/<team>/ledger/export/<form>/", Right.SPEND, at={"form": "jsonl"}),
    get("/t/<team>/ledger/<hold_id>/", Right.SPEND),
    get("/t/<team>/settings/limits/", Right.MANAGE),
    *page(
        "/t/<team>/settings/limits/new/",
        Right.MANAGE,
        form={"name": "new", "amount": "5", "action": "warn", "period": "daily"},
    ),
    get("/t/<team>/settings/limits/<limit_id>/", Right.MANAGE),
    *page("/t/<team>/settings/limits/<limit_id>/change/", Right.MANAGE, form={"amount": "5", "action": "warn", "is_enabled": "on"}),
    *page("/t/<team>/settings/limits/<limit_id>/top-up/", Right.MANAGE, form={"amount": "5", "reason": "release week"}),
    post("/t/<team>/settings/limits/<limit_id>/try-alert/", Right.MANAGE, form={}, answers=302),
    get("/t/<team>/settings/quotas/", Right.SUBMIT),
    *page(
        "/t/<team>/settings/quotas/new/",
        Right.MANAGE,
        form={"kind": "jobs_per_day", "whom": "each", "limit": "5", "action": "warn"},
    ),
    post("/t/<team>/settings/quotas/suggested/", Right.MANAGE, answers=302),
    *page("/t/<team>/settings/quotas/<quota_id>/", Right.MANAGE, form={"limit": "5", "action": "warn"}),
]
