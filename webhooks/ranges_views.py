"""A cloud's published networks on the team's list of addresses: the file, its regions, what would change, and only then saving."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.errors import Refusal
from accounts.forms import in_words, refuse
from accounts.models import Team
from accounts.pages import caller_on, team_view
from accounts.roles import Right
from jobs.services import provider, provider_settings
from webhooks import range_files, ranges
from webhooks.forms import RangeFileForm, RegionsForm
from webhooks.ranges import BadFile, RangeFile


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def page(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Take a file, then its regions; nothing is kept before *Save*."""
    if "ranges" in request.POST:
        return _chosen(request, team)
    form = RangeFileForm(request.POST or None, request.FILES or None)
    if form.is_valid():
        try:
            file = ranges.read(_content(form, team))
        except BadFile as refusal:
            refuse(form, refusal)
        else:
            present = provider.settings_of(team).webhook_allowed_ips
            return _shown(request, team, {"regions_form": RegionsForm(file, present), "file": file})
    return _shown(request, team, {"form": form})


def _content(form: RangeFileForm, team: Team) -> bytes:
    """The file as it was uploaded, as far as it may be long, or fetched."""
    uploaded = form.cleaned_data["file"]
    content: bytes = uploaded.read(ranges.MOST_BYTES + 1) if uploaded else range_files.fetch(team, form.cleaned_data["url"])
    return content


def _chosen(request: HttpRequest, team: Team) -> HttpResponse:
    """Show what the chosen regions would change, and save it where somebody says so who saw it."""
    try:
        file = ranges.read(request.POST["ranges"].encode())
    except BadFile as refusal:
        messages.error(request, in_words(refusal))
        return redirect("webhooks:ranges", team.slug)
    present = provider.settings_of(team).webhook_allowed_ips
    form = RegionsForm(file, present, request.POST)
    if not form.is_valid():
        return _shown(request, team, {"regions_form": form, "file": file})
    proposed = form.proposed(file, present)
    if "save" in request.POST and form.cleaned_data["before"].split() == present:
        if _saved(request, form, proposed):
            messages.success(request, _("The list was saved."))
            return redirect("webhooks:settings", team.slug)
    elif "save" in request.POST:
        messages.warning(request, _("The list was changed meanwhile. This is what would change now."))
    return _shown(request, team, _preview(file, form, present, proposed))


def _saved(request: HttpRequest, form: RegionsForm, proposed: list[str]) -> bool:
    caller = caller_on(request)
    try:
        provider_settings.save(caller, {"webhook_allowed_ips": proposed})
    except Refusal as refusal:
        refuse(form, refusal)
        return False
    return True


def _preview(file: RangeFile, form: RegionsForm, present: list[str], proposed: list[str]) -> dict[str, Any]:
    """The form anew, with what is on the list by now, beside what would change."""
    data = form.data.copy()  # type: ignore[attr-defined]
    data["before"] = "\n".join(present)
    again = RegionsForm(file, present, data)
    again.is_valid()
    for error in form.non_field_errors():
        again.add_error(None, error)
    return {"regions_form": again, "file": file, "difference": ranges.difference(present, proposed)}


def _shown(request: HttpRequest, team: Team, more: dict[str, Any]) -> HttpResponse:
    return render(request, "webhooks/ranges.html", {"team": team, **more})
