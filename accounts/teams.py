"""Making a team, what it says of itself, and whether it works: suspended and released by staff, archived by an owner."""

import re
import zoneinfo
from dataclasses import asdict, dataclass

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify

from accounts import audit, credentials, tokens
from accounts.callers import Caller
from accounts.errors import Conflict, InvalidInput
from accounts.models import PLATFORM, APIToken, Credential, FormerSlug, Invite, Membership, Team, User
from accounts.roles import Right, Role

LONGEST_NAME = 100
LONGEST_SLUG = 50
LONGEST_DESCRIPTION = 500
# Source: simpletuner-api.md 5.
SLUG = re.compile(rf"[a-z0-9-]{{1,{LONGEST_SLUG}}}")


@dataclass(frozen=True)
class Profile:
    """What a team says of itself; `first_weekday` is 0 for Monday to 6 for Sunday."""

    name: str
    slug: str
    description: str
    time_zone: str
    first_weekday: int
    shows_details: bool


class SlugTaken(InvalidInput):
    """Another team has this address."""

    code = "duplicate"


def create(*, name: str, owner: User, address: str = "", slug: str = "", description: str = "") -> Team:
    """Make a team with its first owner. Without a slug one is made of the name, with a number where that is taken.

    `address` is where the owner calls from. Raises InvalidInput for a name that is none, SlugTaken.
    """
    name = _checked_name(name, field="team_name")
    with transaction.atomic():
        if slug and Team.objects.filter(slug=slug).exists():
            raise SlugTaken(f"There is a team with the slug {slug!r} already.", field="slug")
        team = Team.objects.create(name=name, slug=slug or _free_slug(name), description=description)
        Membership.objects.create(team=team, user=owner, role=Role.OWNER)
        audit.record(
            team=team, event_type="team.created", action=f"Made the team {name}", by=owner, address=address,
            target_type="team", target_id=team.slug, after={"name": name, "owner": owner.username},
        )  # fmt: skip
    return team


def profile(team: Team) -> Profile:
    return Profile(
        name=team.name,
        slug=team.slug,
        description=team.description,
        time_zone=team.time_zone,
        first_weekday=team.first_weekday,
        shows_details=team.shows_details,
    )


def change(caller: Caller, wanted: Profile) -> Team:
    """Keep what the team says of itself. Its former slug stays its own, and links with it go on working.

    Raises NotPermitted, InvalidInput, Conflict for a slug that another team has or had.
    """
    caller.require(Right.MANAGE, permission="admin.config")
    _checked_name(wanted.name)
    _check(wanted, slug_before=caller.team.slug)
    with transaction.atomic():
        team = Team.objects.select_for_update(no_key=True).get(pk=caller.team.pk)
        before = asdict(profile(team))
        after = asdict(wanted) | {"name": wanted.name.strip()}
        changed = [name for name in after if after[name] != before[name]]
        if not changed:
            return team
        if "slug" in changed:
            _move(team, wanted.slug)
        for name in changed:
            setattr(team, name, after[name])
        try:
            with transaction.atomic():
                team.save(update_fields=changed)
        except IntegrityError:
            raise Conflict("Another team took this address in this very moment.", field="slug") from None
        audit.record(
            team=team, caller=caller, event_type="team.updated", action=f"Changed the team {team}", target_type="team",
            target_id=str(team.pk), before={name: before[name] for name in changed}, after={name: after[name] for name in changed},
        )  # fmt: skip
    return team


def suspend(team: Team, *, by: User, reason: str, address: str = "") -> bool:
    """Let a team's work only be read, and hold its queue; what runs goes on to its end. Says whether it was not suspended before.

    Raises InvalidInput without a reason, which the team's members are shown.
    """
    return _set_suspended(team, by=by, reason=reason, address=address, is_suspended=True)


def release(team: Team, *, by: User, reason: str, address: str = "") -> bool:
    """Let a suspended team work again; its queue goes on by itself. Says whether it was suspended. Raises InvalidInput without a reason."""
    return _set_suspended(team, by=by, reason=reason, address=address, is_suspended=False)


