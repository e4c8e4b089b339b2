"""The pages outside any team, and those of a team's tokens and members."""

from typing import cast

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from accounts import members, tokens
from accounts.callers import Caller
from accounts.errors import Refusal
from accounts.forms import MemberForm, RoleForm, TokenForm, refuse
from accounts.models import APITokenQuerySet, Membership, Team, User
from accounts.pages import confirmed, team_view
from accounts.roles import Right


def home(request: HttpRequest) -> HttpResponse:
    """Where a signed-in person lands: in their team, or with a choice of them."""
    memberships = list(Membership.objects.filter(user=cast(User, request.user)).select_related("team").order_by("team__name"))
    if len(memberships) == 1:
        return redirect(memberships[0].team)
    return render(request, "account/home.html", {"memberships": memberships})


@team_view(Right.TOKENS_OWN)
@require_GET
def settings(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The first of the team's settings that everybody has who has any."""
    return redirect("tokens", team.slug)


def _tokens(caller: Caller) -> APITokenQuerySet:
    """Those that the caller may see and revoke: their own, and with the right to manage the whole team's."""
    found = caller.team.api_tokens.select_related("made_by").order_by("-created_at", "-pk")
    return found if caller.may(Right.MANAGE) else found.filter(made_by=caller.user)


@team_view(Right.TOKENS_OWN)
@require_GET
@never_cache
def token_list(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The tokens that open a door today; those that do not are in the audit trail."""
    found = _tokens(request.caller).usable(now=timezone.now())  # type: ignore[attr-defined]
    return render(request, "account/tokens.html", {"team": team, "tokens": found})


@team_view(Right.TOKENS_OWN)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def token_new(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Make a token, and show its text this once: it is kept nowhere."""
    caller: Caller = request.caller  # type: ignore[attr-defined]
    form = TokenForm(request.POST or None, rights=caller.rights)
    if form.is_valid():
        try:
            token, plain = tokens.create(team=team, by=caller.user, caller=caller, **form.asked())
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            trial = request.build_absolute_uri(reverse("jobs_api:jobs"))
            return render(request, "account/token_made.html", {"team": team, "token": token, "plain": plain, "trial": trial})
    return render(request, "account/token_new.html", {"team": team, "form": form})


@team_view(Right.TOKENS_OWN)
@require_http_methods(["GET", "POST"])
@never_cache
def token_revoke(request: HttpRequest, *, team: Team, token_id: int) -> HttpResponse:
    """Ask once, say when it was last used, and revoke."""
    caller: Caller = request.caller  # type: ignore[attr-defined]
    token = get_object_or_404(_tokens(caller).usable(now=timezone.now()), pk=token_id)
    if request.method == "POST":
        tokens.revoke(token, by=caller.user, caller=caller)
        messages.success(request, _("The token %(name)s was revoked.") % {"name": token.name})
        return redirect("tokens", team.slug)
    return render(request, "account/token_revoke.html", {"team": team, "token": token})


@team_view(Right.READ)
@require_GET
@never_cache
def member_list(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Who is in the team; every member may know."""
    people = team.memberships.select_related("user").order_by("user__username")
    return render(request, "account/members.html", {"team": team, "memberships": people})


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def member_add(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Put somebody who has an account into the team."""
    form = MemberForm(request.POST or None)
    if form.is_valid():
        try:
            added = members.add(request.caller, **form.cleaned_data)  # type: ignore[attr-defined]
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            messages.success(request, _("%(person)s is in the team now.") % {"person": added.user})
            return redirect("members", team.slug)
    return render(request, "account/member_add.html", {"team": team, "form": form})


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def member_change(request: HttpRequest, *, team: Team, membership_id: int) -> HttpResponse:
    """Give a member another role, or take them out of the team (the button that is pressed says which)."""
    caller: Caller = request.caller  # type: ignore[attr-defined]
    membership = get_object_or_404(team.memberships.select_related("user"), pk=membership_id)
    is_removal = "remove" in request.POST
    form = RoleForm({"role": membership.role} if is_removal else request.POST or None, initial={"role": membership.role})
    if form.is_valid():
        try:
            if is_removal:
                members.remove(caller, membership)
            else:
                members.change_role(caller, membership, role=form.cleaned_data["role"])
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            messages.success(request, _("The person was removed from the team.") if is_removal else _("The role was changed."))
            # Who went away sees the team no more.
            return redirect("home") if is_removal and membership.user == caller.user else redirect("members", team.slug)
    return render(request, "account/member.html", {"team": team, "form": form, "membership": membership})
