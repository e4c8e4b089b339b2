"""The settings pages of a team that tell Replicate and others who it is."""

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import credentials
from accounts.callers import Caller
from accounts.errors import Refusal
from accounts.forms import refuse
from accounts.models import CredentialKind, Team
from accounts.pages import confirmed, team_view
from accounts.roles import Right
from jobs.forms import SecretForm
from jobs.services import provider

# The kinds that are one secret and nothing else.
SAVED_HERE = {"replicate": CredentialKind.REPLICATE, "huggingface": CredentialKind.HUGGINGFACE}


def _caller(request: HttpRequest) -> Caller:
    return request.caller  # type: ignore[attr-defined]


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
    others = [row for row in rows if row.kind not in SAVED_HERE.values()]
    return render(request, "jobs/credentials.html", {"team": team, "shown": shown, "others": others})


@team_view(Right.MANAGE)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def credential_save(request: HttpRequest, *, team: Team, kind: str) -> HttpResponse:
    """Save a token in place of the one before; Replicate is asked about its own at once."""
    if kind not in SAVED_HERE:
        raise Http404("No such kind of credential.")
    caller = _caller(request)
    form = SecretForm(request.POST or None)
    if form.is_valid():
        try:
            if kind == "replicate":
                _tell(request, provider.save_token(caller, form.cleaned_data["secret"]))
            else:
                credentials.save(team=team, kind=SAVED_HERE[kind], secret=form.cleaned_data["secret"], by=caller.user, caller=caller)
                messages.success(request, _("The token was saved."))
        except Refusal as refusal:
            refuse(form, refusal, {"api_token": "secret"})
        else:
            return redirect("jobs:credentials", team.slug)
    return render(request, "jobs/credential_save.html", {"team": team, "form": form, "kind": kind, "label": SAVED_HERE[kind].label})


@team_view(Right.MANAGE)
@require_POST
def credential_validate(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Ask Replicate about the token that a job would use now."""
    _tell(request, provider.validate(_caller(request)))
    return redirect("jobs:credentials", team.slug)


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def credential_remove(request: HttpRequest, *, team: Team, credential_id: int) -> HttpResponse:
    """Ask once, and offer the credential no more."""
    credential = get_object_or_404(team.credentials.in_use().filter(user=None), pk=credential_id)
    if request.method == "POST":
        caller = _caller(request)
        credentials.remove(credential, by=caller.user, caller=caller)
        messages.success(request, _("The credential was removed."))
        return redirect("jobs:credentials", team.slug)
    return render(request, "jobs/credential_remove.html", {"team": team, "credential": credential})


def _tell(request: HttpRequest, validation: provider.Validation) -> None:
    if validation.valid:
        account = validation.account.get("username") or ""
        messages.success(request, _("Replicate accepts the token. It belongs to %(account)s.") % {"account": account})
    elif validation.error == provider.NOT_SET:
        messages.error(request, _("No Replicate token is saved for this team, and the installation shares none."))
    else:
        messages.error(request, _("The token is not good as it stands: %(reason)s") % {"reason": validation.error})
