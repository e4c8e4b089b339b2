"""A team's ledger by API."""

from accounts.roles import Right
from tests.matrix.table import Route, also_at, get

ROUTES: list[Route] = also_at(["/api/cloud/ledger", "/api/cloud/ledger/verify", "/api/cloud/ledger/export"], get("", Right.SPEND))
