"""People, teams, levels, keys and credentials in the shapes of SimpleTuner's API. No secret is in any of them."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import Prefetch, QuerySet

from accounts import organization
from accounts.levels import ADMIN, EVERYTHING, Level, in_order, of_role
from accounts.models import APIToken, Credential, Membership, Organization, ResourceRule, Team, User
from accounts.oversight import Overseer
from accounts.roles import Scope, names_of


def stamp(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def loaded(people: QuerySet[User], overseer: Overseer) -> QuerySet[User]:
    """The people with what `person` shows of them: of their teams only those that the overseer sees."""
    seen = Membership.objects.filter(team__in=overseer.teams()).select_related("team").order_by("team__name")
    return people.prefetch_related(Prefetch("memberships", queryset=seen, to_attr="seen_memberships"), "emailaddress_set")


def person(user: User, overseer: Overseer) -> dict[str, Any]:
    """The user object. Levels and permissions are those in the team that the call is about, else in all teams that are seen."""
    [found] = people(User.objects.filter(pk=user.pk), overseer)
    return found


def people(found: QuerySet[User], overseer: Overseer) -> list[dict[str, Any]]:
    shared = {"org_id": organization.ID, "organization": brief_organization(organization.current())}
    return [_person(user, overseer) | shared for user in loaded(found, overseer)]


def _person(user: User, overseer: Overseer) -> dict[str, Any]:
    seen: list[Membership] = user.seen_memberships  # type: ignore[attr-defined]  # `loaded` put them there
    here = [membership for membership in seen if overseer.team is None or membership.team_id == overseer.team.pk]
    levels = [of_role(membership.role) for membership in here]
    rights = frozenset().union(*(membership.rights for membership in here))
    return {
        "id": user.pk,
        "email": user.email,
        "username": user.username,
        "display_name": user.display_name or None,
        "avatar_url": None,
        "auth_provider": "local",
        "is_active": user.is_active,
        "is_admin": user.is_staff,
        "email_verified": any(
            known.verified and known.email.lower() == user.email.lower()
            for known in user.emailaddress_set.all()  # type: ignore[attr-defined]  # django-allauth's
        ),
        "created_at": stamp(user.date_joined),
        "last_login_at": stamp(user.last_login),
        "levels": [brief_level(found) for found in in_order([*levels, *([ADMIN] if user.is_staff else [])])],
        "permissions": EVERYTHING if user.is_staff else names_of(rights),
        "teams": [brief_team(membership) for membership in seen],
    }


def profile(shown: dict[str, Any]) -> dict[str, Any]:
    """What of the user object is a person's own to see at a glance."""
    return {name: shown[name] for name in ("id", "email", "username", "display_name", "avatar_url", "auth_provider", "created_at")}


def brief_level(found: Level) -> dict[str, Any]:
    return {"id": found.id, "name": found.name, "priority": found.priority}


def level(found: Level) -> dict[str, Any]:
    return brief_level(found) | {"description": found.description, "is_system": True, "permissions": found.permissions}


def brief_organization(kept: Organization) -> dict[str, Any]:
    return {"id": kept.pk, "name": kept.name, "slug": organization.SLUG}


def whole_organization(kept: Organization, *, began_at: datetime, team_count: int, member_count: int) -> dict[str, Any]:
    return brief_organization(kept) | {
        "description": kept.description,
        "is_active": True,
        "created_at": stamp(began_at),
        "settings": {},
        "team_count": team_count,
        "member_count": member_count,
    }


def brief_team(membership: Membership) -> dict[str, Any]:
    team = membership.team
    return {"id": team.pk, "org_id": organization.ID, "name": team.name, "slug": team.slug, "role": of_role(membership.role).name}


def team(found: Team) -> dict[str, Any]:
    return {
        "id": found.pk,
        "org_id": organization.ID,
        "name": found.name,
        "slug": found.slug,
        "description": found.description,
        "is_active": not found.is_suspended,
        "created_at": stamp(found.created_at),
        "settings": {},
    }


def members(memberships: Iterable[Membership]) -> list[dict[str, Any]]:
    return [
        {
            "id": membership.user_id,
            "user_id": membership.user_id,
            "username": membership.user.username,
            "email": membership.user.email,
            "display_name": membership.user.display_name or None,
            "is_active": membership.user.is_active,
            "is_admin": membership.user.is_staff,
            "role": of_role(membership.role).name,
            "joined_at": stamp(membership.joined_at),
        }
        for membership in memberships
    ]


def rule(found: ResourceRule) -> dict[str, Any]:
    return {
        "id": found.pk,
        "name": found.name,
        "resource_type": found.resource_type,
        "pattern": found.pattern,
        "action": found.action,
        "priority": found.priority,
        "description": found.description,
        "levels": [{"id": of_role(role).id, "name": of_role(role).name} for role in found.roles],
        "created_at": stamp(found.created_at),
        "created_by": found.created_by_id,
    }


def key(token: APIToken, *, now: datetime) -> dict[str, Any]:
    ended = token.revoked_at is not None and token.revoked_at <= now
    return {
        "id": token.pk,
        "name": token.name,
        "key_prefix": token.key_prefix,
        "created_at": stamp(token.created_at),
        "last_used_at": stamp(token.last_used_at),
        "expires_at": stamp(token.expires_at),
        "is_active": not ended and (token.expires_at is None or token.expires_at > now),
        "scoped_permissions": None if set(token.scopes) == set(Scope.values) else names_of(token.rights),
        "scopes": token.scopes,
        "allowed_addresses": token.allowed_addresses,
    }


def whoami(token: APIToken) -> dict[str, Any]:
    """What a token may know of itself."""
    return {
        "id": token.pk,
        "name": token.name,
        "prefix": token.key_prefix,
        "scopes": token.scopes,
        "role": token.role,
        "permissions": names_of(token.rights),
        "expires_at": stamp(token.expires_at),
        "last_used": stamp(token.last_used_at),
        "allowed_addresses": token.allowed_addresses,
        "team": {"id": token.team_id, "name": token.team.name, "slug": token.team.slug},
    }


def credential(found: Credential) -> dict[str, Any]:
    return {
        "id": found.pk,
        "provider": found.kind,
        "credential_name": found.name,
        "description": found.description or None,
        "created_at": stamp(found.created_at),
        "updated_at": stamp(found.updated_at),
        "last_used_at": stamp(found.last_used_at),
        "is_active": found.removed_at is None,
    }
