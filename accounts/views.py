"""Where people land, and what they say of themselves."""

from typing import cast

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import get_language, override
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_safe
from django.views.i18n import set_language

from accounts import languages, setup, users
from accounts.callers import address_of
from accounts.forms import ProfileForm
from accounts.models import Membership, Team, User
from accounts.pages import team_view
from accounts.roles import Right


@login_not_required  # whoever opens a new installation is led to its first page
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Where a signed-in person lands: in their team, or with a choice of them."""
    if not request.user.is_authenticated:
        return redirect("first_run" if setup.is_needed() else "account_login")
    memberships = list(Membership.objects.filter(user=request.user).select_related("team").order_by("team__name"))
    if len(memberships) == 1:
        return redirect(memberships[0].team)
    return render(request, "account/home.html", {"memberships": memberships})


@team_view(Right.READ)
@require_safe
def team_home(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Where the short address of a team leads."""
    return redirect(team)


@require_http_methods(["GET", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    """How others see somebody, and what they read: name and language. Address, password and second factor have pages of their own."""
    user = cast(User, request.user)
    form = ProfileForm(request.POST or None, initial={"display_name": user.display_name, "language": user.language or get_language()})
    if form.is_valid():
        users.change_oneself(user, form.cleaned_data, address=address_of(request))
        with override(user.language):
            messages.success(request, _("Your profile is saved."))
        response = redirect("profile")
        languages.keep_in_browser(response, user.language)
        return response
    return render(request, "account/profile.html", {"form": form})


@login_not_required  # whoever signs in may choose the language first
def language(request: HttpRequest) -> HttpResponse:
    """Keep the language that the button names: in the browser, and with the person who is signed in."""
    chosen = request.POST.get("language", "")
    if isinstance(request.user, User) and languages.is_offered(chosen):
        users.change_oneself(request.user, {"language": chosen}, address=address_of(request))
    return set_language(request)


@require_GET
def password_elsewhere(request: HttpRequest) -> HttpResponse:
    """For whoever signs in by the company's directory: there is no password here that could be set."""
    if cast(User, request.user).has_usable_password():
        return redirect("account_change_password")
    return render(request, "account/password_elsewhere.html")


@team_view(Right.TOKENS_OWN)
@require_GET
def settings(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The first of the team's settings that everybody has who has any."""
    return redirect("tokens", team.slug)
