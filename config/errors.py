"""The error pages: JSON below /api/, a page in the person's language elsewhere. Never a traceback."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from config.api import json_error


def _answer(request: HttpRequest, status: int, detail: str) -> HttpResponse:
    if request.path.startswith("/api/"):
        return json_error(request, status=status, detail=detail)
    return render(request, f"shared/{status}.html", {"request_id": getattr(request, "correlation_id", "")}, status=status)


def bad_request(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return _answer(request, 400, "The request could not be read.")


def forbidden(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return _answer(request, 403, "Your role or token does not allow this.")


def not_found(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return _answer(request, 404, "Not found.")


def too_many_requests(request: HttpRequest) -> HttpResponse:
    """django-allauth asks for this page when somebody signs in, resets or signs up too often."""
    return _answer(request, 429, "Rate limit exceeded. Please try again later.")


def server_error(request: HttpRequest) -> HttpResponse:
    return _answer(request, 500, "Something went wrong here. It was logged; give the request id to an administrator.")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return _answer(request, 403, "The form was too old or came from another page. Reload the page and send it again.")
