"""The table of routes: every address and method of the installation, but for the administration (test_administration.py).

To add a route: find the module of its area, and write one entry with what it needs (a Right, a Door, or a function of who
comes) and a valid request: `json` for the API, `form` for pages, each a value or a function of the team whose things are
asked for. What stands in the gaps of an address is in `world.THINGS`, or in the entry's `at`. `answers` is what who may
gets. Everything else is worked out: see cells.py. Where the row decides as well as the role (one's own job, the team's
switch for details), add a Case. A new kind of thing goes into both teams in world.py, with the team's mark in its name.
`page` writes the two entries of a page with a form, `also_at` those of aliases. test_table.py fails for what is missing.
"""

from tests.matrix.routes import (
    api_accounts,
    api_approvals,
    api_audit,
    api_configs,
    api_credentials,
    api_datasets,
    api_jobs,
    api_limits,
    api_money,
    api_offers,
    api_people,
    api_provider,
    api_queue,
    api_quotas,
    api_settings,
    api_webhooks,
    open_to_all,
    pages_approvals,
    pages_configs,
    pages_datasets,
    pages_jobs,
    pages_money,
    pages_people,
    pages_queue,
    pages_settings,
    signing_in,
    storage,
)
from tests.matrix.table import Route

ROUTES: list[Route] = [
    *open_to_all.ROUTES,
    *signing_in.ROUTES,
    *api_accounts.ROUTES,
    *api_people.ROUTES,
    *api_credentials.ROUTES,
    *api_audit.ROUTES,
    *api_jobs.ROUTES,
    *api_approvals.ROUTES,
    *api_limits.ROUTES,
    *api_datasets.ROUTES,
    *api_configs.ROUTES,
    *api_offers.ROUTES,
    *api_money.ROUTES,
    *api_provider.ROUTES,
    *api_queue.ROUTES,
    *api_quotas.ROUTES,
    *api_settings.ROUTES,
    *api_webhooks.ROUTES,
    *storage.ROUTES,
    *pages_jobs.ROUTES,
    *pages_approvals.ROUTES,
    *pages_datasets.ROUTES,
    *pages_configs.ROUTES,
    *pages_money.ROUTES,
    *pages_people.ROUTES,
    *pages_queue.ROUTES,
    *pages_settings.ROUTES,
]
