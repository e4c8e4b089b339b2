"""The pages of invites: those of a team's owners, and the one that the link opens."""

import pytest
from django.core import mail
from django.urls import reverse
from django.utils import timezone

from accounts import invites, tasks
from accounts.models import Invite, Registration, User
from accounts.roles import Role
from tests.factories import PASSWORD, MembershipFactory, UserFactory
from tests.jobs.ready import caller_of
from tests.mail import link_in
from tests.pages import INLINE
from tests.signing_in import sign_in

NEW = "new@example.com"
ACCOUNT = {"display_name": "New Comer", "username": "newcomer", "password1": PASSWORD, "password2": PASSWORD}


@pytest.fixture(autouse=True)
def mail_server(settings):
    settings.EMAIL_BACKEND = "tests.mail.EmailBackend"


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


def invited(owner, email=NEW, role="researcher"):
    """An open invite, and the path of its link."""
    made = invites.invite(caller_of(owner), email=email, role=role, site="http://testserver")
    tasks.send_mail()
    return made, link_in(mail.outbox[-1]).removeprefix("http://testserver")


def test_an_owner_invites_and_sees_the_invite_until_it_is_used(client, team):
    asked = {"email": NEW, "role": "lead", "days": 3}

    page = client.post(address("member_invite", team), asked, follow=True).content.decode()
    tasks.send_mail()

    made = Invite.objects.get()
    assert (f"The invite to {NEW} is on its way." in page, NEW in page, made.role, (made.expires_at - made.created_at).days) == (
        True, True, "lead", 3,
    )  # fmt: skip
    assert link_in(mail.outbox[0]).startswith("http://testserver/invites/")


def test_the_link_leads_to_the_public_address(client, team, settings):
    settings.PUBLIC_URL = "https://tunehouse.example"

    client.post(address("member_invite", team), {"email": NEW, "role": "lead", "days": 3})
    tasks.send_mail()

    assert link_in(mail.outbox[0]).startswith("https://tunehouse.example/invites/")


def test_the_page_is_the_same_for_an_address_with_an_account(client, team):
    UserFactory(email="known@example.com")

    pages = [
        client.post(address("member_invite", team), {"email": email, "role": "viewer", "days": 7})
        for email in ("known@example.com", "other@example.com")
    ]

    assert [(page.status_code, page["Location"]) for page in pages] == [(302, address("members", team))] * 2


@pytest.mark.parametrize(
    ("asked", "field", "says"),
    [
        ({"email": "no address"}, "email", "Enter a valid email address."),
        ({"email": ""}, "email", "This field is required."),
        ({"email": "a" * 300 + "@example.com"}, "email", "at most 254 characters"),
        ({"role": "boss"}, "role", "Select a valid choice"),
        ({"days": 31}, "days", "less than or equal to 30"),
        ({"email": "owner@example.com"}, "email", "in the team already"),
    ],
)
def test_what_is_wrong_stands_at_its_field(client, team, owner, asked, field, says):
    User.objects.filter(pk=owner.user.pk).update(email="owner@example.com")

    response = client.post(address("member_invite", team), {"email": NEW, "role": "lead", "days": 7} | asked)

    assert list(response.context["form"].errors) == [field]
    assert says in str(response.context["form"].errors[field])
    assert not Invite.objects.exists()


def test_the_role_that_staff_chose_is_offered_first(client, team):
    Registration.objects.create(default_role="viewer")

    assert '<option value="viewer" selected>' in client.get(address("member_invite", team)).content.decode()


