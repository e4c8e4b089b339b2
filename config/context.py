"""What every page of the portal is given."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def portal(request: HttpRequest) -> dict[str, Any]:
    """The person's teams for the switcher, and whether this installation runs on the sandbox."""
    user = getattr(request, "user", None)
    teams = list(user.teams.order_by("name")) if user is not None and user.is_authenticated else []
    return {"my_teams": teams, "runs_on_sandbox": settings.REPLICATE_BASE_URL != "https://api.replicate.com"}
