"""The pages of a team's API tokens: what they may do, what they spend, and who used them for what."""

from datetime import timedelta

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from accounts import tokens
from accounts.errors import Refusal
from accounts.forms import refuse
from accounts.models import APIToken, Team
from accounts.pages import caller_on, confirmed, team_view
from accounts.roles import Right
from billing import token_limits
from billing.forms import NewTokenForm, OverlapForm, TokenLimitForm

SHOWN_USES = 20


def _token(request: HttpRequest, token_id: int) -> APIToken:
    """The token if the caller may see it, else 404."""
    return get_object_or_404(
        tokens.visible_to(caller_on(request)).select_related("team", "made_by", "replaced_by", "replaces"), pk=token_id
    )


@team_view(Right.TOKENS_OWN)
@require_GET
@never_cache
def token_list(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The tokens that open a door today; those that do not are in the audit trail."""
    now = timezone.now()
    found = list(tokens.visible_to(caller_on(request)).usable(now=now))
    standing = token_limits.standing(found, now=now)
    return render(request, "billing/tokens.html", {"team": team, "rows": [(token, standing[token.pk]) for token in found]})


@team_view(Right.TOKENS_OWN)
@require_GET
@never_cache
def token_detail(request: HttpRequest, *, team: Team, token_id: int) -> HttpResponse:
    """One token: its rights, its limit, what it spent, and its latest uses that changed something."""
    token = _token(request, token_id)
    context = {
        "team": team,
        "token": token,
        "limits": token_limits.standing([token], now=timezone.now())[token.pk],
        "spent": token_limits.spent(token),
        "holds": team.holds.filter(token=token).order_by("-created_at")[:SHOWN_USES],
        "lines": team.audit_lines.filter(token_prefix=token.key_prefix)[:SHOWN_USES],
    }
    return render(request, "billing/token.html", context)


@team_view(Right.TOKENS_OWN)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def token_new(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Make a token, and show its text this once: it is kept nowhere."""
    caller = caller_on(request)
    form = NewTokenForm(request.POST or None, rights=caller.rights)
    if form.is_valid():
        try:
            token, plain = token_limits.create(caller, **form.asked())
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            return _shown_once(request, team, token, plain)
    return render(request, "billing/token_new.html", {"team": team, "form": form})


@team_view(Right.TOKENS_OWN)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def token_rotate(request: HttpRequest, *, team: Team, token_id: int) -> HttpResponse:
    """Put a new token in the place of this one, and show its text this once. This one works on for as long as is asked."""
    caller = caller_on(request)
    token = get_object_or_404(tokens.visible_to(caller).usable(now=timezone.now()).filter(replaced_by=None), pk=token_id)
    form = OverlapForm(request.POST or None)
    if form.is_valid():
        overlap = timedelta(days=int(form.cleaned_data["overlap"]))
        try:
            successor, plain = tokens.rotate(token, by=caller.user, overlap=overlap, caller=caller)
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            return _shown_once(request, team, successor, plain, former=token)
    return render(request, "billing/token_rotate.html", {"team": team, "token": token, "form": form})


@team_view(Right.TOKENS_OWN)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def token_limit(request: HttpRequest, *, team: Team, token_id: int) -> HttpResponse:
    """Say what a token may spend at most."""
    token = _token(request, token_id)
    form = TokenLimitForm.of(token_limits.chosen(token), request.POST or None)
    if form.is_valid():
        token_limits.choose(caller_on(request), token, form.at_most())
        messages.success(request, _("The limit was changed."))
        return redirect("token", team.slug, token.pk)
    return render(request, "billing/token_limit.html", {"team": team, "token": token, "form": form})


@team_view(Right.TOKENS_OWN)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def token_revoke(request: HttpRequest, *, team: Team, token_id: int) -> HttpResponse:
    """Ask once, say when it was last used, and revoke."""
    caller = caller_on(request)
    token = get_object_or_404(tokens.visible_to(caller).usable(now=timezone.now()), pk=token_id)
    if request.method == "POST":
        tokens.revoke(token, by=caller.user, caller=caller)
        messages.success(request, _("The token %(name)s was revoked.") % {"name": token.name})
        return redirect("tokens", team.slug)
    return render(request, "billing/token_revoke.html", {"team": team, "token": token})


def _shown_once(request: HttpRequest, team: Team, token: APIToken, plain: str, *, former: APIToken | None = None) -> HttpResponse:
    trial = request.build_absolute_uri(reverse("jobs_api:jobs"))
    return render(request, "billing/token_made.html", {"team": team, "token": token, "plain": plain, "trial": trial, "former": former})
