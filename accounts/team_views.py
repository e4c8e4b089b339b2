"""Making a team, what it says of itself, and who may do what in it."""

from dataclasses import asdict

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from accounts import teams
from accounts.callers import address_of
from accounts.errors import Refusal
from accounts.forms import TeamForm, TeamNameForm, refuse
from accounts.models import Team
from accounts.pages import caller_on, team_view
from accounts.roles import PERMISSIONS, RIGHTS_OF_ROLE, RIGHTS_OF_SCOPE, Right, Role, Scope, manages


@require_http_methods(["GET", "POST"])
@never_cache
def new(request: HttpRequest) -> HttpResponse:
    """Make a team, which only staff may; they are its first owner and invite the others."""
    if not (request.user.is_authenticated and request.user.is_staff):
        raise PermissionDenied("Only the platform's staff make teams.")
    form = TeamNameForm(request.POST or None)
    if form.is_valid():
        try:
            team = teams.create(name=form.cleaned_data["name"], owner=request.user, address=address_of(request))
        except Refusal as refusal:
            refuse(form, refusal, {"team_name": "name"})
        else:
            return redirect("members", team.slug)
    return render(request, "account/team_new.html", {"form": form})


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def general(request: HttpRequest, *, team: Team) -> HttpResponse:
    """What the team says of itself."""
    form = TeamForm(request.POST or None, initial=asdict(teams.profile(team)))
    if form.is_valid():
        try:
            changed = teams.change(caller_on(request), form.profile())
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            messages.success(request, _("The settings were saved."))
            return redirect("team_general", changed.slug)
    return render(request, "account/team_general.html", {"team": team, "form": form})


@team_view(Right.READ)
@require_GET
def roles(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Who may do what, out of the table that decides it."""
    context = {
        "team": team,
        "own_role": Role(caller_on(request).role).label,
        "roles": list(Role),
        "scopes": list(Scope),
        "rights_of_roles": [(right.label, [right in RIGHTS_OF_ROLE[role] for role in Role]) for right in Right],
        "giving": [(role.label, [manages(giver, role) for giver in Role]) for role in Role],
        "rights_of_scopes": [(right.label, [right in RIGHTS_OF_SCOPE[scope] for scope in Scope]) for right in Right],
        "permissions": [
            (right.label, [name for name, needed in PERMISSIONS.items() if needed == right])
            for right in Right
            if right in PERMISSIONS.values()
        ],
    }
    return render(request, "account/roles.html", context)
