"""The door of the portal: pages that belong to a team."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account.internal.flows.reauthentication import did_recently_reauthenticate
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode

from accounts.callers import member_caller
from accounts.models import Membership
from accounts.roles import Right

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}

Page = Callable[..., HttpResponseBase]


def team_view(right: Right) -> Callable[[Page], Page]:
    """Make a page a team's: the URL's `team` (a slug) becomes the Team, and `request.caller` says who is there.

    Strangers and unknown slugs get 404, members without the right 403. A suspended team's pages can be read only.
    """

    def decorate(page: Page) -> Page:
        @wraps(page)
        def view(request: HttpRequest, *, team: str, **kwargs: Any) -> HttpResponseBase:
            membership = Membership.objects.select_related("team", "user").filter(team__slug=team, user_id=request.user.pk or 0).first()
            if membership is None:
                raise Http404("No such team, or you are not a member of it.")
            caller = member_caller(request, membership)
            if not caller.may(right):
                raise PermissionDenied("Your role in this team does not allow this.")
            if caller.team.is_suspended and request.method not in SAFE_METHODS:
                raise PermissionDenied("This team is suspended: its work can be read, and nothing can be changed.")
            request.caller = caller  # type: ignore[attr-defined]
            return page(request, team=caller.team, **kwargs)

        return view

    return decorate


def confirmed(page: Page) -> Page:
    """Ask whoever signed in some time ago for the password again, before a page that gives or takes a secret.

    django-allauth's own decorator keeps the form that was sent in the session meanwhile, with its secret in clear; here
    the form is filled in again.
    """

    @wraps(page)
    def view(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        if did_recently_reauthenticate(request):
            return page(request, **kwargs)
        return redirect(f"{reverse('account_reauthenticate')}?{urlencode({'next': request.path})}")

    return view
