"""Settings → Webhooks: the address, what may deliver, a test, and what came in."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts import credentials
from accounts.addresses import problem_with_public_url
from accounts.callers import Caller
from accounts.errors import Refusal
from accounts.forms import refuse
from accounts.models import CredentialKind, Team
from accounts.pages import caller_on, team_view
from accounts.roles import Right
from billing import pricebook, prices
from jobs.models.catalogue import AddressMode
from jobs.services import addresses, provider, provider_settings
from jobs.services.addresses import DOCUMENTED_RANGES
from webhooks import external_check, inbox, testing, testlines
from webhooks.forms import WebhookSettingsForm, lines

SHOWN = 10
# Where the session keeps a test until it is shown.
TEST = "webhook_test"
# Somebody waits for the page.
PAGE_TIMEOUT_SECONDS = 15.0


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def page(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Show and save; the button beside the list of addresses only fills it in."""
    caller = caller_on(request)
    own = provider.settings_of(team)
    data = _with_ranges(request.POST) if "add_ranges" in request.POST else request.POST
    form = WebhookSettingsForm.of(own, data or None)
    if "add_ranges" in request.POST:
        messages.info(request, _("Replicate's documented ranges were filled in. They count once you save."))
    elif form.is_valid():
        try:
            provider_settings.save(caller, form.asked())
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            messages.success(request, _("The settings were saved."))
            return redirect("webhooks:settings", team.slug)
    context = {"team": team, "form": form, "test": request.session.pop(TEST, None), "port": request.get_port(), **_facts(caller)}
    return render(request, "webhooks/settings.html", context)


@team_view(Right.MANAGE)
@require_POST
def run_test(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Test the address as it is saved, from here or from the provider, and say line by line how it went."""
    caller = caller_on(request)
    try:
        test = external_check.check if "outside" in request.POST else testing.probe
        outcome = test(caller, timeout_seconds=PAGE_TIMEOUT_SECONDS)
    except Refusal as refusal:
        messages.error(request, _("The test could not be made: %(reason)s") % {"reason": refusal.detail})
    else:
        # Kept until the page shows it: a page that answers a form would make the test again when it is loaded anew.
        found = testlines.lines(outcome, address=testing.address_for(team))
        request.session[TEST] = {
            "success": outcome.success,
            "message": outcome.translated,
            "lines": [{"name": str(line.name), "mark": line.mark, "found": line.found} for line in found],
        }
    return redirect("webhooks:settings", team.slug)


def _with_ranges(posted: Any) -> Any:
    """The form as it was sent, with the documented networks added to its list."""
    data = posted.copy()
    data["webhook_allowed_ips"] = "\n".join(dict.fromkeys([*lines(posted.get("webhook_allowed_ips", "")), *DOCUMENTED_RANGES]))
    return data


def _facts(caller: Caller) -> dict[str, Any]:
    """What the page tells beside the form."""
    team, now = caller.team, timezone.now()
    base = addresses.public_base(team)
    own = provider.settings_of(team)
    price = pricebook.in_force(on=now).get(external_check.HARDWARE)
    return {
        "base": base,
        "address": (base or "https://…") + reverse("webhooks:replicate"),
        "problem": problem_with_public_url(base) if base else "",
        "ranges": DOCUMENTED_RANGES,
        "own_address": caller.address,
        "credential": credentials.find(team=team, user=None, kind=CredentialKind.REPLICATE),
        "check_costs": prices.worst_case(usd_per_second=price.usd_per_second, seconds=external_check.CEILING_SECONDS) if price else None,
        "observes": own.webhook_address_mode == AddressMode.OBSERVE,
        "has_list": bool(own.webhook_allowed_ips),
        "standing": inbox.standing(team, now=now),
        "drift": inbox.drift(team, own.webhook_allowed_ips, now=now),
        "deliveries": list(inbox.of(team).defer("content", "headers", "held_log")[:SHOWN]),
        "rejected": list(team.audit_lines.filter(event_type="webhook.rejected").order_by("-at")[:SHOWN]),
    }
