"""Who looks after which people and teams by API: one rule for all of it."""

from dataclasses import dataclass

from django.db.models import Q, QuerySet

from accounts.callers import Caller
from accounts.errors import NotFound, NotPermitted, Refusal
from accounts.models import Membership, Team, User
from accounts.roles import Right, Role


class UserNotFound(NotFound):
    """Nobody, or somebody whom the caller does not look after."""

    code = "user_not_found"


class TeamNeeded(Refusal):
    """The platform's staff must say which team they mean."""

    code = "team_required"
    status = 400


@dataclass(frozen=True)
class Overseer:
    """A caller in view of people and teams.

    The platform's staff who are signed in themselves look after all of them, everybody else after the people of the team
    that they act in, as far as their role or token manages it. `caller` is None for people who name no team of theirs;
    `team` is the one that the call is about, which staff may name without being in it.
    """

    user: User
    address: str
    caller: Caller | None
    team: Team | None

    @property
    def is_staff(self) -> bool:
        return self.user.is_staff and not (self.caller and self.caller.token)

    @property
    def is_superuser(self) -> bool:
        """Only they make staff, and change them."""
        return self.is_staff and self.user.is_superuser

    def require(self, right: Right, *, permission: str) -> None:
        """Raise NotPermitted without the right; staff have every right that is about people and teams."""
        if self.is_staff:
            return
        if self.caller is None:
            raise NotPermitted("This needs a team in which you may do it.", details={"required_permission": permission})
        self.caller.require(right, permission=permission)

    def require_staff(self, what: str, *, permission: str) -> None:
        """Raise NotPermitted for everybody but staff; `what` is what they alone do."""
        if not self.is_staff:
            raise NotPermitted(
                f"Only the platform's staff {what}, signed in to the portal and not by a team's token.",
                details={"required_permission": permission},
            )

    def require_superuser(self, what: str) -> None:
        if not self.is_superuser:
            raise NotPermitted(f"Only an administrator of the platform {what}.", details={"required_permission": "admin.users"})

    def people(self) -> QuerySet[User]:
        """Everybody whom they look after; only themselves while no team is named."""
        if self.is_staff:
            return User.objects.all()
        return User.objects.filter(memberships__team=self.team) if self.team else User.objects.filter(pk=self.user.pk)

    def person(self, user_id: int) -> User:
        """One of these. Raises UserNotFound."""
        found = self.people().filter(pk=user_id).first() if user_id < 2**63 else None
        if found is None:
            raise UserNotFound(f"User not found: {user_id}", hint="List the people whom you look after with GET /api/users.")
        return found

    def teams(self) -> QuerySet[Team]:
        """The teams that they see: all for staff, one for a token, else those that they are in."""
        if self.is_staff:
            return Team.objects.all()
        if self.caller and self.caller.token:
            return Team.objects.filter(pk=self.caller.team.pk)
        return Team.objects.filter(pk__in=Membership.objects.filter(user=self.user).values("team"))

    def team_named(self, text: str) -> Team:
        """One of these, by its number or its slug. Raises NotFound."""
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0
        found = self.teams().filter(Q(slug=text) | Q(pk=number)).order_by("pk").first()
        if found is None:
            raise NotFound(f"Team not found: {text}", hint="List the teams that you see with GET /api/orgs/1/teams.")
        return found

    def acting_in(self, team: Team) -> Caller:
        """The caller that they are in one team. Staff act there as an owner would; raises NotFound for a team that is not theirs."""
        if self.is_staff:
            rights = frozenset({Right.READ, Right.QUEUE, Right.MANAGE})
            return Caller(team=team, user=self.user, role=Role.OWNER, rights=rights, token=None, address=self.address)
        if self.caller is not None and self.caller.team == team:
            return self.caller
        membership = Membership.objects.filter(team=team, user=self.user).first()
        if membership is None or (self.caller and self.caller.token):
            raise NotFound(f"Team not found: {team.slug}")
        return Caller(team=team, user=self.user, role=membership.role, rights=membership.rights, token=None, address=self.address)

    def acting(self) -> Caller:
        """The same in the team that the call is about. Raises TeamNeeded."""
        if self.team is None:
            raise TeamNeeded("Say which team this is about.", hint="Add ?team=<slug> or the header X-Team.", field="team")
        return self.acting_in(self.team)

    def membership_of(self, person: User) -> Membership:
        """The person's place in the team that the call is about. Raises TeamNeeded, UserNotFound."""
        found = self.acting().team.memberships.select_related("user").filter(user=person).first()
        if found is None:
            raise UserNotFound(f"{person.username} is not in the team {self.team}.", hint="Add them to the team first.")
        return found
