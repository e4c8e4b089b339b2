"""The pages of members, invites and API tokens, and a team's own page."""

from accounts.roles import Right
from tests.matrix.table import Case, Door, Route, get, has, page
from tests.matrix.world import is_staff

MEMBER = "/t/<team>/members/<membership_id>/"
TOKEN = "/t/<team>/settings/tokens/<token_id>"
ANOTHERS = Case(name="another's token", at={"token_id": lambda side: side.colleague_token.pk}, may=has(Right.MANAGE), refused=404)
OWN = {"others_need": Right.MANAGE, "others_get": 404, "cases": [ANOTHERS]}
GENERAL = {"name": "Renamed", "slug": "renamed", "time_zone": "UTC", "first_weekday": "0"}

ROUTES: list[Route] = [
    *page("/profile/", Door.SIGNED_IN, form={"display_name": "New", "language": "en"}),
    *page("/teams/new/", is_staff, form={"name": "New"}),
    get("/t/<team>/", Right.READ, answers=302),
    get("/t/<team>/members/", Right.READ),
    # No mail goes out from here, so that the answer is a page that shows the link.
    *page("/t/<team>/members/invite/", Right.MANAGE, form={"email": "new@example.com", "role": "viewer", "days": "7"}, answers=200),
    *page("/t/<team>/members/invites/<invite_id>/", Right.MANAGE, form={"revoke": ""}),
    *page("/t/<team>/members/leave/", Right.READ, form={}),
    *page(MEMBER, Right.MANAGE, form={"role": "lead"}),
    *page(f"{MEMBER}hand-over/", Right.MANAGE, form={}),
    get("/t/<team>/help/roles/", Right.READ),
    get("/t/<team>/settings/", Right.TOKENS_OWN, answers=302),
    *page("/t/<team>/settings/general/", Right.MANAGE, form=GENERAL),
    # Its jobs are not over, which the page says.
    *page("/t/<team>/settings/general/archive/", Right.MANAGE, form={"name": "Team heron"}, answers=200, changes=False),
    get("/t/<team>/settings/tokens/", Right.TOKENS_OWN),
    # The text of a token is shown this once, so that the answer is a page.
    *page("/t/<team>/settings/tokens/new/", Right.TOKENS_OWN, form={"name": "new", "scopes": ["read"], "period": "daily"}, answers=200),
    get(f"{TOKEN}/", Right.TOKENS_OWN, **OWN),
    *page(f"{TOKEN}/rotate/", Right.TOKENS_OWN, form={"overlap": "1"}, answers=200, **OWN),
    *page(f"{TOKEN}/limit/", Right.TOKENS_OWN, form={"amount": "5", "period": "daily"}, **OWN),
    *page(f"{TOKEN}/revoke/", Right.TOKENS_OWN, form={}, **OWN),
    get("/t/<team>/audit/", Right.AUDIT),
    get("/t/<team>/audit/verify/", Right.AUDIT),
    get("/t/<team>/audit/export/<form>/", Right.AUDIT, at={"form": "csv"}),
]
