"""The pages of API tokens: made with the least, shown once, revoked by who may."""

import html
import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import tokens
from accounts.models import APIToken, AuditLine
from accounts.roles import Role
from tests.factories import MembershipFactory, make_token
from tests.jobs.test_pages import INLINE
from tests.signing_in import sign_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def member(client):
    member = MembershipFactory(role=Role.RESEARCHER)
    sign_in(client, member.user)
    return member


@pytest.fixture
def team(member):
    return member.team


def address(name, team, *args):
    return reverse(name, args=[team.slug, *args])


def make(client, team, **fields):
    return client.post(address("token_new", team), {"name": "ci", "scopes": ["read"], "expires_in": "90", **fields})


def test_a_token_is_made_with_the_least_and_shown_once(client, team, member):
    form = client.get(address("token_new", team)).content.decode()
    response = make(client, team)

    page = html.unescape(response.content.decode())
    token = APIToken.objects.get()
    plain = re.search(r"Authorization: Bearer (th_\w+)", page)[1]
    assert re.findall(r'value="(\w+)"[^>]*checked', form) == ["read"]
    assert tokens.find(plain, address="", now=timezone.now()) == token
    assert (token.team, token.made_by, token.scopes, token.role) == (team, member.user, ["read"], "researcher")
    assert token.expires_at - token.created_at == timedelta(days=90)
    assert "no-store" in response["Cache-Control"]
    assert plain not in client.get(address("tokens", team)).content.decode()
    assert token.key_prefix in client.get(address("tokens", team)).content.decode()
    assert AuditLine.objects.get(event_type="api_key.created").team == team


def test_the_curl_that_is_shown_works_at_once(client, team):
    page = html.unescape(make(client, team).content.decode())

    header, url = re.search(r'curl -H "Authorization: (.+?)" (http\S+?)<', page).groups()

    assert url == "http://testserver/api/cloud/jobs"
    assert Client().get(url, headers={"Authorization": header}).status_code == 200


def test_expiry_addresses_and_scopes_are_as_asked(client, team):
    make(client, team, expires_in="", scopes=["read", "submit"], allowed_addresses="192.0.2.1\n198.51.100.0/24\n")

    token = APIToken.objects.get()
    assert (token.expires_at, token.scopes) == (None, ["read", "submit"])
    assert token.allowed_addresses == ["192.0.2.1/32", "198.51.100.0/24"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes"),
        ({"scopes": ["billing"]}, "scopes"),
        ({"expires_in": "8"}, "expires_in"),
        ({"allowed_addresses": "somewhere"}, "allowed_addresses"),
    ],
)
def test_what_is_wrong_stands_at_its_field(client, team, fields, field):
    response = make(client, team, **fields)

    assert (list(response.context["form"].errors), APIToken.objects.count()) == ([field], 0)


@pytest.mark.parametrize(
    ("role", "offered"),
    [
        (Role.RESEARCHER, ["read", "submit", "cancel", "datasets", "admin"]),
        (Role.OWNER, ["read", "submit", "cancel", "datasets", "billing", "admin"]),
    ],
)
def test_only_scopes_that_give_the_role_something_are_offered(client, role, offered):
    member = MembershipFactory(role=role)
    sign_in(client, member.user)

    form = client.get(address("token_new", member.team)).context["form"]

    assert [value for value, _ in form.fields["scopes"].choices] == offered


def test_who_signed_in_long_ago_confirms_first(client, team, member):
    sign_in(client, member.user, seconds_ago=3600)

    answers = [client.get(address("token_new", team)), make(client, team)]

    expected = f"{reverse('account_reauthenticate')}?next=%2Ft%2F{team.slug}%2Fsettings%2Ftokens%2Fnew%2F"
    assert [(answer.status_code, answer["Location"]) for answer in answers] == [(302, expected)] * 2
    assert APIToken.objects.count() == 0
    assert "ci" not in str(dict(client.session))


def test_people_see_and_revoke_their_own_and_owners_all(client, team, member):
    owner = MembershipFactory(team=team, role=Role.OWNER)
    own, theirs = make_token(member, name="mine")[0], make_token(owner, name="the owner's")[0]

    page = client.get(address("tokens", team)).content.decode()
    refused = client.post(address("token_revoke", team, theirs.pk)).status_code
    sign_in(client, owner.user)
    asked = client.get(address("token_revoke", team, own.pk)).content.decode()
    client.post(address("token_revoke", team, own.pk))

    assert [token.key_prefix in page for token in (own, theirs)] == [True, False]
    assert (refused, "It was never used." in asked) == (404, True)
    assert list(team.api_tokens.filter(revoked_at=None)) == [theirs]
    assert AuditLine.objects.get(event_type="api_key.revoked").actor_id == owner.user.pk
    assert own.key_prefix not in client.get(address("tokens", team)).content.decode()


def test_a_foreign_token_is_not_found(client, team, member):
    foreign, _ = make_token()

    assert client.post(address("token_revoke", team, foreign.pk)).status_code == 404
    assert APIToken.objects.get(pk=foreign.pk).revoked_at is None


@pytest.mark.parametrize("name", ["settings", "tokens", "token_new"])
def test_viewers_and_strangers_have_no_tokens(client, team, name):
    viewer, stranger = MembershipFactory(team=team, role=Role.VIEWER), MembershipFactory()
    answers = []
    for person in (viewer, stranger):
        sign_in(client, person.user)
        answers.append(client.get(address(name, team)).status_code)

    assert answers == [403, 404]


def test_the_list_asks_as_often_for_three_tokens_as_for_one(client, team, member, django_assert_num_queries):
    def ask():
        with django_assert_num_queries(6):
            client.get(address("tokens", team))

    make_token(member)
    ask()
    make_token(member)
    make_token(member)
    ask()


@pytest.mark.parametrize("name", ["tokens", "token_new"])
def test_no_page_carries_scripts_or_styles_of_its_own(client, team, name):
    assert INLINE.findall(client.get(address(name, team)).content.decode()) == []
