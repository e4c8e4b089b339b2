"""People of two teams do anything in any order, through the pages: what may happen happens, and nothing else.

The model is the plain reading of the rules: who is what in which team, which invites are open, which tokens live.
"""

from dataclasses import dataclass, field

from django.core import mail
from django.db import transaction
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from accounts import audit, tasks
from accounts.models import APIToken, Invite, Membership, User
from accounts.roles import RIGHTS_OF_SCOPE, Right, Role, Scope, rights_of
from tests.factories import PASSWORD, MembershipFactory, TeamFactory, UserFactory
from tests.mail import link_in
from tests.signing_in import sign_in
from tests.thoroughness import FULL

PEOPLE, TEAMS = 5, 2
# The first two own a team each at first, and so may do most.
people = st.one_of(st.integers(0, 1), st.integers(0, PEOPLE - 1))
teams = st.integers(0, TEAMS - 1)
roles = st.sampled_from(list(Role))
anything = st.integers(0, 10_000)


@dataclass
class Asked:
    """An invite as the model knows it."""

    pk: int
    team: int
    email: str
    role: str
    inviter: int
    link: str
    is_open: bool = True


@dataclass
class Made:
    """A token as the model knows it."""

    pk: int
    team: int
    maker: int
    plain: str
    rights: frozenset = field(default_factory=frozenset)
    is_alive: bool = True


