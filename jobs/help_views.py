"""The help of a team, with this server's own addresses filled in."""

from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from accounts.models import Team
from accounts.pages import caller_on, team_view
from accounts.roles import Right
from billing import pricebook
from billing.estimates import FEWEST_RUNS
from jobs import submit_page
from jobs.services import addresses, catalogue, provider
from jobs.services.addresses import DOCUMENTED_RANGES

REPLICATE = "https://api.replicate.com"
# Source: Replicate docs, topics/predictions/output-files.
FILE_HOSTS = "*.replicate.delivery"


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
        "host": urlsplit(here).netloc,
        "hostname": urlsplit(here).hostname,
        "port": request.get_port(),
        "submit": here + reverse("jobs_api:submit"),
        "spend": here + reverse("jobs_api:spend"),
    }
    return render(request, "jobs/help.html", context)


@team_view(Right.READ)
@require_GET
def prices(request: HttpRequest, *, team: Team) -> HttpResponse:
    """What each hardware costs, since when, and who says so: the prices by which money is held and charged."""
    now = timezone.now()
    offers = catalogue.offers(now=now)
    trained_on = {offer.price_line.hardware for offer in offers}
    context = {
        "team": team,
        "offers": offers,
        "others": [line for hardware, line in pricebook.in_force(on=now).items() if hardware not in trained_on],
        "coming": pricebook.coming(after=now),
        "typical_costs": submit_page.typical_costs(),
        "fewest_runs": FEWEST_RUNS,
        "may_submit": caller_on(request).may(Right.SUBMIT),
    }
    return render(request, "jobs/prices.html", context)


def _outgoing(team: Team) -> list[tuple[str, int, str]]:
    """The hosts that this server calls, each with its port and what for."""
    calls = [(settings.REPLICATE_BASE_URL, _("starting, watching and cancelling jobs; uploading archives"))]
    if settings.REPLICATE_BASE_URL == REPLICATE:
        calls.append((f"https://{FILE_HOSTS}", _("files that Replicate keeps for a job")))
    calls += [
        (settings.STATUS_PAGE_URL, _("whether Replicate has troubles")),
        (settings.HF_ENDPOINT, _("results in the Hub")),
    ]
    own = provider.settings_of(team).s3_delivery
    if own.get("bucket"):
        region = own.get("region") or "us-east-1"
        calls.append((own.get("endpoint_url") or f"https://s3.{region}.amazonaws.com", _("results in the team's bucket")))
    if base := addresses.public_base(team):
        calls.append((base, _("the webhook test, which calls this server as Replicate does")))
    return [(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), purpose) for parts, purpose in _split(calls)]


def _split(calls: list[tuple[str, str]]) -> list[tuple[SplitResult, str]]:
    return [(urlsplit(url), purpose) for url, purpose in calls if url]
