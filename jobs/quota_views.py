"""The pages of a team's quotas."""

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.errors import NotFound, Refusal
from accounts.forms import refuse
from accounts.models import Team
from accounts.pages import caller_on, team_view
from accounts.roles import Right
from jobs import quotas_page
from jobs.forms.quotas import ChangeQuotaForm, QuotaForm
from jobs.models.quotas import QuotaScope
from jobs.services import quota_changes, quota_standings
from jobs.services.quota_changes import Quota

FIELDS = {"quota_type": "kind", "limit_value": "limit"}


def _quota(team: Team, quota_id: int) -> Quota:
    """A quota that is the team's to change."""
    try:
        quota = quota_changes.find(team, quota_id)
    except NotFound:
        raise Http404("No such quota.") from None
    if quota.is_platforms:
        raise Http404("This quota is the platform's.")
    return quota


@team_view(Right.SUBMIT)
@require_GET
@never_cache
def index(request: HttpRequest, *, team: Team) -> HttpResponse:
    """How one stands oneself, and for owners every quota."""
    now, caller = timezone.now(), caller_on(request)
    mine, _reasons = quota_standings.with_money(team=team, user=caller.user, role=caller.role, now=now)
    context: dict[str, object] = {"team": team, "mine": mine}
    if caller.may(Right.MANAGE):
        rows = quotas_page.rows(team, now=now)
        has = {row.quota.kind for row in rows if row.quota.scope == QuotaScope.EACH and not row.quota.is_platforms}
        context |= {"rows": rows, "suggests": not {kind for kind, _limit, _action in quota_changes.SUGGESTED} <= has}
    return render(request, "jobs/quotas.html", context)


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def new(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Set a quota for the team, for each person, for a role or for one person. One that is there is changed."""
    form = QuotaForm(request.POST or None, team=team)
    if form.is_valid():
        try:
            quota_changes.put(caller_on(request), **form.asked())
        except Refusal as refusal:
            refuse(form, refusal, FIELDS)
        else:
            messages.success(request, _("The quota was set."))
            return redirect("jobs:quotas", team.slug)
    return render(request, "jobs/quota.html", {"team": team, "form": form})


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def change(request: HttpRequest, *, team: Team, quota_id: int) -> HttpResponse:
    """Let a quota allow more or less, or take it away (the button that is pressed says which)."""
    quota = _quota(team, quota_id)
    if request.method == "POST" and "remove" in request.POST:
        quota_changes.remove(caller_on(request), quota)
        messages.success(request, _("The quota was removed."))
        return redirect("jobs:quotas", team.slug)
    form = ChangeQuotaForm(request.POST or None, quota=quota)
    if form.is_valid() and _changed(request, form, quota):
        messages.success(request, _("The quota was changed."))
        return redirect("jobs:quotas", team.slug)
    return render(request, "jobs/quota.html", {"team": team, "form": form, "quota": quota})


def _changed(request: HttpRequest, form: forms.Form, quota: Quota) -> bool:
    try:
        quota_changes.change(caller_on(request), quota, **form.asked())  # type: ignore[attr-defined]
    except Refusal as refusal:
        refuse(form, refusal, FIELDS)
        return False
    return True


@team_view(Right.MANAGE)
@require_POST
def suggested(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Set the quotas that a team may well begin with."""
    quota_changes.add_suggested(caller_on(request))
    messages.success(request, _("The suggested quotas are set. Change them as you like."))
    return redirect("jobs:quotas", team.slug)
