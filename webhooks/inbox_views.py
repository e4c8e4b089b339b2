"""Settings → Webhooks → Inbox: what came in, one delivery, applying again, and letting go what is held."""

import json

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts.errors import NotPermitted, Refusal
from accounts.forms import in_words
from accounts.models import Team
from accounts.pages import caller_on, team_view
from accounts.roles import Right
from webhooks import inbox, releasing, replaying
from webhooks.forms import InboxFilter
from webhooks.models import Delivery

PAGE_SIZE = 50


@team_view(Right.MANAGE)
@require_GET
@never_cache
def index(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The deliveries that pass the filter, newest first."""
    form = InboxFilter(request.GET)
    sought = form.sought(team)
    page = Paginator(sought.among(inbox.of(team)).defer("content", "headers", "held_log"), PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "webhooks/inbox.html", {"team": team, "form": form, "chosen": str(sought), "page": page})


@team_view(Right.MANAGE)
@require_GET
@never_cache
def detail(request: HttpRequest, *, team: Team, delivery_id: int) -> HttpResponse:
    """One delivery: how it came, what was checked, what it holds and what it did."""
    delivery = _of_team(team, delivery_id)
    context = {
        "team": team,
        "delivery": delivery,
        "checks": inbox.checks(delivery),
        "content": json.dumps(inbox.shown(delivery.content), indent=2, ensure_ascii=False),
    }
    return render(request, "webhooks/delivery.html", context)


@team_view(Right.MANAGE)
@require_POST
def replay(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Apply again, or let go, what is ticked; or apply again everything that passes the filter in the address."""
    caller = caller_on(request)
    which, ticked = request.POST.get("which", ""), inbox.of_keys(team, request.POST.getlist("delivery"))
    if which == "release":
        released = releasing.release_all(caller, ticked)
        said = ngettext("%d delivery was released.", "%d deliveries were released.", released) % released
    else:
        sought = InboxFilter(request.GET).sought(team)
        chosen = sought.among(inbox.of(team)) if which == "all" else ticked
        marked = replaying.replay_all(caller, chosen, what=str(sought) if which == "all" else "chosen one by one")
        said = ngettext("%d delivery is being applied again.", "%d deliveries are being applied again.", marked) % marked
    messages.success(request, said)
    query = request.GET.urlencode()
    return redirect(reverse("webhooks:inbox", args=[team.slug]) + (f"?{query}" if query else ""))


@team_view(Right.MANAGE)
@require_POST
def replay_one(request: HttpRequest, *, team: Team, delivery_id: int) -> HttpResponse:
    """Apply one again now, and say how it went."""
    caller = caller_on(request)
    delivery = _of_team(team, delivery_id)
    try:
        delivery = replaying.replay_one(caller, delivery)
    except NotPermitted:
        raise
    except Refusal as refusal:
        messages.error(request, in_words(refusal))
    else:
        if delivery.reason:
            messages.error(request, _("It could not be applied: %(reason)s") % {"reason": delivery.reason})
        else:
            messages.success(request, _("It was applied again. What is old news changes nothing."))
    return redirect("webhooks:inbox-delivery", team.slug, delivery.pk)


@team_view(Right.MANAGE)
@require_POST
def release(request: HttpRequest, *, team: Team, delivery_id: int) -> HttpResponse:
    """Let one go, and put its address or network on the list if that is what was pressed."""
    caller = caller_on(request)
    delivery = _of_team(team, delivery_id)
    allow = request.POST.get("network", "").strip() if "allow" in request.POST else ""
    try:
        releasing.release(caller, delivery, allow=allow)
    except NotPermitted:
        raise
    except Refusal as refusal:
        messages.error(request, in_words(refusal))
    else:
        messages.success(request, _("The delivery was released, and is applied like any."))
    return redirect("webhooks:inbox-delivery", team.slug, delivery.pk)


def _of_team(team: Team, delivery_id: int) -> Delivery:
    return get_object_or_404(inbox.of(team), pk=delivery_id)
