"""How the API's addresses are written down: each with and without a trailing slash, and never by redirect."""

from django.urls import URLPattern, re_path
from rest_framework.views import APIView


def both(path: str, view: type[APIView], name: str | None = None) -> URLPattern:
    return re_path(rf"^{path}/?$", view.as_view(), name=name)
