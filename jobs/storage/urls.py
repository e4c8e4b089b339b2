"""The addresses of the storage endpoint, with and without a trailing slash. A name may hold any character, so the view judges it."""

from django.urls import re_path

from jobs.storage import views

app_name = "storage"
urlpatterns = [
    re_path(r"^/?\Z", views.storage, name="root"),
    re_path(r"^/(?P<bucket>[^/]+)/?\Z", views.storage, name="bucket"),
    re_path(r"^/(?P<bucket>[^/]+)/(?P<name>(?s:.+))\Z", views.storage, name="object"),
]
