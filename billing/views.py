"""The pages of a team's spend limits, of their top-ups and alerts."""

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.errors import Refusal
from accounts.forms import in_words, refuse
from accounts.models import Team
from accounts.pages import caller_on, site_of, team_view
from accounts.roles import Right
from billing import alerts, limit_changes, limits, top_ups
from billing.forms import ChangeLimitForm, LimitForm, TopUpForm
from billing.models import LimitScope, SpendLimit

# What a token may spend is set on its own page.
SET_HERE = (LimitScope.TEAM, LimitScope.PERSON)


def _limits(team: Team) -> QuerySet[SpendLimit]:
    return team.spend_limits.select_related("team", "user", "token")


@team_view(Right.MANAGE)
@require_GET
@never_cache
def limit_list(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The limits of the team, its people and its tokens, how those that are in force stand, and the alerts of their periods."""
    now = timezone.now()
    stand = limits.standing(SpendLimit.objects.filter(team=team).enabled(), now=now)
    rows: dict[str, list[object]] = {scope: [] for scope in (*SET_HERE, LimitScope.TOKEN)}
    for limit in _limits(team).order_by("user__username", "token__name", "name", "period"):
        if limit.is_enabled or limit.scope in SET_HERE:
            rows[limit.scope].append((limit, stand.get(limit)))
    context = {
        "team": team,
        "groups": [(_("Team"), rows[LimitScope.TEAM]), (_("People"), rows[LimitScope.PERSON]), (_("API tokens"), rows[LimitScope.TOKEN])],
        "has_limits": any(rows.values()),
        "alerts": alerts.shown(SpendLimit.objects.filter(team=team), now=now),
    }
    return render(request, "billing/limits.html", context)


@team_view(Right.MANAGE)
@require_GET
@never_cache
def limit(request: HttpRequest, *, team: Team, limit_id: int) -> HttpResponse:
    """One limit: how it stands, the top-ups and alerts of its present period, and whether its mails arrive."""
    now = timezone.now()
    found = get_object_or_404(_limits(team), pk=limit_id)
    alone = SpendLimit.objects.filter(pk=found.pk)
    context = {
        "team": team,
        "limit": found,
        "standing": limits.standing(alone.enabled(), now=now).get(found),
        "top_ups": top_ups.of_period(found, now=now),
        "alerts": alerts.shown(alone, now=now),
        "recipients": alerts.recipients(found),
        "trial": alerts.latest_trial(found),
        "is_set_here": found.scope in SET_HERE,
        "now": now,
    }
    return render(request, "billing/limit.html", context)


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def limit_new(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Set a limit for the whole team, or for one of its people."""
    form = LimitForm(request.POST or None, team=team)
    if form.is_valid():
        try:
            limit_changes.add(caller_on(request), **form.asked())
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            messages.success(request, _("The limit was set."))
            return redirect("billing:limits", team.slug)
    return render(request, "billing/limit_set.html", {"team": team, "form": form})


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def limit_change(request: HttpRequest, *, team: Team, limit_id: int) -> HttpResponse:
    """Change a limit of the team or of a person, or switch it off."""
    found = get_object_or_404(_limits(team).filter(scope__in=SET_HERE), pk=limit_id)
    form = ChangeLimitForm.of(found, request.POST or None)
    if form.is_valid():
        limit_changes.change(caller_on(request), found, **form.asked())
        messages.success(request, _("The limit was changed."))
        return redirect("billing:limit", team.slug, found.pk)
    return render(request, "billing/limit_set.html", {"team": team, "form": form, "limit": found})


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def limit_top_up(request: HttpRequest, *, team: Team, limit_id: int) -> HttpResponse:
    """Make more room for the present period of a limit; the limit stays as it is."""
    now = timezone.now()
    found = get_object_or_404(_limits(team), pk=limit_id)
    form = TopUpForm(request.POST or None, time_zone=team.time_zone)
    if form.is_valid():
        try:
            top_ups.add(caller_on(request), found, **form.asked(), now=now)
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            messages.success(request, _("The limit was topped up."))
            return redirect("billing:limit", team.slug, found.pk)
    standing = limits.standing(SpendLimit.objects.filter(pk=found.pk), now=now)[found]
    return render(request, "billing/limit_top_up.html", {"team": team, "form": form, "limit": found, "standing": standing})


@team_view(Right.MANAGE)
@require_POST
def limit_try_alert(request: HttpRequest, *, team: Team, limit_id: int) -> HttpResponse:
    """Send a trial alert to whom the real ones go, by the same way."""
    found = get_object_or_404(_limits(team), pk=limit_id)
    try:
        count = alerts.send_trial(caller_on(request), found, site=site_of(request), now=timezone.now())
    except Refusal as refusal:
        messages.error(request, in_words(refusal))
    else:
        told = ngettext("A trial alert is on its way to %d person.", "A trial alert is on its way to %d people.", count)
        messages.success(request, told % count)
    return redirect("billing:limit", team.slug, found.pk)
