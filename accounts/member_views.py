"""The pages of a team's members and of the invites that are open."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from accounts import invites, members, registration
from accounts.callers import Caller
from accounts.errors import Refusal
from accounts.forms import InviteForm, RoleForm, in_words, refuse
from accounts.models import Invite, Team
from accounts.pages import caller_on, confirmed, site_of, team_view
from accounts.roles import Right, manages


@team_view(Right.READ)
@require_GET
@never_cache
def index(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Who is in the team, which every member may know, and for those who manage it who is asked to come."""
    caller = caller_on(request)
    people = team.memberships.select_related("user").order_by("user__username")
    waiting = team.invites.usable(now=timezone.now()).select_related("invited_by").order_by("email")
    context = {"team": team, "memberships": people, "invites": waiting if caller.may(Right.MANAGE) else []}
    return render(request, "account/members.html", context)


@team_view(Right.MANAGE)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def invite(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Ask somebody to come into the team. It looks the same whether the address has an account or not."""
    caller = caller_on(request)
    form = InviteForm(request.POST or None, giver=caller.role, initial={"role": registration.current().default_role})
    if form.is_valid():
        try:
            made = invites.invite(caller, site=site_of(request), **form.cleaned_data)
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            if not registration.sends_mail():
                return _show_link(request, caller, made)
            messages.success(request, _("The invite to %(email)s is on its way.") % {"email": made.email})
            return redirect("members", team.slug)
    return render(request, "account/member_invite.html", {"team": team, "form": form})


@team_view(Right.MANAGE)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def invite_change(request: HttpRequest, *, team: Team, invite_id: int) -> HttpResponse:
    """Look at an open invite, send it again, or take it back (the button that is pressed says which)."""
    caller = caller_on(request)
    asked = get_object_or_404(team.invites.usable(now=timezone.now()).select_related("team", "invited_by"), pk=invite_id)
    if request.method == "POST":
        try:
            if "revoke" in request.POST:
                invites.revoke(caller, asked)
                messages.success(request, _("The invite was taken back."))
            else:
                invites.resend(caller, asked, site=site_of(request))
                if not registration.sends_mail():
                    return _show_link(request, caller, asked)
                messages.success(request, _("The invite to %(email)s is on its way.") % {"email": asked.email})
        except Refusal as refusal:
            messages.error(request, in_words(refusal))
        return redirect("members", team.slug)
    return render(request, "account/invite_change.html", {"team": team, "invite": asked})


def _show_link(request: HttpRequest, caller: Caller, made: Invite) -> HttpResponse:
    """Show the link this once, where no mail would bring it."""
    link = site_of(request) + reverse("invite", args=[invites.hand_out(caller, made)])
    return render(request, "account/invite_made.html", {"team": caller.team, "invite": made, "link": link})


@team_view(Right.MANAGE)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def change(request: HttpRequest, *, team: Team, membership_id: int) -> HttpResponse:
    """Give a member another role, or take them out of the team (the button that is pressed says which)."""
    caller = caller_on(request)
    membership = get_object_or_404(team.memberships.select_related("user"), pk=membership_id)
    is_removal = "remove" in request.POST
    sent = {"role": membership.role} if is_removal else request.POST or None
    form = RoleForm(sent, giver=caller.role, initial={"role": membership.role})
    if form.is_valid():
        try:
            if is_removal:
                members.remove(caller, membership, site=site_of(request))
            else:
                members.change_role(caller, membership, role=form.cleaned_data["role"])
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            messages.success(request, _("The person was removed from the team.") if is_removal else _("The role was changed."))
            # Who went away sees the team no more.
            return redirect("home") if is_removal and membership.user == caller.user else redirect("members", team.slug)
    is_managed = manages(caller.role, membership.role)
    return render(request, "account/member.html", {"team": team, "form": form, "membership": membership, "is_managed": is_managed})


@team_view(Right.MANAGE)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def hand_over(request: HttpRequest, *, team: Team, membership_id: int) -> HttpResponse:
    """Make somebody else an owner and oneself a lead, after one question."""
    caller = caller_on(request)
    heir = get_object_or_404(team.memberships.select_related("user").exclude(user=caller.user), pk=membership_id)
    if request.method == "POST":
        try:
            members.hand_over(caller, heir)
        except Refusal as refusal:
            messages.error(request, in_words(refusal))
        else:
            messages.success(request, _("%(person)s owns the team now, and you are a lead.") % {"person": heir.user})
        return redirect("members", team.slug)
    return render(request, "account/member_hand_over.html", {"team": team, "heir": heir})


@team_view(Right.READ)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def leave(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Go away from the team, after one question."""
    caller = caller_on(request)
    if request.method == "POST":
        try:
            members.leave(caller, site=site_of(request))
        except Refusal as refusal:
            messages.error(request, in_words(refusal))
            return redirect("members", team.slug)
        messages.success(request, _("You are not in %(team)s any more.") % {"team": team.name})
        return redirect("home")
    return render(request, "account/member_leave.html", {"team": team})