def archive(caller: Caller, *, name: str) -> None:
    """Close a team for good: nobody is in it any more, and no token, credential or invite of it works. What it did stays.

    `name` is the team's, typed as a confirmation. Whoever knows what a team still does asks that first. Raises
    NotPermitted, InvalidInput for another name.
    """
    caller.require(Right.MANAGE)
    now = timezone.now()
    with transaction.atomic():
        team = Team.objects.select_for_update(no_key=True).get(pk=caller.team.pk)
        if name.strip() != team.name:
            raise InvalidInput("This is not the name of the team. Type it as it stands above.", field="name")
        # All rows are locked ahead of the first audit line, which comes last in the order of locks.
        invites = Invite.objects.open().filter(team=team)
        people = list(team.memberships.select_related("user").order_by("pk").select_for_update(of=("self",)))
        keys = list(APIToken.objects.usable(now=now).filter(team=team).order_by("pk").select_for_update(no_key=True))
        secrets = list(Credential.objects.in_use().filter(team=team).order_by("pk").select_for_update(no_key=True))
        invites.update(revoked_at=now)
        Membership.objects.filter(team=team).delete()
        Team.objects.filter(pk=team.pk).update(archived_at=now)
        for token in keys:
            tokens.revoke(token, by=caller.user, caller=caller)
        for credential in secrets:
            credentials.remove(credential, by=caller.user, caller=caller)
        audit.record(
            team=team, caller=caller, event_type="team.archived", action=f"Archived the team {team}", target_type="team",
            target_id=str(team.pk), before={"members": {person.user.username: person.role for person in people}},
        )  # fmt: skip


def reopen(team: Team, *, owner: User, by: User, address: str = "") -> bool:
    """Give an archived team an owner again, who invites the others. Says whether it was archived."""
    with transaction.atomic():
        reopened = Team.objects.filter(pk=team.pk, archived_at__isnull=False).update(archived_at=None)
        if reopened:
            Membership.objects.create(team=team, user=owner, role=Role.OWNER)
            audit.record(
                team=team, event_type="team.reopened", action=f"Reopened the team {team}", by=by, address=address,
                target_type="team", target_id=str(team.pk), after={"owner": owner.username},
            )  # fmt: skip
    return bool(reopened)


def staff_to_ask() -> list[User]:
    """Whom a team turns to that is suspended."""
    return list(User.objects.filter(is_staff=True, is_active=True).order_by("username")[:3])


def _set_suspended(team: Team, *, by: User, reason: str, address: str, is_suspended: bool) -> bool:
    if not reason.strip():
        raise InvalidInput("Say why; the reason is kept in the audit trail.", field="reason")
    now = timezone.now()
    with transaction.atomic():
        changed = Team.objects.filter(pk=team.pk, suspended_at__isnull=is_suspended).update(
            suspended_at=now if is_suspended else None, suspension_reason=reason.strip()[:500] if is_suspended else ""
        )
        if changed:
            audit.record(
                team=team, event_type="team.suspended" if is_suspended else "team.released",
                action=f"{'Suspended' if is_suspended else 'Released'} the team {team}", by=by, address=address,
                target_type="team", target_id=str(team.pk), reason=reason.strip(),
            )  # fmt: skip
    return bool(changed)


def _move(team: Team, slug: str) -> None:
    """Make a slug the team's own; the one that it had stays its own as well."""
    if Team.objects.filter(slug=slug).exists() or FormerSlug.objects.filter(slug=slug).exclude(team=team).exists():
        raise Conflict("Another team has this address, or had it.", field="slug")
    FormerSlug.objects.filter(team=team, slug=slug).delete()
    FormerSlug.objects.get_or_create(slug=team.slug, defaults={"team": team})


def _check(wanted: Profile, *, slug_before: str) -> None:
    if wanted.slug != slug_before and not SLUG.fullmatch(wanted.slug):
        raise InvalidInput(f"An address has 1 to {LONGEST_SLUG} small letters, digits and hyphens.", field="slug")
    if len(wanted.description) > LONGEST_DESCRIPTION:
        raise InvalidInput(f"A description has at most {LONGEST_DESCRIPTION} characters.", field="description")
    if wanted.time_zone not in zoneinfo.available_timezones():
        raise InvalidInput(f"There is no time zone {wanted.time_zone[:60]!r}.", field="time_zone")
    if not 0 <= wanted.first_weekday <= 6:
        raise InvalidInput("A week begins on day 0 (Monday) to 6 (Sunday).", field="first_weekday")


def _checked_name(name: str, *, field: str = "name") -> str:
    name = name.strip()
    if not name or len(name) > LONGEST_NAME:
        raise InvalidInput(f"A team's name has 1 to {LONGEST_NAME} characters.", field=field)
    return name


def _free_slug(name: str) -> str:
    plain = slugify(name)[: LONGEST_SLUG - 4].strip("-") or "team"
    taken = {
        PLATFORM,
        *Team.objects.filter(slug__startswith=plain).values_list("slug", flat=True),
        *FormerSlug.objects.filter(slug__startswith=plain).values_list("slug", flat=True),
    }
    numbered = (f"{plain}-{number}" for number in range(2, len(taken) + 3))
    return next(slug for slug in (plain, *numbered) if slug not in taken)
