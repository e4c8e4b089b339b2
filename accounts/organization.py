"""The installation as SimpleTuner's organization, of which there is exactly one, and its teams as staff and owners change them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts import audit, teams
from accounts.errors import Conflict, NotFound, Refusal
from accounts.models import Organization, Team, User
from accounts.oversight import Overseer
from accounts.roles import Right

ID = 1
SLUG = "installation"
# SimpleTuner's clients name no reason.
BY_API = "by API, without a reason"
ONLY_ONE = "This installation is the one organization, and every team belongs to it."


class OnlyOne(Refusal):
    """There is no second organization, and the first one stays."""


class OrganizationStays(Conflict):
    """The installation cannot delete itself."""


def current() -> Organization:
    """The organization, as somebody last named it."""
    return Organization.objects.filter(pk=ID).first() or Organization(pk=ID)


def began_at() -> datetime:
    """When the installation's first person came."""
    return User.objects.order_by("date_joined").values_list("date_joined", flat=True).first() or timezone.now()


def named(text: str) -> Organization:
    """The organization by its number or its slug. Raises NotFound for any other."""
    if text not in (str(ID), SLUG):
        raise NotFound(f"Organization not found: {text}", hint=f"There is one here: {ID}, {SLUG}.")
    return current()


def refuse_second() -> OnlyOne:
    return OnlyOne(f"{ONLY_ONE} A second one cannot be made.", hint="Make a team instead: POST /api/orgs/1/teams.", field="name")


def refuse_deletion() -> OrganizationStays:
    return OrganizationStays(f"{ONLY_ONE} It cannot be deleted.", hint="Suspend teams, or deactivate people.")


def change(overseer: Overseer, asked: Mapping[str, Any]) -> Organization:
    """Change its name or description. Raises NotPermitted for everybody but staff."""
    overseer.require_staff("change the organization", permission="org.edit")
    with transaction.atomic():
        Organization.objects.get_or_create(pk=ID)
        kept = Organization.objects.select_for_update(no_key=True).get(pk=ID)
        before, after = _differing(kept, asked)
        if after:
            kept.save()
            _record(overseer, None, "config.changed", "Changed the organization", before=before, after=after)
    return kept


def change_team(overseer: Overseer, team: Team, asked: Mapping[str, Any]) -> Team:
    """Change a team's name or description, or suspend it and let it work again (`is_active`, with a `reason`), which is for staff.

    Raises NotPermitted, Conflict for a team that was archived, InvalidInput.
    """
    overseer.require(Right.MANAGE, permission="team.edit")
    acting = overseer.acting_in(team)
    acting.require(Right.MANAGE, permission="team.edit")
    if "is_active" in asked:
        overseer.require_staff("suspend a team and let it work again", permission="team.edit")
    with transaction.atomic():
        kept = Team.objects.select_for_update(no_key=True).get(pk=team.pk)
        texts = {name: value for name, value in asked.items() if name not in ("is_active", "reason")}
        before, after = _differing(kept, texts)
        if after:
            kept.save()
            _record(overseer, kept, "team.updated", f"Changed the team {kept}", before=before, after=after)
        if "is_active" in asked:
            if asked["is_active"] and kept.archived_at:
                raise Conflict(f"The team {kept} was archived.", field="is_active", hint="Open it again under /admin/, Teams.")
            change = teams.release if asked["is_active"] else teams.suspend
            change(kept, by=overseer.user, reason=asked.get("reason") or BY_API, address=overseer.address)
            kept.refresh_from_db()
    return kept


def _differing(kept: Any, asked: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Set what differs; what it was and what it is now."""
    after = {name: value for name, value in asked.items() if value != getattr(kept, name)}
    before = {name: getattr(kept, name) for name in after}
    for name, value in after.items():
        setattr(kept, name, value)
    return before, after


def _record(overseer: Overseer, team: Team | None, event_type: str, action: str, *, before: Any, after: Any) -> None:
    audit.record(
        team=team, event_type=event_type, action=action, caller=overseer.caller, by=overseer.user, address=overseer.address,
        target_type="team" if team else "organization", target_id=team.slug if team else str(ID), before=before, after=after,
    )  # fmt: skip
