"""Spend limits and their top-ups by API."""

from accounts.roles import Right
from tests.matrix.table import Route, get, post

ROUTES: list[Route] = [
    get("/api/cloud/limits", Right.SPEND),
    get("/api/cloud/limits/<limit_id>/top-ups", Right.SPEND),
    post("/api/cloud/limits/<limit_id>/top-ups", Right.MANAGE, json={"amount": "5", "reason": "release week"}, answers=201),
]
