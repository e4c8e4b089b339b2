"""Accounts of people, as their overseers make, change and close them. One that is closed stays as a row, since jobs name it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from allauth.account.models import EmailAddress
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import translation

from accounts import audit, members
from accounts.errors import InvalidInput, NotPermitted, Refusal
from accounts.models import APIToken, Membership, Team, User
from accounts.oversight import Overseer
from accounts.roles import Right, Role

# What an owner may change of a member; the rest is the person's own, or staff's.
OWNERS_MAY_CHANGE = frozenset({"display_name", "is_active"})
FIELDS = ("email", "username", "display_name")
# What people change of themselves, as the audit trail calls it.
OWN = {"display_name": "name", "language": "language"}


class Duplicate(InvalidInput):
    """Somebody has this already."""

    code = "duplicate"


class LastAdmin(Refusal):
    """Without an administrator nobody could look after the platform any more."""

    code = "last_admin"


class Oneself(Refusal):
    """Nobody shuts themselves out."""


@dataclass(frozen=True, kw_only=True)
class NewPerson:
    """What is asked for a new account. Without a password the person sets one by "Forgot your password?"."""

    email: str
    username: str
    password: str = ""
    display_name: str = ""
    is_admin: bool = False
    role: str = Role.RESEARCHER


def create(overseer: Overseer, asked: NewPerson) -> User:
    """Make an account, and put it into the team that the call is about; staff who name none make one that is in no team.

    Raises NotPermitted, InvalidInput, Duplicate.
    """
    overseer.require(Right.MANAGE, permission="admin.users")
    if asked.is_admin:
        overseer.require_superuser("makes administrators")
    team = overseer.acting().team if overseer.team else None
    with transaction.atomic():
        person = add(
            email=asked.email, username=asked.username, password=asked.password, display_name=asked.display_name, is_admin=asked.is_admin
        )
        if team:
            Membership.objects.create(team=team, user=person, role=asked.role)
        after = {"username": person.username, "is_admin": asked.is_admin, "role": asked.role if team else None}
        _record(overseer, person, "user.created", f"Made an account for {person.username}", team=team, after=after)
    return person


def add(*, email: str, username: str, password: str, display_name: str = "", is_admin: bool = False) -> User:
    """Write a checked account down. Raises InvalidInput, Duplicate. Whoever calls leaves the audit line."""
    person = check_new(email=email, username=username, password=password, display_name=display_name)
    person.is_staff = person.is_superuser = is_admin
    _save(person)
    EmailAddress.objects.create(user=person, email=person.email, primary=True, verified=False)
    return person


def check_new(*, email: str, username: str, password: str, display_name: str = "") -> User:
    """The account as it would be written down. Raises InvalidInput, Duplicate."""
    person = User(email=User.objects.normalize_email(email.strip()), username=username.strip(), display_name=display_name.strip())
    # Before the password is hashed, which costs more than all the rest.
    _checked(person)
    _set_password(person, password)
    return person


def change(overseer: Overseer, person: User, asked: Mapping[str, Any]) -> User:
    """Change what is named: email, username, display_name, password, is_active, is_admin. The same as before changes nothing.

    Raises NotPermitted, InvalidInput, Duplicate, LastAdmin, Oneself, LastOwner.
    """
    overseer.require(Right.MANAGE, permission="admin.users")
    with transaction.atomic():
        person = User.objects.select_for_update(of=("self",), no_key=True).get(pk=person.pk)
        changed = {name: value for name, value in asked.items() if name == "password" or value != getattr(person, _attribute(name))}
        _require_may_change(overseer, person, changed)
        if not changed:
            return person
        before = {name: getattr(person, _attribute(name)) for name in changed if name != "password"}
        if changed.get("is_active") is False or changed.get("is_admin") is False:
            is_leaving = changed.get("is_active") is False
            if is_leaving:
                _refuse_oneself(overseer, person)
            require_dispensable(person, is_leaving=is_leaving)
        for name, value in changed.items():
            _set(person, name, value)
        _checked(person)
        _save(person)
        if "email" in changed:
            EmailAddress.objects.filter(user=person).delete()
            EmailAddress.objects.create(user=person, email=person.email, primary=True, verified=False)
        after = {name: value for name, value in changed.items() if name != "password"}
        if after:
            _record(overseer, person, "user.updated", f"Changed the account of {person.username}", before=before, after=after)
        if "password" in changed:
            _record(overseer, person, "user.password.changed", f"Set the password of {person.username}")
    return person


def change_oneself(person: User, asked: Mapping[str, str], *, address: str = "") -> None:
    """Change what somebody says of themselves: display_name ("" shows the user name), language. The same as before changes nothing.

    `address` is where they call from.
    """
    after = {name: value for name, value in asked.items() if value != getattr(person, name)}
    if not after:
        return
    with transaction.atomic():
        before = {name: getattr(person, name) for name in after}
        User.objects.filter(pk=person.pk).update(**after)
        for name, value in after.items():
            setattr(person, name, value)
        what = " and ".join(OWN[name] for name in after)
        audit.record(
            team=None, event_type="user.updated", action=f"{person.username} changed their {what}", by=person, address=address,
            target_type="user", target_id=str(person.pk), before=before, after=after,
        )  # fmt: skip


def close(overseer: Overseer, person: User) -> None:
    """Take a person away: out of the overseer's team, or, where staff do it or it was the only team, altogether.

    Then nobody signs in with the account, and the API tokens that the person made end. Their jobs and audit lines stay.

    Raises Oneself, LastAdmin, LastOwner.
    """
    overseer.require(Right.MANAGE, permission="admin.users")
    with transaction.atomic():
        person = User.objects.select_for_update(of=("self",), no_key=True).get(pk=person.pk)
        if not overseer.is_staff and not _is_only_here(overseer, person):
            _refuse_oneself(overseer, person)
            members.remove(overseer.acting(), overseer.membership_of(person))
            return
        _require_may_change(overseer, person, {"is_active": False})
        _refuse_oneself(overseer, person)
        require_dispensable(person, is_leaving=True)
        was_in = list(person.memberships.select_related("team"))
        person.is_active = person.is_staff = person.is_superuser = False
        person.set_unusable_password()
        person.save()
        Membership.objects.filter(user=person).delete()
        _end_tokens(overseer, person)
        before = {"teams": {membership.team.slug: membership.role for membership in was_in}}
        _record(overseer, person, "user.deleted", f"Closed the account of {person.username}", before=before)


def check_password(password: str, person: User, *, field: str = "password") -> None:
    """Raises InvalidInput for a password that this person cannot take, with what is wrong with it."""
    try:
        # The API speaks English to everybody.
        with translation.override("en"):
            validate_password(password, person)
    except ValidationError as weak:
        raise InvalidInput(" ".join(weak.messages), field=field) from None


def _require_may_change(overseer: Overseer, person: User, changed: Mapping[str, Any]) -> None:
    """The table of who may change what of whose account."""
    if "is_admin" in changed:
        overseer.require_superuser("makes administrators and unmakes them")
    if changed and person.is_staff and person != overseer.user:
        overseer.require_superuser("changes the account of one of the platform's staff")
    if overseer.is_staff:
        return
    theirs = sorted(set(changed) - OWNERS_MAY_CHANGE)
    if theirs:
        raise NotPermitted(
            f"An owner of a team cannot change {', '.join(theirs)} of a member: it is the person's own.",
            hint="The person changes it under their account, or the platform's staff do.",
            field=theirs[0],
            details={"required_permission": "admin.users"},
        )
    if "is_active" in changed and not _is_only_here(overseer, person):
        raise NotPermitted(
            f"{person.username} is in another team, too, so only the platform's staff deactivate the account.",
            hint="Take the person out of your team instead.",
            field="is_active",
            details={"required_permission": "admin.users"},
        )


def _is_only_here(overseer: Overseer, person: User) -> bool:
    """Whether the person belongs to the overseer's team alone, and to none of the platform's staff."""
    return not person.is_staff and not person.memberships.exclude(team=overseer.team).exists()


def _refuse_oneself(overseer: Overseer, person: User) -> None:
    if person == overseer.user:
        raise Oneself("Nobody takes themselves away.", hint="Ask another owner or administrator.")


def require_dispensable(person: User, *, is_leaving: bool) -> None:
    """Raise LastOwner or LastAdmin unless somebody else looks after what this person does. Theirs is the row as it was.

    `is_leaving` says that they are shut out, and not just no administrator any more. Of two who leave at once the second sees
    the first gone.
    """
    if is_leaving:
        members.keep_owners_without(person)
    if person.is_superuser and person.is_staff and person.is_active:
        admins = User.objects.select_for_update(no_key=True).filter(is_superuser=True, is_staff=True, is_active=True).order_by("pk")
        if [admin for admin in admins if admin != person] == []:
            raise LastAdmin("This is the last active administrator.", hint="Make somebody else an administrator first.")


def _end_tokens(overseer: Overseer, person: User) -> None:
    from accounts import tokens

    for token in APIToken.objects.filter(made_by=person, revoked_at=None).select_related("team"):
        tokens.revoke(token, by=overseer.user, caller=overseer.caller)


def _attribute(name: str) -> str:
    return "is_staff" if name == "is_admin" else name


def _set(person: User, name: str, value: Any) -> None:
    if name == "password":
        _set_password(person, value)
    elif name == "is_admin":
        person.is_staff = person.is_superuser = value
    else:
        setattr(person, name, value)


def _set_password(person: User, password: str) -> None:
    if not password:
        person.set_unusable_password()
        return
    check_password(password, person)
    person.set_password(password)


def _checked(person: User) -> None:
    """Raises InvalidInput for a field that cannot be kept, Duplicate for one that somebody else has."""
    with translation.override("en"):
        try:
            person.clean_fields(exclude={field.name for field in User._meta.fields} - set(FIELDS))
        except ValidationError as wrong:
            field, messages = next(iter(wrong.message_dict.items()))
            raise InvalidInput(f"{field}: {' '.join(messages)}", field=field) from None
    others = User.objects.exclude(pk=person.pk)
    if others.filter(username=person.username).exists():
        raise Duplicate(f"The user name {person.username!r} is taken.", field="username")
    if others.filter(email__iexact=person.email).exists():
        raise Duplicate("Somebody has an account with this e-mail address.", field="email", hint="Add them to the team by that address.")


def _save(person: User) -> None:
    try:
        with transaction.atomic():
            person.save()
    except IntegrityError:
        raise Duplicate("Somebody took this user name or e-mail address a moment ago.", field="username") from None


def _record(
    overseer: Overseer,
    person: User,
    event_type: str,
    action: str,
    *,
    team: Team | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """What staff do stands in the platform's chain, what an owner does in the team's."""
    chain = team or (None if overseer.is_staff else overseer.team)
    audit.record(
        team=chain, event_type=event_type, action=action, caller=overseer.caller, by=overseer.user, address=overseer.address,
        target_type="user", target_id=str(person.pk), before=before, after=after,
    )  # fmt: skip
