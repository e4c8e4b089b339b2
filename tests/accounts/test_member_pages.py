"""The pages of members: who sees them, who changes them, and that an owner always stays."""

from urllib.parse import quote

import pytest
from django.core import mail
from django.urls import reverse
from django.utils import timezone

from accounts import audit, invites, members, tasks, tokens
from accounts.callers import Caller
from accounts.errors import NotPermitted
from accounts.models import AuditLine, Credential, Letter, Membership
from accounts.roles import Role
from tests.billing.factories import race
from tests.factories import CredentialFactory, MembershipFactory, UserFactory, make_token
from tests.jobs.ready import caller_of
from tests.pages import INLINE
from tests.signing_in import sign_in


def pages_with(owner):
    """Every page of a team's members, with what it needs beside the team."""
    return [["members"], ["member_invite"], ["member_leave"], ["roles"], ["member_change", owner.pk], ["member_hand_over", owner.pk]]


@pytest.fixture
def owner(client, db):
    owner = MembershipFactory()
    sign_in(client, owner.user)
    return owner


@pytest.fixture
def team(owner):
    return owner.team


def address(name, team, *args):
    return reverse(name, args=[team.slug, *args])


def role_of(membership):
    return Membership.objects.filter(pk=membership.pk).values_list("role", flat=True).first()


def test_a_role_is_changed_and_a_person_removed(client, team):
    member = MembershipFactory(team=team, role=Role.VIEWER)

    client.post(address("member_change", team, member.pk), {"role": "researcher"})
    changed = role_of(member)
    client.post(address("member_change", team, member.pk), {"remove": "1"})

    assert (changed, role_of(member)) == ("researcher", None)
    lines = AuditLine.objects.filter(team=team).order_by("sequence").values_list("event_type", "before", "after")
    assert list(lines) == [
        ("user.level.changed", {"role": "viewer"}, {"role": "researcher"}),
        ("member.removed", {"role": "researcher"}, {}),
    ]


@pytest.mark.parametrize("sent", [{"role": "lead"}, {"remove": "1"}])
def test_the_last_owner_stays(client, team, owner, sent):
    MembershipFactory(team=team, user=UserFactory(is_active=False), role=Role.OWNER)

    response = client.post(address("member_change", team, owner.pk), sent)

    assert "The team would be left without an owner." in str(response.context["form"].errors)
    assert (role_of(owner), team.audit_lines.count()) == ("owner", 0)


def test_an_owner_who_goes_lands_outside_the_team(client, team, owner):
    MembershipFactory(team=team)

    response = client.post(address("member_change", team, owner.pk), {"remove": "1"})

    assert (response["Location"], client.get(address("members", team)).status_code) == (reverse("home"), 404)


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_leave_at_once_leave_one():
    first = MembershipFactory()
    second = MembershipFactory(team=first.team)
    caller = Caller(team=first.team, user=first.user, role=first.role, rights=first.rights, token=None, address="")

    outcomes = race(lambda number: members.remove(caller, [first, second][number]), times=2, threads=2)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LastOwner", "NoneType"]
    assert first.team.memberships.count() == 1


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.RESEARCHER, 403), (Role.LEAD, 403), (Role.OWNER, 200)])
def test_all_members_look_and_owners_change(client, team, owner, role, status):
    sign_in(client, MembershipFactory(team=team, role=role).user)

    looks = client.get(address("members", team))
    changes = [client.get(address(*page)).status_code for page in (("member_invite", team), ("member_change", team, owner.pk))]
    sent = client.post(address("member_change", team, owner.pk), {"role": "nonsense"}).status_code

    assert (looks.status_code, changes, sent) == (200, [status] * 2, status)
    assert (address("member_invite", team) in looks.content.decode()) is (status == 200)
    assert INLINE.findall(looks.content.decode()) == []


def test_a_stranger_finds_nobody(client, team, owner):
    stranger = MembershipFactory()
    sign_in(client, stranger.user)

    answers = [client.get(address(name, team, *args)).status_code for name, *args in pages_with(owner)]

    assert answers == [404] * 6
    assert client.post(address("member_change", stranger.team, owner.pk), {"remove": "1"}).status_code == 404


def test_the_list_asks_as_often_for_many_as_for_one(client, team, django_assert_num_queries):
    def ask():
        with django_assert_num_queries(9):
            client.get(address("members", team))

    def invite(email):
        invites.invite(caller_of(team.memberships.first()), email=email, role="viewer")

    invite("a@example.com")
    ask()
    MembershipFactory(team=team)
    invite("b@example.com")
    ask()


# --- Handing over and leaving --------------------------------------------------------------------------------


def test_an_owner_hands_over_in_one_step(client, team, owner):
    heir = MembershipFactory(team=team, role=Role.RESEARCHER)

    asked = client.get(address("member_hand_over", team, heir.pk))
    page = client.post(address("member_hand_over", team, heir.pk), follow=True).content.decode()

    assert (asked.status_code, role_of(heir), role_of(owner)) == (200, "owner", "lead")
    assert "owns the team now, and you are a lead." in page
    lines = AuditLine.objects.filter(team=team).order_by("sequence").values_list("event_type", "target_id", "after", "reason")
    assert list(lines) == [
        ("user.level.changed", str(heir.user_id), {"role": "owner"}, "hand-over"),
        ("user.level.changed", str(owner.user_id), {"role": "lead"}, "hand-over"),
    ]


