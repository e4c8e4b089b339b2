"""Signing in as people do, for pages that ask for a fresh sign-in."""

import time
from typing import Any

from allauth.account.internal.flows import login
from allauth.account.internal.userkit import user_id_to_str


def sign_in(client: Any, user: Any, *, seconds_ago: int = 0) -> None:
    """Sign a person in who confirmed it by their password so long ago."""
    client.force_login(user)
    session = client.session
    session[login.AUTHENTICATION_METHODS_SESSION_KEY] = [{"method": "password", "at": time.time() - seconds_ago, "reauthenticated": True}]
    session[login._AUTHENTICATION_METHODS_USER_SESSION_KEY] = user_id_to_str(user)
    session.save()
