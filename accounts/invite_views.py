"""The page that the link of an invite opens. Looking at it changes nothing."""

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from accounts import invites
from accounts.callers import address_of
from accounts.errors import Refusal
from accounts.forms import NewcomerForm, in_words, refuse
from accounts.models import Invite, Team, User
from accounts.pages import let_in


@login_not_required  # whoever was invited may have no account yet
@require_http_methods(["GET", "POST"])
@never_cache
@sensitive_post_parameters("password1", "password2")
def accept(request: HttpRequest, secret: str) -> HttpResponse:
    """Say who invites to what, and let the person in: with the account that they are signed in with, or with a new one."""
    try:
        invite = invites.find(secret, now=timezone.now())
    except invites.InviteEnded as ended:
        return render(request, "account/invite_ended.html", status=ended.status)
    if isinstance(request.user, User):
        return _as_member(request, request.user, invite, secret)
    if invites.has_account(invite):
        return render(request, "account/invite.html", {"invite": invite, "asks": "sign_in"})
    return _as_newcomer(request, invite, secret)


def _as_member(request: HttpRequest, person: User, invite: Invite, secret: str) -> HttpResponse:
    if not invites.is_for(invite, person):
        return render(request, "account/invite.html", {"invite": invite, "asks": "another_account"})
    refused = ""
    if request.method == "POST":
        try:
            membership = invites.accept(secret, by=person, address=address_of(request))
        except Refusal as refusal:
            refused = in_words(refusal)
        else:
            _welcome(request, membership.team)
            return redirect(membership.team)
    return render(request, "account/invite.html", {"invite": invite, "asks": "consent", "refused": refused})


def _as_newcomer(request: HttpRequest, invite: Invite, secret: str) -> HttpResponse:
    form = NewcomerForm(request.POST or None, email=invite.email)
    if form.is_valid():
        try:
            membership = invites.accept_as_newcomer(secret, address=address_of(request), **form.asked())
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            _welcome(request, membership.team)
            return let_in(request, membership.user, to=membership.team.get_absolute_url())
    return render(request, "account/invite.html", {"invite": invite, "asks": "account", "form": form})


def _welcome(request: HttpRequest, team: Team) -> None:
    messages.success(request, _("Welcome to %(team)s.") % {"team": team.name})