class Company(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.rollback = transaction.atomic()
        self.rollback.__enter__()
        self.users = [UserFactory() for _ in range(PEOPLE)]
        self.teams = [TeamFactory() for _ in range(TEAMS)]
        self.browsers = [Client() for _ in range(PEOPLE)]
        for browser, user in zip(self.browsers, self.users, strict=True):
            sign_in(browser, user)
        self.roles = {}
        for number, team in enumerate(self.teams):
            # One person owns one team, one is a viewer in both.
            self._put(number, team, Role.OWNER)
            self._put(2, team, Role.VIEWER)
        self.invites: list[Asked] = []
        self.tokens: list[Made] = []

    def teardown(self):
        transaction.set_rollback(True)
        self.rollback.__exit__(None, None, None)

    def _put(self, person, team, role):
        MembershipFactory(team=team, user=self.users[person], role=role)
        self.roles[self.teams.index(team), person] = role

    # --- What the model says ---

    def may(self, person, team, right):
        return right in rights_of(self.roles.get((team, person), ""))

    def refusal(self, person, team):
        """How a page answers whoever may not: not there for strangers, forbidden for members."""
        return 403 if (team, person) in self.roles else 404

    def is_last_owner(self, team, person):
        return [who for (where, who), role in self.roles.items() if where == team and role == Role.OWNER] == [person]

    def goes(self, team, person):
        """Somebody is not in the team any more, and their invites end."""
        del self.roles[team, person]
        self.end_invites(team, person)

    def becomes(self, team, person, role):
        was, self.roles[team, person] = self.roles[team, person], role
        if was == Role.OWNER and role != Role.OWNER:
            self.end_invites(team, person)

    def end_invites(self, team, person):
        for asked in self.invites:
            if (asked.team, asked.inviter) == (team, person):
                asked.is_open = False

    # --- Doors ---

    def post(self, person, name, team, /, *args, **said):
        return self.browsers[person].post(reverse(name, args=[self.teams[team].slug, *args]), said)

    def membership(self, which):
        """Any membership of either team, with the numbers of its team and person."""
        row = list(Membership.objects.order_by("pk"))[which % Membership.objects.count()]
        team = next(number for number, known in enumerate(self.teams) if known.pk == row.team_id)
        person = next(number for number, known in enumerate(self.users) if known.pk == row.user_id)
        return row.pk, team, person

    # --- What people do ---

    @rule(actor=people, team=teams, guest=st.one_of(people, st.none()), role=roles)
    def invite(self, actor, team, guest, role):
        email = self.users[guest].email if guest is not None else "newcomer@example.com"
        is_free = (team, guest) not in self.roles and not any(
            one.is_open and (one.team, one.email) == (team, email) for one in self.invites
        )
        if guest is None and User.objects.filter(email=email).exists():
            return
        mail.outbox.clear()
        answer = self.post(actor, "member_invite", team, email=email, role=role, days=7)
        tasks.send_mail()
        if not self.may(actor, team, Right.MANAGE):
            assert (answer.status_code, len(mail.outbox)) == (self.refusal(actor, team), 0)
        elif not is_free:
            assert (answer.status_code, len(mail.outbox)) == (200, 0)
        else:
            assert answer.status_code == 302
            (message,) = mail.outbox
            link = link_in(message).removeprefix("http://testserver")
            self.invites.append(Asked(Invite.objects.latest("pk").pk, team, email, role, actor, link))

    @precondition(lambda self: self.invites)
    @rule(actor=people, which=anything)
    def accept(self, actor, which):
        asked = self.invites[which % len(self.invites)]
        answer = self.browsers[actor].post(asked.link)
        if not asked.is_open:
            assert answer.status_code == 410
        elif self.users[actor].email != asked.email:
            assert answer.status_code == 200
        else:
            assert answer.status_code == 302
            asked.is_open = False
            self.roles.setdefault((asked.team, actor), asked.role)

    @precondition(lambda self: any(asked.email.startswith("newcomer") for asked in self.invites))
    @rule(which=anything, says=st.sampled_from(["newcomer", "newcomer-2"]))
    def come_as_a_newcomer(self, which, says):
        theirs = [asked for asked in self.invites if asked.email.startswith("newcomer")]
        asked = theirs[which % len(theirs)]
        is_new = not User.objects.filter(email=asked.email).exists()
        account = {"display_name": "New", "username": says, "password1": PASSWORD, "password2": PASSWORD}
        browser = Client()
        answer = browser.post(asked.link, account)
        if not asked.is_open:
            assert answer.status_code == 410
        elif not is_new:
            assert answer.status_code == 200
        else:
            assert answer.status_code == 302
            asked.is_open = False
            self.users.append(User.objects.get(email=asked.email))
            self.browsers.append(browser)
            self.roles[asked.team, len(self.users) - 1] = asked.role

    @precondition(lambda self: self.invites)
    @rule(actor=people, team=teams, which=anything)
    def take_back_an_invite(self, actor, team, which):
        asked = self.invites[which % len(self.invites)]
        answer = self.post(actor, "invite_change", team, asked.pk, revoke="1")
        if not self.may(actor, team, Right.MANAGE):
            assert answer.status_code == self.refusal(actor, team)
        elif asked.team != team or not asked.is_open:
            assert answer.status_code == 404
        else:
            assert answer.status_code == 302
            asked.is_open = False

    @rule(actor=people, team=teams, which=anything, role=roles)
    def change_a_role(self, actor, team, which, role):
        key, home, person = self.membership(which)
        answer = self.post(actor, "member_change", team, key, role=role)
        if not self.may(actor, team, Right.MANAGE):
            assert answer.status_code == self.refusal(actor, team)
        elif home != team:
            assert answer.status_code == 404
        elif self.is_last_owner(team, person) and role != Role.OWNER:
            assert answer.status_code == 200
        else:
            assert answer.status_code == 302
            self.becomes(team, person, role)

    @rule(actor=people, team=teams, which=anything)
    def remove(self, actor, team, which):
        key, home, person = self.membership(which)
        answer = self.post(actor, "member_change", team, key, remove="1")
        if not self.may(actor, team, Right.MANAGE):
            assert answer.status_code == self.refusal(actor, team)
        elif home != team:
            assert answer.status_code == 404
        elif self.is_last_owner(team, person):
            assert answer.status_code == 200
        else:
            assert answer.status_code == 302
            self.goes(team, person)

    @rule(actor=people, team=teams, which=anything)
    def hand_over(self, actor, team, which):
        key, home, person = self.membership(which)
        answer = self.post(actor, "member_hand_over", team, key)
        if not self.may(actor, team, Right.MANAGE):
            assert answer.status_code == self.refusal(actor, team)
        elif home != team or person == actor:
            assert answer.status_code == 404
        else:
            assert answer.status_code == 302
            self.becomes(team, person, Role.OWNER)
            self.becomes(team, actor, Role.LEAD)

    @rule(actor=people, team=teams)
    def leave(self, actor, team):
        answer = self.post(actor, "member_leave", team)
        if (team, actor) not in self.roles:
            assert answer.status_code == 404
        else:
            assert answer.status_code == 302
            if not self.is_last_owner(team, actor):
                self.goes(team, actor)

    @rule(actor=people, team=teams, scopes=st.sets(st.sampled_from(list(Scope)), min_size=1))
    def make_a_token(self, actor, team, scopes):
        before = APIToken.objects.count()
        answer = self.post(actor, "token_new", team, name="t", scopes=sorted(scopes), expires_in="90")
        if not self.may(actor, team, Right.TOKENS_OWN):
            assert (answer.status_code, APIToken.objects.count()) == (self.refusal(actor, team), before)
        elif "plain" in (answer.context or {}):
            made = APIToken.objects.latest("pk")
            allowed = frozenset().union(*(RIGHTS_OF_SCOPE[scope] for scope in scopes)) & rights_of(self.roles[team, actor])
            self.tokens.append(Made(made.pk, team, actor, answer.context["plain"], allowed))
        else:
            # A scope that gives this role nothing is not offered.
            assert APIToken.objects.count() == before

    @precondition(lambda self: self.tokens)
    @rule(actor=people, team=teams, which=anything)
    def revoke_a_token(self, actor, team, which):
        made = self.tokens[which % len(self.tokens)]
        answer = self.post(actor, "token_revoke", team, made.pk)
        if not self.may(actor, team, Right.TOKENS_OWN):
            assert answer.status_code == self.refusal(actor, team)
        elif made.team != team or not made.is_alive or not (made.maker == actor or self.may(actor, team, Right.MANAGE)):
            assert answer.status_code == 404
        else:
            assert answer.status_code == 302
            made.is_alive = False

    # --- What can be seen of it ---

    @rule(actor=people, team=teams)
    def look(self, actor, team):
        slug = self.teams[team].slug
        seen = [self.browsers[actor].get(reverse(name, args=[slug])).status_code for name in ("members", "team_general")]
        is_member, is_owner = (team, actor) in self.roles, self.may(actor, team, Right.MANAGE)
        assert seen == [200 if is_member else 404, 200 if is_owner else self.refusal(actor, team)]

    @precondition(lambda self: self.tokens)
    @rule(which=anything)
    def call_with_a_token(self, which):
        made = self.tokens[which % len(self.tokens)]
        answer = Client().get("/api/cloud/jobs", headers={"Authorization": f"Bearer {made.plain}"})
        assert answer.status_code == (200 if made.is_alive else 401)

    @invariant()
    def everybody_is_what_the_rules_made_them(self):
        numbers = {user.pk: number for number, user in enumerate(self.users)}
        homes = {team.pk: number for number, team in enumerate(self.teams)}
        rows = Membership.objects.values_list("team_id", "user_id", "role")
        assert {(homes[team], numbers[user]): role for team, user, role in rows} == self.roles

    @invariant()
    def every_team_has_an_owner(self):
        assert {team for (team, _person), role in self.roles.items() if role == Role.OWNER} == set(range(TEAMS))

    @invariant()
    def only_who_may_give_a_role_has_promised_it(self):
        still = {(asked.pk, asked.role) for asked in self.invites if asked.is_open}
        assert set(Invite.objects.open().values_list("pk", "role")) == still
        assert all(self.may(asked.inviter, asked.team, Right.MANAGE) for asked in self.invites if asked.is_open)

    @invariant()
    def no_token_may_more_than_its_maker_might(self):
        for token in APIToken.objects.filter(pk__in=[made.pk for made in self.tokens]):
            assert token.rights == next(made.rights for made in self.tokens if made.pk == token.pk)

    @invariant()
    def the_audit_trail_is_whole(self):
        assert all(audit.verify(team).valid for team in self.teams)


def test_no_order_of_doings_breaks_the_rules(db, settings):
    settings.EMAIL_BACKEND = "tests.mail.EmailBackend"

    run_state_machine_as_test(
        Company,
        settings=hypothesis_settings(
            max_examples=300 if FULL else 12,
            stateful_step_count=40 if FULL else 20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
