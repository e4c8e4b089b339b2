"""The sign-ins that are open: listed by whichever door they came, and ended at once for whoever is deactivated."""

from typing import Any

from allauth.usersessions.models import UserSession
from django.contrib.auth import signals as auth
from django.db.models.signals import post_save
from django.http import HttpRequest

from accounts.models import User
from accounts.sessionstore import SessionKeyField


def connect() -> None:
    """Listen, and have django-allauth keep the hashes of keys. Called once, when the app is ready."""
    # Its model cannot be told otherwise. To the database the column stays what its migrations made.
    UserSession._meta.get_field("session_key").__class__ = SessionKeyField
    # Signals, since people sign in and are deactivated by several doors, and none may forget it.
    auth.user_logged_in.connect(note, dispatch_uid="accounts.sessions.note")
    post_save.connect(end_of_the_inactive, sender=User, dispatch_uid="accounts.sessions.end_of_the_inactive")


def end(user: User) -> int:
    """End all of a person's sessions; says how many."""
    ended = list(UserSession.objects.filter(user=user))
    for session in ended:
        session.end()
    return len(ended)


def note(request: HttpRequest | None, user: User, **_: Any) -> None:
    """List a sign-in; django-allauth itself lists those by its pages only."""
    if getattr(request, "user", None) == user:
        UserSession.objects.create_from_request(request)


def end_of_the_inactive(instance: User, **_: Any) -> None:
    if not instance.is_active:
        end(instance)
