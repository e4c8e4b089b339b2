"""Credentials that people have of their own in a team, by API. What is saved never comes out again."""

from datetime import datetime

from django.utils import timezone
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import credentials
from accounts.api import caller_in, fields_of, number
from accounts.api.reading import one_of, secret, text
from accounts.api.rendering import credential as shown
from accounts.callers import Caller
from accounts.errors import NotFound, Refusal
from accounts.models import Credential, CredentialKind, CredentialQuerySet, User
from accounts.oversight import UserNotFound
from accounts.permissions import IsCaller, IsConfirmed, needs
from accounts.roles import Right

PROVIDERS = [CredentialKind.REPLICATE.value, CredentialKind.HUGGINGFACE.value, CredentialKind.S3.value]


class OfMembers(APIView):
    """Whoever manages the team looks after its members' credentials."""

    permission_classes: list[type[BasePermission]] = [needs(Right.MANAGE, permission="admin.users"), IsConfirmed]

    def person(self, request: Request, user_id: str = "") -> User:
        """The member with this id. Raises UserNotFound."""
        found = caller_in(request).team.members.filter(pk=int(user_id)).first() if int(user_id) < 2**63 else None
        if found is None:
            raise UserNotFound(f"User not found: {user_id}", hint="List the members with GET /api/users.")
        return found


class OfOneself(OfMembers):
    """The caller's own."""

    def get_permissions(self) -> list[BasePermission]:
        return [IsCaller()] if self.request.method == "GET" else [needs(Right.TOKENS_OWN, permission="api.keys.own")(), IsConfirmed()]

    def person(self, request: Request, user_id: str = "") -> User:
        return caller_in(request).user


class MemberCredentials(OfMembers):
    def get(self, request: Request, user_id: str = "") -> Response:
        """The person's own in this team; `provider` chooses among them."""
        found = _own(caller_in(request), self.person(request, user_id))
        if provider := request.query_params.get("provider"):
            found = found.filter(kind=provider)
        return Response([shown(one) for one in found])

    def post(self, request: Request, user_id: str = "") -> Response:
        """Save one, encrypted: `provider`, `credential_name`, `value`. It takes the place of the one of that name."""
        caller, given = caller_in(request), fields_of(request)
        person = self.person(request, user_id)
        kind = one_of(given, "provider", PROVIDERS)
        value = secret(given, "value")
        if problem := credentials.problem_with_pair(value) if kind == CredentialKind.S3 else credentials.problem_with_secret(kind, value):
            raise Refusal(problem, field="value")
        saved = credentials.save(
            team=caller.team,
            user=person,
            kind=kind,
            name=text(given, "credential_name", most=100, least=1),
            description=text(given, "description", most=200),
            secret=value,
            by=caller.user,
            caller=caller,
        )
        return Response({"success": True, "id": saved.pk})


class OwnCredentials(OfOneself, MemberCredentials):
    pass


class MemberCredential(OfMembers):
    def delete(self, request: Request, provider: str, name: str, user_id: str = "") -> Response:
        """Offer it no more; jobs that were admitted with it keep it."""
        caller = caller_in(request)
        found = _own(caller, self.person(request, user_id)).filter(kind=provider, name=name).first()
        if found is None or not credentials.remove(found, by=caller.user, caller=caller):
            raise NotFound(f"There is no credential {name[:100]!r} for {provider[:20]}.")
        return Response({"success": True})


class OwnCredential(OfOneself, MemberCredential):
    pass


class MemberRotation(OfMembers):
    def post(self, request: Request, user_id: str = "") -> Response:
        """Remove them all, or those of one `provider`; the person enters new ones. `reason` goes to the audit trail."""
        caller, given = caller_in(request), fields_of(request)
        person = self.person(request, user_id)
        found = _own(caller, person)
        if given.get("provider") is not None:
            found = found.filter(kind=one_of(given, "provider", PROVIDERS))
        reason = text(given, "reason", most=500)
        gone = [one for one in found if credentials.remove(one, by=caller.user, caller=caller, reason=reason)]
        return Response(
            {
                "success": True,
                "rotated_count": len(gone),
                "credentials": [{"provider": one.kind, "credential_name": one.name, "status": "deleted"} for one in gone],
                "message": _sentence(person, len(gone)),
            }
        )


class OwnRotation(OfOneself, MemberRotation):
    pass


class MemberStale(OfMembers):
    def get(self, request: Request, user_id: str) -> Response:
        """The person's own that were saved at least `days` ago, as many as the team's setting says unless sent."""
        caller, now = caller_in(request), timezone.now()
        person, days = self.person(request, user_id), _days(request)
        old = [shown(one) | {"days_old": _age(one, now)} for one in _own(caller, person) if _age(one, now) >= days]
        return Response({"user_id": person.pk, "threshold_days": days, "stale_count": len(old), "credentials": old})


class CheckStale(OfMembers):
    permission_classes = [needs(Right.MANAGE, permission="admin.users")]

    def post(self, request: Request) -> Response:
        """The same for all members: who has how many."""
        caller, now, days = caller_in(request), timezone.now(), _days(request)
        theirs = (
            caller.team.credentials.in_use().filter(user__in=caller.team.members.all()).select_related("user").order_by("user__username")
        )
        counts: dict[User, int] = {}
        for one in theirs:
            if one.user and _age(one, now) >= days:
                counts[one.user] = counts.get(one.user, 0) + 1
        listed = [{"user_id": user.pk, "username": user.username, "stale_count": count} for user, count in counts.items()]
        return Response({"threshold_days": days, "total_stale": sum(counts.values()), "users_with_stale": listed})


def _own(caller: Caller, person: User) -> CredentialQuerySet:
    return (
        Credential.objects.in_use()
        .filter(team=caller.team, user=person, kind__in=PROVIDERS)
        .select_related("user")
        .order_by("kind", "name")
    )


def _days(request: Request) -> int:
    return number(request, "days", default=caller_in(request).team.credential_days, least=1, most=365)


def _age(credential: Credential, now: datetime) -> int:
    """Whole days since it was saved."""
    return (now - credential.created_at).days


def _sentence(person: User, count: int) -> str:
    if not count:
        return f"{person.username} has no credentials that could be removed."
    return f"Removed {count} of {person.username}'s credentials. New ones must be saved before jobs can use them."
