"""Hints of SimpleTuner's pages that a person does not want to see any more."""

import re

from accounts.errors import InvalidInput
from accounts.models import DismissedHint, User

# Source: SimpleTuner's pages; those of its administration all begin alike.
NAME = re.compile(r"dataloader|git|admin_[a-z0-9_]{1,50}")


def dismissed(user: User) -> list[str]:
    """The names of the person's dismissed hints."""
    return list(DismissedHint.objects.filter(user=user).values_list("name", flat=True))


def dismiss(user: User, name: str) -> None:
    """Show a hint no more; a second time changes nothing. Raises InvalidInput for a name that no hint has."""
    DismissedHint.objects.get_or_create(user=user, name=_checked(name))


def show(user: User, name: str) -> None:
    """Show a hint again. Raises InvalidInput for a name that no hint has."""
    DismissedHint.objects.filter(user=user, name=_checked(name)).delete()


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise InvalidInput(f"There is no hint {name[:60]!r}. Hints are dataloader, git, and those that begin with admin_.", field="name")
    return name
