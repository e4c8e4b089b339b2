"""Some addresses behind the doors of this app."""

from django.http import HttpResponse
from django.urls import path
from rest_framework.permissions import AllowAny
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.callers import Caller
from accounts.pages import team_view
from accounts.permissions import needs
from accounts.roles import Right


class Work(APIView):
    """Says who came in."""

    permission_classes = [needs(Right.READ)]

    def get(self, request):
        caller = request.auth
        return Response({"team": caller.team.slug, "user": request.user.username, "role": caller.role, "address": caller.address})

    def post(self, request, number=0):
        return self.get(request)


class Manage(Work):
    permission_classes = [needs(Right.MANAGE)]


class Open(APIView):
    permission_classes = [AllowAny]

    def get(self, request):
        return Response({"known": isinstance(request.auth, Caller)})


@team_view(Right.MANAGE)
def settings_page(request, *, team):
    return HttpResponse(f"{team.slug} {request.caller.user.username} {request.caller.role}")


@team_view(Right.READ)
def work_page(request, *, team, number):
    return HttpResponse(f"{team.slug} {number}")


def home(request):
    return HttpResponse("home")


urlpatterns = [
    # Where the page of a refusal leads to.
    path("", home, name="home"),
    path("api/work", Work.as_view()),
    path("api/pieces/<int:number>", Work.as_view()),
    path("api/manage", Manage.as_view()),
    path("api/open", Open.as_view()),
    path("teams/<slug:team>/settings", settings_page),
    path("teams/<slug:team>/pieces/<int:number>", work_page),
]
