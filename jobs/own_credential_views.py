"""The settings page of a person's own credentials in a team: what they save there comes before what the team has."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import credentials
from accounts.models import Team
from accounts.pages import caller_on, confirmed, team_view
from accounts.roles import Right
from jobs.services import provider
from jobs.settings_views import SAVED_HERE, saving_page, tell


@team_view(Right.SUBMIT)
@require_GET
@never_cache
def own_list(request: HttpRequest, *, team: Team) -> HttpResponse:
    """What the person works with in this team: their own, else the team's, else the installation's."""
    caller = caller_on(request)
    found = {kind: credentials.find(team=team, user=caller.user, kind=known) for kind, known in SAVED_HERE.items()}
    shown = [{"kind": kind, "label": SAVED_HERE[kind].label, "credential": credential} for kind, credential in found.items()]
    return render(request, "jobs/own_credentials.html", {"team": team, "shown": shown})


@team_view(Right.SUBMIT)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def own_save(request: HttpRequest, *, team: Team, kind: str) -> HttpResponse:
    """Save a token of one's own; whose it is is asked about it at once."""
    return saving_page(request, team, kind, user=caller_on(request).user, back="jobs:own_credentials")


@team_view(Right.SUBMIT)
@require_POST
def own_validate(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Ask Replicate about the token that a job of this person would use now."""
    tell(request, provider.validate(caller_on(request)))
    return redirect("jobs:own_credentials", team.slug)


@team_view(Right.SUBMIT)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def own_remove(request: HttpRequest, *, team: Team, credential_id: int) -> HttpResponse:
    """Ask once, and offer the person's own credential no more."""
    caller = caller_on(request)
    credential = get_object_or_404(team.credentials.in_use().filter(user=caller.user), pk=credential_id)
    if request.method == "POST":
        credentials.remove(credential, by=caller.user, caller=caller)
        messages.success(request, _("The credential was removed."))
        return redirect("jobs:own_credentials", team.slug)
    context = {"team": team, "credential": credential, "back": reverse("jobs:own_credentials", args=[team.slug])}
    return render(request, "jobs/credential_remove.html", context)
