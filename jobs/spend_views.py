"""The page of a team's money: its limits and its periods. Each figure opens into its lines, which stand in the ledger."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts.models import Team
from accounts.pages import team_view
from accounts.roles import Right
from billing import alerts, spending
from billing import services as billing
from billing.models import LimitPeriodKind, SpendLimit


@team_view(Right.SPEND)
@require_GET
@never_cache
def index(request: HttpRequest, *, team: Team) -> HttpResponse:
    """How the limits stand, what the day, week and month have seen, and whether a charge needs a look."""
    now = timezone.now()
    context = {
        "team": team,
        "limits": billing.statuses(team=team, user=None, now=now),
        "alerts": alerts.shown(SpendLimit.objects.filter(team=team), now=now),
        "periods": [(kind, kind.label, spending.in_period(team, kind, now=now)) for kind in LimitPeriodKind],
        "flagged": team.holds.needing_a_look().count(),
    }
    return render(request, "jobs/spend.html", context)
