"""The addresses of people and of what belongs to them; those of signing in are django-allauth's."""

from django.contrib.auth.decorators import login_not_required
from django.urls import path
from django.views.i18n import set_language

from accounts import views

urlpatterns = [
    path("", views.home, name="home"),
    # Whoever signs in may choose the language first.
    path("language/", login_not_required(set_language), name="set_language"),
    path("t/<slug:team>/members/", views.member_list, name="members"),
    path("t/<slug:team>/members/add/", views.member_add, name="member_add"),
    path("t/<slug:team>/members/<int:membership_id>/", views.member_change, name="member_change"),
    path("t/<slug:team>/settings/", views.settings, name="settings"),
    path("t/<slug:team>/settings/tokens/", views.token_list, name="tokens"),
    path("t/<slug:team>/settings/tokens/new/", views.token_new, name="token_new"),
    path("t/<slug:team>/settings/tokens/<int:token_id>/revoke/", views.token_revoke, name="token_revoke"),
]
