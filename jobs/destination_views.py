"""Settings, Results: where a team's results go, and whether they can."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts import credentials
from accounts.errors import InvalidInput, Refusal
from accounts.forms import in_words, refuse
from accounts.models import CredentialKind, Team
from accounts.pages import caller_on, confirmed, team_view
from accounts.roles import Right
from jobs.forms.destinations import BucketForm, StorageForm
from jobs.services import addresses, buckets, provider, provider_settings


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def page(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The three destinations and how they stand; the form is that of this server's own storage."""
    own = provider.settings_of(team)
    form = StorageForm(request.POST or None, initial={"s3_endpoint_enabled": own.s3_endpoint_enabled, "s3_public_url": own.s3_public_url})
    if form.is_valid() and _saved(request, form, form.cleaned_data):
        messages.success(request, _("Saved."))
        return redirect("jobs:results_settings", team.slug)
    context = {
        "team": team,
        "form": form,
        "endpoint": addresses.storage_endpoint(team),
        "is_enabled": own.s3_endpoint_enabled,
        "bucket": own.s3_delivery,
        "pair": credentials.find(team=team, user=None, kind=CredentialKind.S3),
        "hub": credentials.find(team=team, user=None, kind=CredentialKind.HUGGINGFACE),
    }
    return render(request, "jobs/results_settings.html", context)


@team_view(Right.MANAGE)
@confirmed
@require_http_methods(["GET", "POST"])
@never_cache
def bucket_save(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Save the team's bucket with its keys, and try it at once."""
    own = provider.settings_of(team)
    form = BucketForm(request.POST or None, initial=own.s3_delivery or None, has_secret=bool(own.s3_delivery))
    if form.is_valid() and _saved(request, form, {"s3_delivery": form.given()}):
        messages.success(request, _("The bucket was saved."))
        _tell(request)
        return redirect("jobs:results_settings", team.slug)
    return render(request, "jobs/bucket_save.html", {"team": team, "form": form})


@team_view(Right.MANAGE)
@require_POST
def bucket_test(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Write, read, list and delete a small object in the saved bucket."""
    _tell(request)
    return redirect("jobs:results_settings", team.slug)


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def bucket_remove(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Ask once, and send no more results there."""
    if request.method == "POST":
        provider_settings.save(caller_on(request), {"s3_delivery": {}})
        messages.success(request, _("The bucket was removed."))
        return redirect("jobs:results_settings", team.slug)
    return render(request, "jobs/bucket_remove.html", {"team": team, "bucket": provider.settings_of(team).s3_delivery})


def _saved(request: HttpRequest, form: forms.Form, given: dict[str, Any]) -> bool:
    """Save settings, or put what is wrong with them at its field."""
    try:
        provider_settings.save(caller_on(request), given)
    except InvalidInput as refusal:
        plain = InvalidInput(refusal.detail.replace("s3_delivery.", ""), hint=refusal.hint, field=refusal.field)
        refuse(form, plain, {f"s3_delivery.{name}": name for name in form.fields})
        return False
    return True


def _tell(request: HttpRequest) -> None:
    try:
        found = buckets.test(caller_on(request), {})
    except Refusal as refusal:
        messages.error(request, in_words(refusal))
        return
    if found.success:
        messages.success(request, _("A small object was written, read back, listed and deleted there: results can go to the bucket."))
    else:
        messages.error(request, _("Results cannot go to the bucket as it stands: %(reason)s") % {"reason": found.error})
    if found.notice:
        messages.warning(request, found.notice)
