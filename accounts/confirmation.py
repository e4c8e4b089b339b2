"""Whether who is signed in has shown lately that it is still them: for every door that gives or takes a secret."""

import time

from allauth.account import app_settings
from allauth.account.internal.flows.login import get_authentication_records
from allauth.account.internal.flows.reauthentication import did_recently_reauthenticate
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode


def is_recent(request: HttpRequest) -> bool:
    """Whether whoever is here signed in, or confirmed it, a moment ago: django-allauth would ask the first a second time."""
    if did_recently_reauthenticate(request):
        return True
    records = get_authentication_records(request, request.user)
    return bool(records) and time.time() - records[-1]["at"] < app_settings.REAUTHENTICATION_TIMEOUT


def address(request: HttpRequest) -> str:
    """Where to confirm it, and come back from."""
    return f"{reverse('account_reauthenticate')}?{urlencode({'next': request.path})}"
