"""The pages of a team's spend limits."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from accounts.errors import Refusal
from accounts.forms import refuse
from accounts.models import Team
from accounts.pages import team_view
from accounts.roles import Right
from billing import limit_changes, services
from billing.forms import ChangeLimitForm, LimitForm
from billing.models import LimitScope


@team_view(Right.MANAGE)
@require_GET
@never_cache
def limit_list(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The team's limits, and how those that are in force stand."""
    standing = {(row.name, row.window): row for row in services.statuses(team=team, now=timezone.now()) if row.scope == LimitScope.TEAM}
    limits = list(team.spend_limits.filter(scope=LimitScope.TEAM).order_by("name", "period"))
    rows = [(limit, standing.get((limit.name, limit.period))) for limit in limits]
    return render(request, "billing/limits.html", {"team": team, "rows": rows})


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def limit_new(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Set a limit for the whole team."""
    form = LimitForm(request.POST or None)
    if form.is_valid():
        try:
            limit_changes.add(request.caller, **form.asked())  # type: ignore[attr-defined]
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            messages.success(request, _("The limit was set."))
            return redirect("billing:limits", team.slug)
    return render(request, "billing/limit.html", {"team": team, "form": form})


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def limit_change(request: HttpRequest, *, team: Team, limit_id: int) -> HttpResponse:
    """Change a limit of the team, or switch it off."""
    limit = get_object_or_404(team.spend_limits.filter(scope=LimitScope.TEAM), pk=limit_id)
    form = ChangeLimitForm.of(limit, request.POST or None)
    if form.is_valid():
        limit_changes.change(request.caller, limit, **form.asked())  # type: ignore[attr-defined]
        messages.success(request, _("The limit was changed."))
        return redirect("billing:limits", team.slug)
    return render(request, "billing/limit.html", {"team": team, "form": form, "limit": limit})
