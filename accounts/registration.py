"""Whether people may make accounts for themselves, and which role an owner is offered first for them."""

from django.conf import settings
from django.db import transaction

from accounts import audit
from accounts.callers import Caller
from accounts.errors import InvalidInput, NotPermitted, Refusal
from accounts.models import Registration
from accounts.roles import Role

ROLES = (Role.VIEWER, Role.RESEARCHER)
WITHOUT_MAIL = "E-mail is not set up on this server, so nobody's address can be confirmed. Its operator sets EMAIL_URL."


def current() -> Registration:
    """How it stands; closed until somebody opens it."""
    return Registration.objects.filter(pk=1).first() or Registration(pk=1)


def sends_mail() -> bool:
    """Whether a mail that this server writes goes to its reader."""
    return settings.EMAIL_BACKEND.split(".")[-2] not in settings.MAIL_GOES_NOWHERE


def change(caller: Caller, *, is_open: bool | None = None, default_role: str | None = None) -> Registration:
    """Open or close it, or choose the role; None leaves a thing as it is.

    Raises NotPermitted for everybody but staff who are signed in themselves, InvalidInput for no role at all, Refusal for
    one that gives too much.
    """
    if caller.token is not None or not caller.user.is_staff:
        raise NotPermitted(
            "Only the platform's staff change this, signed in to the portal and not by a team's token.",
            details={"required_permission": "admin.users"},
        )
    with transaction.atomic():
        Registration.objects.get_or_create(pk=1)
        kept = Registration.objects.select_for_update(no_key=True).get(pk=1)
        before = _described(kept)
        kept.is_open = kept.is_open if is_open is None else is_open
        kept.default_role = kept.default_role if default_role is None else _checked(default_role)
        kept.save()
        if _described(kept) != before:
            audit.record(
                team=None, caller=caller, event_type="config.changed", action="Changed who may make an account",
                target_type="registration", target_id="1", before=before, after=_described(kept),
            )  # fmt: skip
    return kept


def _checked(role: str) -> str:
    if role not in Role.values:
        raise InvalidInput(f"There is no level {role[:60]!r}. It can be viewer or researcher.", field="default_level")
    if role not in ROLES:
        raise Refusal(
            "Nobody becomes more than a researcher by themselves: default_level can be viewer or researcher.", field="default_level"
        )
    return role


def _described(kept: Registration) -> dict[str, object]:
    return {"enabled": kept.is_open, "default_level": kept.default_role}
