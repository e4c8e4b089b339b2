"""What every team spent in a month, for the platform's staff."""

from datetime import date

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from accounts import streaming
from accounts.models import Team
from jobs import report_files, reports
from jobs.reports import Figures
from jobs.spans import DAY


@require_GET
def by_team(request: HttpRequest) -> HttpResponse:
    """A month of all teams, each in its own zone; `month` is like 2026-01, this one unless said."""
    month = _month(request)
    found = reports.by_team(month)
    context = {
        **admin.site.each_context(request),
        "title": _("Spend by team"),
        "month": month,
        "before": (month - DAY).replace(day=1),
        "after": (month + 31 * DAY).replace(day=1),
        "rows": [(team, figures, _jobs_url(team, month), _ledger_url(team, month)) for team, figures in found],
        "total": sum((figures for _team, figures in found), Figures()),
    }
    return render(request, "jobs/admin_spend.html", context)


@require_GET
def export(request: HttpRequest, *, by: str) -> HttpResponseBase:
    """The same as CSV: `team` has a row for each team, `job` the chargeback of all of them."""
    month = _month(request)
    found = reports.by_team(month)
    if by == "team":
        pieces = report_files.team_rows(month, found)
    elif by == report_files.CHARGEBACK:
        pieces = report_files.charges_of_teams(month, [team for team, _figures in found])
    else:
        raise Http404("There is no such report.")
    return streaming.download(request, pieces, name=f"spend-by-{by}-{month:%Y-%m}.csv", content_type=report_files.CONTENT_TYPE)


def _month(request: HttpRequest) -> date:
    """The first day of the month in the address; this month where it says none that can be."""
    try:
        found = date.fromisoformat(f"{request.GET.get('month', '')}-01")
    except ValueError:
        found = date.min
    return found if 2000 <= found.year <= 2199 else timezone.now().date().replace(day=1)


def _jobs_url(team: Team, month: date) -> str:
    months = f"submitted_at__year={month.year}&submitted_at__month={month.month}"
    return f"{reverse('admin:jobs_job_changelist')}?team__id__exact={team.pk}&{months}"


def _ledger_url(team: Team, month: date) -> str:
    return f"{reverse('admin:billing_ledgerline_changelist')}?team__id__exact={team.pk}&at__year={month.year}&at__month={month.month}"