def test_without_mail_the_link_is_shown_once_and_works(client, team, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

    page = client.post(address("member_invite", team), {"email": NEW, "role": "lead", "days": 7})
    link = page.context["link"]

    assert (link in page.content.decode(), "no-store" in page["Cache-Control"]) == (True, True)
    assert link not in client.get(address("members", team)).content.decode()
    client.logout()
    client.post(link, ACCOUNT)
    assert team.memberships.get(user__email=NEW).role == "lead"


def test_an_invite_is_sent_again_and_taken_back(client, team, owner):
    made, link = invited(owner)
    Invite.objects.update(asked_at=timezone.now() - timezone.timedelta(minutes=2))
    there = address("invite_change", team, made.pk)

    assert client.get(there).status_code == 200
    client.post(there, {"resend": "1"})
    tasks.send_mail()
    soon = client.post(there, {"resend": "1"}, follow=True).content.decode()
    client.post(there, {"revoke": "1"})

    assert (len(mail.outbox), "less than a minute ago" in soon) == (2, True)
    assert (client.get(there).status_code, client.get(link).status_code) == (404, 410)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.RESEARCHER, Role.LEAD])
def test_others_see_no_invites(client, owner, team, role):
    made, _link = invited(owner)
    sign_in(client, MembershipFactory(team=team, role=role).user)

    page = client.get(address("members", team)).content.decode()

    assert (NEW in page, address("member_invite", team) in page) == (False, False)
    assert client.get(address("member_invite", team)).status_code == 403
    assert client.post(address("invite_change", team, made.pk), {"revoke": "1"}).status_code == 403


def test_a_foreign_invite_is_not_there(client, team, owner):
    foreign, _link = invited(MembershipFactory())

    assert client.post(address("invite_change", team, foreign.pk), {"revoke": "1"}).status_code == 404
    assert Invite.objects.open().filter(pk=foreign.pk).exists()


# --- The link ---------------------------------------------------------------------------------------------


def test_a_newcomer_makes_an_account_and_is_in(client, owner):
    _made, link = invited(owner)
    client.logout()

    page = client.get(link).content.decode()
    answer = client.post(link, ACCOUNT)

    assert (owner.team.name in page, 'value="new"' in page, INLINE.findall(page)) == (True, True, [])
    assert answer["Location"] == owner.team.get_absolute_url()
    assert client.get(answer["Location"]).status_code == 200
    # Typed this moment, so that the password is not asked for again.
    assert client.get(address("member_leave", owner.team)).status_code == 200
    assert client.get(link).status_code == 410


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"password1": "short", "password2": "short"}, "password1"),
        ({"password2": "another one"}, "password2"),
        ({"username": "a b"}, "username"),
        ({"username": "Taken"}, "username"),
        ({"display_name": ""}, "display_name"),
    ],
)
def test_what_is_wrong_with_the_account_stands_at_its_field(client, owner, wrong, field):
    UserFactory(username="taken")
    _made, link = invited(owner)
    client.logout()

    response = client.post(link, ACCOUNT | wrong)

    assert list(response.context["form"].errors) == [field]
    assert not User.objects.filter(email=NEW).exists()


def test_who_has_an_account_signs_in_and_comes_back(client, owner):
    person = UserFactory(email=NEW)
    _made, link = invited(owner)
    client.logout()

    page = client.get(link).content.decode()
    back = client.post(reverse("account_login"), {"login": NEW, "password": PASSWORD, "next": link})
    asked = client.get(link).content.decode()
    answer = client.post(link)

    assert f"?next={link}" in page
    assert back["Location"] == link
    assert "Come in" in asked
    assert (answer["Location"], owner.team.memberships.get(user=person).role) == (owner.team.get_absolute_url(), "researcher")


def test_an_account_is_not_made_a_second_time(client, owner):
    UserFactory(email=NEW)
    _made, link = invited(owner)
    client.logout()

    assert client.post(link, ACCOUNT).status_code == 200
    assert User.objects.filter(email=NEW).count() == 1


def test_somebody_else_is_told_to_sign_out(client, owner):
    _made, link = invited(owner)
    stranger = UserFactory()
    client.force_login(stranger)

    pages = [client.get(link).content.decode(), client.post(link).content.decode()]
    out = client.post(reverse("account_logout"), {"next": link})

    assert ["the invite went to another address" in page for page in pages] == [True, True]
    assert (stranger.teams.count(), out["Location"]) == (0, link)


def test_looking_changes_nothing(client, owner):
    made, link = invited(owner)
    client.logout()

    client.get(link)
    client.head(link)

    made.refresh_from_db()
    assert made.accepted_at is None
