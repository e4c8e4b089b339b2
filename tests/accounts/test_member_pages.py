"""The pages of members: who sees them, who changes them, and that an owner always stays."""

import pytest
from django.urls import reverse

from accounts import members
from accounts.callers import Caller
from accounts.models import AuditLine, Membership
from accounts.roles import Role
from tests.billing.factories import race
from tests.factories import MembershipFactory, UserFactory
from tests.jobs.test_pages import INLINE


@pytest.fixture
def owner(client, db):
    owner = MembershipFactory()
    client.force_login(owner.user)
    return owner


@pytest.fixture
def team(owner):
    return owner.team


def address(name, team, *args):
    return reverse(name, args=[team.slug, *args])


def role_of(membership):
    return Membership.objects.filter(pk=membership.pk).values_list("role", flat=True).first()


def test_somebody_with_an_account_is_added_with_a_role(client, team, owner):
    person = UserFactory()

    page = client.post(address("member_add", team), {"email": person.email.upper(), "role": "lead"}, follow=True).content.decode()

    assert (f"{person} is in the team now." in page, team.memberships.get(user=person).role) == (True, "lead")
    line = AuditLine.objects.get(event_type="member.added")
    assert (line.team, line.actor_id, line.after) == (team, owner.user.pk, {"role": "lead"})


@pytest.mark.parametrize(
    ("email", "role", "field", "says"),
    [
        ("nobody@example.com", "lead", "email", "Nobody has an account with this address."),
        ("no address", "lead", "email", "Enter a valid email address."),
        ("", "lead", "email", "This field is required."),
        ("new@example.com", "boss", "role", "Select a valid choice"),
        ("owner@example.com", "lead", "email", "is in the team already."),
    ],
)
def test_what_is_wrong_stands_at_its_field(client, team, owner, email, role, field, says):
    UserFactory(email="new@example.com")
    owner.user.email = "owner@example.com"
    owner.user.save()

    response = client.post(address("member_add", team), {"email": email, "role": role})

    assert list(response.context["form"].errors) == [field]
    assert says in str(response.context["form"].errors[field])
    assert team.memberships.count() == 1


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
    assert (role_of(owner), AuditLine.objects.count()) == ("owner", 0)


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
    client.force_login(MembershipFactory(team=team, role=role).user)

    looks = client.get(address("members", team))
    changes = [client.get(address("member_add", team)).status_code, client.get(address("member_change", team, owner.pk)).status_code]
    sent = client.post(address("member_change", team, owner.pk), {"role": "nonsense"}).status_code

    assert (looks.status_code, changes, sent) == (200, [status] * 2, status)
    assert (address("member_add", team) in looks.content.decode()) is (status == 200)
    assert INLINE.findall(looks.content.decode()) == []


def test_a_stranger_finds_nobody(client, team, owner):
    stranger = MembershipFactory()
    client.force_login(stranger.user)

    answers = [
        client.get(address(name, team, *args)).status_code for name, *args in (["members"], ["member_add"], ["member_change", owner.pk])
    ]

    assert answers == [404] * 3
    assert client.post(address("member_change", stranger.team, owner.pk), {"remove": "1"}).status_code == 404


def test_the_list_asks_as_often_for_many_as_for_one(client, team, django_assert_num_queries):
    def ask():
        with django_assert_num_queries(6):
            client.get(address("members", team))

    ask()
    MembershipFactory(team=team)
    ask()
