"""The addresses of a team's limits, below /t/<team>/."""

from django.urls import path

from billing import views

app_name = "billing"

urlpatterns = [
    path("settings/limits/", views.limit_list, name="limits"),
    path("settings/limits/new/", views.limit_new, name="limit_new"),
    path("settings/limits/<int:limit_id>/", views.limit_change, name="limit_change"),
]
