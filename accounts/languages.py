"""Which language a person reads: of the pages while they are signed in, and of their mails.

Before somebody signs in it is the browser's, by its cookie or else by what it asks for, as Django's LocaleMiddleware finds it.
"""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import signals as auth
from django.http import HttpRequest, HttpResponse
from django.utils import translation

from accounts.models import User


class LanguageMiddleware:
    """Shows pages in the language of whoever is signed in. The API speaks English to everybody, so that it is left alone."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not _is_api(request) and isinstance(request.user, User):
            speak_to(request, request.user)
        return self.get_response(request)


def speak_to(request: HttpRequest, person: User) -> None:
    """Answer this request in the person's language, if one is known."""
    if person.language:
        translation.activate(person.language)
        request.LANGUAGE_CODE = translation.get_language()


def connect() -> None:
    """Listen for sign-ins, by whichever door. Called once, when the app is ready."""
    auth.user_logged_in.connect(keep_first, dispatch_uid="accounts.languages.keep_first")


def keep_first(request: HttpRequest | None, user: User, **_: Any) -> None:
    """Keep the language of the page by which somebody signed in, while none is known. Nobody chose it, so it is no line of the trail."""
    seen = getattr(request, "LANGUAGE_CODE", "")
    if seen and request is not None and not _is_api(request) and not user.language:
        User.objects.filter(pk=user.pk, language="").update(language=seen)
        user.language = seen


def is_offered(language: str) -> bool:
    """Whether there are words in this language here."""
    return language in dict(settings.LANGUAGES)


def keep_in_browser(response: HttpResponse, language: str) -> None:
    """Have the browser ask for it as well, so that the pages before the next sign-in are in it."""
    response.set_cookie(
        settings.LANGUAGE_COOKIE_NAME,
        language,
        max_age=settings.LANGUAGE_COOKIE_AGE,
        path=settings.LANGUAGE_COOKIE_PATH,
        domain=settings.LANGUAGE_COOKIE_DOMAIN,
        secure=settings.LANGUAGE_COOKIE_SECURE,
        httponly=settings.LANGUAGE_COOKIE_HTTPONLY,
        samesite=settings.LANGUAGE_COOKIE_SAMESITE,  # type: ignore[arg-type]  # a plain text to the stubs
    )


def _is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")
