"""The pages of a team's audit trail: its lines, whether they still prove themselves, and all of them as a file."""

from typing import Any

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts import audit, exports, trail
from accounts.forms import AuditFilter
from accounts.models import Team
from accounts.pages import team_view
from accounts.roles import Right

PAGE_SIZE = 50


@team_view(Right.AUDIT)
@require_GET
@never_cache
def index(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The team's lines that pass the filter, newest first."""
    return render(request, "account/audit.html", _listed(request, team))


@team_view(Right.AUDIT)
@require_GET
@never_cache
def verify(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Walk along the chain and say what was found: alone to htmx, else on top of the lines."""
    found = {"verification": audit.verify(team)}
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "account/_verification.html", found)
    return render(request, "account/audit.html", _listed(request, team) | found)


@team_view(Right.AUDIT)
@require_GET
def export(request: HttpRequest, *, team: Team, form: str) -> HttpResponseBase:
    """The whole chain as a file, with what is needed to verify it elsewhere."""
    if form not in exports.CONTENT_TYPES:
        raise Http404("There is no such format.")
    return trail.download(request, team, form)


def _listed(request: HttpRequest, team: Team) -> dict[str, Any]:
    form = AuditFilter(request.GET)
    page = Paginator(form.of(trail.lines(team), team=team), PAGE_SIZE).get_page(request.GET.get("page"))
    rows = [(line, trail.changes(line)) for line in page]
    return {"team": team, "form": form, "chosen": form.chosen(), "page": page, "rows": rows}
