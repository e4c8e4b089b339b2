"""What every page of the portal is given."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from accounts.models import Team


def portal(request: HttpRequest) -> dict[str, Any]:
    """The person's teams for the switcher, and whether this installation runs on the sandbox.

    The teams are read when a page shows them: the error page must come even while the database is away.
    """

    def my_teams() -> list[Team]:
        return list(Team.objects.filter(members=request.user.pk)) if request.user.is_authenticated else []

    return {"my_teams": SimpleLazyObject(my_teams), "runs_on_sandbox": settings.REPLICATE_BASE_URL != "https://api.replicate.com"}