def test_a_team_is_not_handed_to_who_cannot_sign_in(client, team, owner):
    heir = MembershipFactory(team=team, role=Role.LEAD, user=UserFactory(is_active=False))

    client.post(address("member_hand_over", team, heir.pk))

    assert (role_of(heir), role_of(owner)) == ("lead", "owner")


def test_a_team_is_not_handed_to_oneself_or_a_stranger(client, team, owner):
    answers = [client.post(address("member_hand_over", team, row.pk)).status_code for row in (owner, MembershipFactory())]

    assert (answers, role_of(owner)) == ([404, 404], "owner")


@pytest.mark.parametrize("role", [Role.VIEWER, Role.RESEARCHER, Role.LEAD])
def test_every_member_leaves_by_themselves(client, team, role):
    member = MembershipFactory(team=team, role=role)
    sign_in(client, member.user)

    asked = client.get(address("member_leave", team))
    page = client.post(address("member_leave", team), follow=True).content.decode()

    assert (asked.status_code, role_of(member), "any more." in page) == (200, None, True)
    assert client.get(address("members", team)).status_code == 404
    line = AuditLine.objects.get(event_type="member.removed")
    assert (line.actor_id, line.target_id, line.before) == (member.user_id, str(member.user_id), {"role": role})


def test_the_last_owner_cannot_leave(client, team, owner):
    page = client.post(address("member_leave", team), follow=True).content.decode()

    assert ("The team would be left without an owner." in page, role_of(owner)) == (True, "owner")


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_hand_over_to_each_other_at_once_keep_one():
    first = MembershipFactory()
    second = MembershipFactory(team=first.team)
    callers = [caller_of(first), caller_of(second)]

    race(lambda number: members.hand_over(callers[number], [second, first][number]), times=2, threads=2)

    assert first.team.memberships.filter(role="owner").count() >= 1


def test_a_token_hands_nothing_over_and_does_not_leave(owner, team):
    token, _plain = make_token(owner)
    caller = Caller(team=team, user=owner.user, role="owner", rights=token.rights, token=token, address="")
    heir = MembershipFactory(team=team)

    for act in (lambda: members.hand_over(caller, heir), lambda: members.leave(caller)):
        with pytest.raises(NotPermitted):
            act()


# --- What hangs on a person -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["removed", "left"])
def test_who_goes_leaves_tokens_and_takes_credentials_and_invites(owner, team, how, settings):
    settings.EMAIL_BACKEND = "tests.mail.EmailBackend"
    member = MembershipFactory(team=team, role=Role.OWNER)
    token, plain = make_token(member, name="trainer")
    mine = CredentialFactory(team=team, user=member.user)
    elsewhere = CredentialFactory(user=member.user)
    of_the_team = CredentialFactory(team=team)
    invites.invite(caller_of(member), email="new@example.com", role="viewer")

    if how == "removed":
        members.remove(caller_of(owner), member, site="https://tunehouse.test")
    else:
        members.leave(caller_of(member), site="https://tunehouse.test")
    tasks.send_mail()

    assert set(Credential.objects.in_use()) == {elsewhere, of_the_team}
    assert mine.pk not in set(Credential.objects.in_use().values_list("pk", flat=True))
    assert tokens.find(plain, address="", now=timezone.now()) == token
    assert not team.invites.open().exists()
    (message,) = mail.outbox
    assert (message.to, str(token) in message.body) == ([owner.user.email], True)
    assert f"https://tunehouse.test/t/{team.slug}/settings/tokens/" in message.body
    assert audit.verify(team).valid


def test_owners_are_told_of_no_tokens_where_there_are_none(owner, team):
    members.remove(caller_of(owner), MembershipFactory(team=team))

    assert not Letter.objects.exists()


def test_sessions_of_who_was_removed_stay(client, owner, team):
    member = MembershipFactory(team=team)
    other = MembershipFactory(user=member.user)
    client.force_login(member.user)

    members.remove(caller_of(owner), member)

    assert client.get(address("members", team)).status_code == 404
    assert client.get(address("members", other.team)).status_code == 200


# --- A fresh password -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["member_invite", "member_change", "member_hand_over", "member_leave", "invite_change"])
def test_who_signed_in_long_ago_is_asked_for_the_password_first(client, owner, team, name):
    sign_in(client, owner.user, seconds_ago=3600)
    other = MembershipFactory(team=team, role=Role.VIEWER)
    invite = invites.invite(caller_of(owner), email="new@example.com", role="viewer")
    args = {"member_change": [other.pk], "member_hand_over": [other.pk], "invite_change": [invite.pk]}.get(name, [])
    there = address(name, team, *args)

    answers = [client.get(there), client.post(there, {"remove": "1", "email": "x@example.com", "role": "lead", "days": 7})]

    assert [answer["Location"] for answer in answers] == [f"{reverse('account_reauthenticate')}?next={quote(there, safe='')}"] * 2
    assert (team.memberships.count(), team.invites.open().count(), role_of(owner)) == (2, 1, "owner")
