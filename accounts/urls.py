"""The addresses outside any team that are not django-allauth's."""

from django.contrib.auth.decorators import login_not_required
from django.urls import path
from django.views.i18n import set_language

from accounts import views

urlpatterns = [
    path("", views.home, name="home"),
    # Whoever signs in may choose the language first.
    path("language/", login_not_required(set_language), name="set_language"),
]
