"""The help of a team, with this server's own addresses filled in."""

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from accounts.models import Team
from accounts.pages import team_view
from accounts.roles import Right
from jobs.services import addresses, provider

# Networks from which Replicate is said to call. Source: SimpleTuner docs, cloud training, "Firewall configuration".
DOCUMENTED_RANGES = ("34.82.0.0/16", "35.185.0.0/16")


@team_view(Right.READ)
@require_GET
def page(request: HttpRequest, *, team: Team) -> HttpResponse:
    """How the product works, and what the network around it must let through."""
    base = addresses.public_base(team)
    here = base or f"{request.scheme}://{request.get_host()}"
    context = {
        "team": team,
        "base": base,
        "webhook": here + reverse("webhooks:replicate"),
        "storage": here + reverse("storage:root").rstrip("/") + "/",
        "ranges": DOCUMENTED_RANGES,
        "hosts": _outgoing(team),
        "submit": here + reverse("jobs_api:submit"),
    }
    return render(request, "jobs/help.html", context)


def _outgoing(team: Team) -> list[tuple[str, str]]:
    """The hosts that this server calls, each with what for."""
    hosts = [
        (urlsplit(settings.REPLICATE_BASE_URL).netloc, _("starting, watching and cancelling jobs; uploading archives")),
        (urlsplit(settings.STATUS_PAGE_URL).netloc, _("whether Replicate has troubles")),
    ]
    if endpoint := provider.settings_of(team).s3_delivery.get("endpoint_url"):
        hosts.append((urlsplit(endpoint).netloc, _("results in the team's bucket")))
    return hosts
