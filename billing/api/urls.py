"""The API's addresses of money, below /api/: each with and without a trailing slash, and never by redirect."""

from accounts.api.routes import both
from billing.api import ledger, limits

app_name = "billing_api"

LIMIT = r"(?P<limit_id>[0-9]{1,18})"

urlpatterns = [
    both("cloud/limits", limits.Limits, "limits"),
    both(f"cloud/limits/{LIMIT}/top-ups", limits.TopUps, "top-ups"),
    both("cloud/ledger", ledger.Ledger, "ledger"),
    both("cloud/ledger/verify", ledger.LedgerVerify, "ledger-verify"),
    both("cloud/ledger/export", ledger.LedgerExport, "ledger-export"),
]
