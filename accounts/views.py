"""The pages outside any team."""

from typing import cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from accounts.models import Membership, User


def home(request: HttpRequest) -> HttpResponse:
    """Where a signed-in person lands: in their team, or with a choice of them."""
    memberships = list(Membership.objects.filter(user=cast(User, request.user)).select_related("team").order_by("team__name"))
    if len(memberships) == 1:
        return redirect(memberships[0].team)
    return render(request, "account/home.html", {"memberships": memberships})
