"""The door of the portal: pages that belong to a team."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account.internal.flows.login import record_authentication
from allauth.account.utils import perform_login
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

from accounts import confirmation
from accounts.callers import Caller, member_caller, require_active
from accounts.models import Membership, User
from accounts.roles import Right

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}

Page = Callable[..., HttpResponseBase]


def team_view(right: Right) -> Callable[[Page], Page]:
    """Make a page a team's: the URL's `team` (a slug) becomes the Team, and `caller_on(request)` says who is there.

    Strangers and unknown slugs get 404, members without the right 403. A suspended team's pages can be read only. A slug
    that the team had before leads its members on to the present one.
    """

    def decorate(page: Page) -> Page:
        @wraps(page)
        def view(request: HttpRequest, *, team: str, **kwargs: Any) -> HttpResponseBase:
            membership = Membership.objects.select_related("team", "user").filter(team__slug=team, user_id=request.user.pk or 0).first()
            if membership is None:
                return _moved(request, team, kwargs)
            caller = member_caller(request, membership)
            if not caller.may(right):
                raise PermissionDenied("Your role in this team does not allow this.")
            if request.method not in SAFE_METHODS:
                require_active(caller.team)
            request.caller = caller  # type: ignore[attr-defined]  # templates read it, too
            return page(request, team=caller.team, **kwargs)

        return view

    return decorate


def caller_on(request: HttpRequest) -> Caller:
    """Who is on a team's page; `team_view` has seen to it that somebody is."""
    return request.caller  # type: ignore[attr-defined]


def _moved(request: HttpRequest, slug: str, rest: dict[str, Any]) -> HttpResponseBase:
    """Lead a member on from an address that the team had. Raises Http404 for everybody else, and for what was sent to it."""
    membership = Membership.objects.select_related("team").filter(team__former_slugs__slug=slug, user_id=request.user.pk or 0).first()
    if membership is None or request.method not in SAFE_METHODS or request.resolver_match is None:
        raise Http404("No such team, or you are not a member of it.")
    address = reverse(request.resolver_match.view_name, kwargs={"team": membership.team.slug, **rest})
    query = request.META.get("QUERY_STRING", "")
    return redirect(f"{address}?{query}" if query else address)


def site_of(request: HttpRequest) -> str:
    """Where people reach this server, for links in mails: what its operator says, else where this request came to."""
    return settings.PUBLIC_URL or f"{request.scheme}://{request.get_host()}"


def let_in(request: HttpRequest, person: User, *, to: str) -> HttpResponse:
    """Sign somebody in who has chosen their password this moment, so that pages with secrets need not ask for it again."""
    record_authentication(request, person, method="password")
    return perform_login(request, person, redirect_url=to)


def confirmed(page: Page) -> Page:
    """Ask whoever signed in some time ago for the password again, before a page that gives or takes a secret.

    django-allauth's own decorator keeps the form that was sent in the session meanwhile, with its secret in clear; here
    the form is filled in again.
    """

    @wraps(page)
    def view(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        return page(request, **kwargs) if confirmation.is_recent(request) else redirect(confirmation.address(request))

    return view
