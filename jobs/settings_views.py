"""The settings pages of a team that tell Replicate and others who it is, and how they are reached."""

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import credentials
from accounts.errors import Refusal
from accounts.forms import TeamNameForm, refuse
from accounts.models import CredentialKind, Team, User
from accounts.pages import caller_on, confirmed, team_view
from accounts.roles import Right
from jobs.forms.settings import NetworkForm, SecretForm
from jobs.services import closing, hub, provider, provider_settings

# The kinds that are one secret and nothing else.
SAVED_HERE = {"replicate": CredentialKind.REPLICATE, "huggingface": CredentialKind.HUGGINGFACE}


@team_view(Right.MANAGE)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def team_archive(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Close the team for good, once its name is typed and its jobs are over."""
    form = TeamNameForm(request.POST or None)
    if form.is_valid():
        try:
            closing.archive(caller_on(request), name=form.cleaned_data["name"])
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            messages.success(request, _("%(team)s was archived.") % {"team": team.name})
            return redirect("home")
    return render(request, "jobs/team_archive.html", {"team": team, "form": form})


@team_view(Right.MANAGE)
@require_GET
@never_cache
def credential_list(request: HttpRequest, *, team: Team) -> HttpResponse:
    """What the team works with, and how it fares. Of a secret only its end is shown."""
    rows = list(team.credentials.in_use().filter(user=None).select_related("created_by"))
    shown = [
        {
            "kind": kind,
            "label": known.label,
            "credential": next((row for row in rows if row.kind == known), None),
            "fallback": credentials.find(team=team, user=None, kind=known),
        }
        for kind, known in SAVED_HERE.items()
    ]
    others = [row for row in rows if row.kind not in (*SAVED_HERE.values(), CredentialKind.SANDBOX)]
    return render(request, "jobs/credentials.html", {"team": team, "shown": shown, "others": others})


@team_view(Right.MANAGE)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def credential_save(request: HttpRequest, *, team: Team, kind: str) -> HttpResponse:
    """Save a token in place of the one before; whose it is is asked about it at once."""
    return saving_page(request, team, kind, user=None, back="jobs:credentials")


@team_view(Right.MANAGE)
@require_POST
def credential_validate(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Ask Replicate about the token that the team's jobs would use now."""
    tell(request, provider.validate_teams(caller_on(request)))
    return redirect("jobs:credentials", team.slug)


@team_view(Right.MANAGE)
@require_POST
def hub_validate(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Ask the Hub about the token that a job would push with now."""
    tell_of_hub(request, hub.validate(caller_on(request)))
    return redirect("jobs:results_settings" if "results" in request.POST else "jobs:credentials", team.slug)


@team_view(Right.MANAGE)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def credential_remove(request: HttpRequest, *, team: Team, credential_id: int) -> HttpResponse:
    """Ask once, and offer the credential no more."""
    credential = get_object_or_404(team.credentials.in_use().filter(user=None), pk=credential_id)
    if request.method == "POST":
        caller = caller_on(request)
        credentials.remove(credential, by=caller.user, caller=caller)
        messages.success(request, _("The credential was removed."))
        return redirect("jobs:credentials", team.slug)
    context = {"team": team, "credential": credential, "back": reverse("jobs:credentials", args=[team.slug])}
    return render(request, "jobs/credential_remove.html", context)


@team_view(Right.MANAGE)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def network(request: HttpRequest, *, team: Team) -> HttpResponse:
    """How calls leave this server for the team, and what the environment says; the proxy's password is never shown."""
    form = NetworkForm.of(provider.settings_of(team), request.POST or None)
    if form.is_valid():
        try:
            provider_settings.save(caller_on(request), form.asked())
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            messages.success(request, _("The settings were saved."))
            return redirect("jobs:network", team.slug)
    context = {
        "team": team,
        "form": form,
        "environment": provider_settings.environment(),
        "bundle": settings.OUTBOUND_CA_BUNDLE,
        "seconds": settings.OUTBOUND_TIMEOUT_SECONDS,
    }
    return render(request, "jobs/network.html", context)


@team_view(Right.MANAGE)
@require_POST
def network_try(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Ask Replicate whose token it is, by the settings as they are saved."""
    tell(request, provider.validate(caller_on(request)))
    return redirect("jobs:network", team.slug)


def saving_page(request: HttpRequest, team: Team, kind: str, *, user: User | None, back: str) -> HttpResponse:
    """The page that takes a token for the team or for one person in it, and goes `back` to the list that it stands in."""
    if kind not in SAVED_HERE:
        raise Http404("No such kind of credential.")
    form = SecretForm(request.POST or None)
    if form.is_valid():
        caller, secret = caller_on(request), form.cleaned_data["secret"]
        try:
            if SAVED_HERE[kind] == CredentialKind.REPLICATE:
                tell(request, provider.save_token(caller, secret, user=user))
            else:
                tell_of_hub(request, hub.save_token(caller, secret, user=user))
        except Refusal as refusal:
            refuse(form, refusal, {"api_token": "secret"})
        else:
            return redirect(back, team.slug)
    context = {"team": team, "form": form, "label": SAVED_HERE[kind].label, "back": reverse(back, args=[team.slug])}
    return render(request, "jobs/credential_save.html", context)


def tell(request: HttpRequest, validation: provider.Validation) -> None:
    """Say on the next page what Replicate thinks of a token."""
    if validation.valid:
        account = validation.account.get("username") or ""
        messages.success(request, _("Replicate accepts the token. It belongs to %(account)s.") % {"account": account})
    elif validation.error == provider.NOT_SET:
        messages.error(request, _("No Replicate token is saved for this team, and the installation shares none."))
    elif validation.trouble:
        messages.error(request, _("Replicate could not be asked: %(reason)s") % {"reason": validation.trouble.translated})
    else:
        messages.error(request, _("The token is not good as it stands: %(reason)s") % {"reason": validation.error})


def tell_of_hub(request: HttpRequest, validation: provider.Validation) -> None:
    if validation.valid:
        account = validation.account.get("username") or ""
        messages.success(request, _("The Hub accepts the token. It belongs to %(account)s.") % {"account": account})
    elif validation.error == hub.NOT_SET:
        messages.error(request, _("No Hugging Face token is saved for this team, and the installation shares none."))
    elif validation.error == hub.READ_ONLY:
        messages.warning(request, _("The token may only read: nothing can be pushed with it. Make one at the Hub that may write."))
    else:
        messages.error(request, _("The token is not good as it stands: %(reason)s") % {"reason": validation.error})
