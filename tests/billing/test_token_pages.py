"""The pages of API tokens: made with the least, shown once, revoked by who may."""

import html
import re
from datetime import timedelta
from urllib.parse import quote

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import audit, tokens
from accounts.models import APIToken, AuditLine
from accounts.roles import Role
from billing import services as billing
from billing.models import Hold, PriceLine, SpendLimit
from tests.billing.factories import PriceLineFactory
from tests.billing.test_token_limits import caller_with
from tests.factories import MembershipFactory, make_token
from tests.pages import INLINE
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


def text_of(response):
    """What a page says, without its marks and runs of blanks."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split()).replace(" ,", ",")


def spend(token, *, usd, charge=None):
    line = PriceLine.objects.first() or PriceLineFactory()
    now, number = timezone.now(), Hold.objects.count()
    held = billing.hold(
        team=token.team, amount=int(usd * 1_000_000), reference=f"job:t-{number}", what_for="Training", price_line=line,
        user=token.made_by, token=token, now=now,
    )  # fmt: skip
    if charge is not None:
        billing.settle(held.hold, charge=int(charge * 1_000_000), now=now)


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
        with django_assert_num_queries(10):
            client.get(address("tokens", team))

    make(client, team, amount="5", period="daily")
    ask()
    make(client, team, amount="5", period="weekly")
    make(client, team, amount="5", period="monthly")
    ask()


def test_a_token_is_made_with_a_limit_which_is_shown_with_what_is_left(client, team, member):
    make(client, team, amount="5.50", period="weekly")
    token = APIToken.objects.get()
    spend(token, usd=1, charge=0.25)
    spend(token, usd=2)

    pages = [text_of(client.get(address(name, team, *args))) for name, *args in (("tokens",), ("token", token.pk))]

    limit = token.spend_limits.get()
    assert (limit.scope, limit.amount, limit.period, limit.action) == ("token", 5_500_000, "weekly", "block")
    for page in pages:
        assert "At most $5.50 a week $0.25 used, $2.00 held, $3.25 left" in page
    assert "Charged so far $0.25 Held $2.00" in pages[1]


def test_a_limit_is_changed_and_lifted_on_the_tokens_page(client, team, member):
    token, _ = make_token(member)
    said = []

    for amount, period in (("3", "daily"), ("4", "monthly"), ("", "monthly"), ("3", "daily")):
        client.post(address("token_limit", team, token.pk), {"amount": amount, "period": period})
        said.append([(limit.amount, limit.period) for limit in SpendLimit.objects.filter(token=token, is_enabled=True)])

    assert said == [[(3_000_000, "daily")], [(4_000_000, "monthly")], [], [(3_000_000, "daily")]]
    assert AuditLine.objects.filter(event_type="quota.changed", target_id=token.key_prefix).count() == 4
    assert 'value="3.00"' in client.get(address("token_limit", team, token.pk)).content.decode()


@pytest.mark.parametrize(("amount", "says"), [("-1", "greater than or equal to 0"), ("x", "Enter a number"), ("0.001", "decimal places")])
def test_a_limit_that_is_none_is_refused_at_its_field(client, team, amount, says):
    response = make(client, team, amount=amount)

    assert says in str(response.context["form"].errors["amount"])
    assert (APIToken.objects.count(), SpendLimit.objects.count()) == (0, 0)


def test_a_token_is_rotated_and_both_work_for_the_overlap(client, team, member):
    token, former = make_token(member, scopes=["read", "submit"], allowed_addresses=["127.0.0.1"])

    page = text_of(client.post(address("token_rotate", team, token.pk), {"overlap": "3"}))

    plain = re.search(r"Authorization: Bearer (th_\w+)", page)[1]
    successor = APIToken.objects.get(replaces=token)
    assert "works for 2 days, 23 hours more" in page.replace("\xa0", " ")
    assert Client().get("/api/cloud/jobs", headers={"X-API-Key": plain}).status_code == 200
    assert Client().get("/api/cloud/jobs", headers={"X-API-Key": former}).status_code == 200
    assert (successor.scopes, successor.allowed_addresses, successor.made_by) == (token.scopes, token.allowed_addresses, member.user)
    listed = text_of(client.get(address("tokens", team))).replace("\xa0", " ")
    assert "Replaced, works for 2 days, 23 hours more" in listed
    assert plain[11:] not in listed


def test_without_an_overlap_the_former_token_is_refused_at_once(client, team, member):
    token, former = make_token(member)

    page = text_of(client.post(address("token_rotate", team, token.pk), {"overlap": "0"}))

    assert f"The former one ({token.key_prefix}…) is refused from now on." in page
    assert Client().get("/api/cloud/jobs", headers={"X-API-Key": former}).status_code == 401
    assert client.get(address("token_rotate", team, token.pk)).status_code == 404
    assert client.get(address("token", team, token.pk)).status_code == 200


@pytest.mark.parametrize("overlap", ["8", "-1", "", "soon"])
def test_an_overlap_is_0_to_7_days(client, team, member, overlap):
    token, _ = make_token(member)

    response = client.post(address("token_rotate", team, token.pk), {"overlap": overlap})

    assert (list(response.context["form"].errors), APIToken.objects.count()) == (["overlap"], 1)


@pytest.mark.parametrize(("days", "mark"), [(29, ""), (30, "Unused for 30 days"), (89, "Unused for 30 days"), (90, "Unused for 90 days")])
def test_a_token_that_nobody_uses_is_marked(client, team, member, days, mark):
    token, _ = make_token(member, expires_in=None)
    APIToken.objects.filter(pk=token.pk).update(
        created_at=timezone.now() - timedelta(days=200), last_used_at=timezone.now() - timedelta(days=days)
    )

    page = text_of(client.get(address("tokens", team)))

    assert re.findall(r"Unused for \d+ days", page) == ([mark] if mark else [])


def test_a_token_whose_maker_has_left_is_marked(client, team, member):
    colleague = MembershipFactory(team=team, role=Role.RESEARCHER)
    make_token(colleague)
    member.role = Role.OWNER
    member.save()
    before = text_of(client.get(address("tokens", team)))

    colleague.delete()

    assert ["Its maker has left" in page for page in (before, text_of(client.get(address("tokens", team))))] == [False, True]


def test_the_page_of_a_token_tells_what_was_changed_with_it(client, team, member):
    token, plain = make_token(member)
    Client().post("/api/cloud/datasets", {"name": "x"}, headers={"Authorization": f"Bearer {plain}"})
    audit.record(team=team, event_type="job.submitted", action="Submitted j-x", caller=caller_with(token))
    audit.record(team=team, event_type="job.submitted", action="Submitted by hand", by=member.user)

    page = text_of(client.get(address("token", team, token.pk)))

    assert ("Submitted j-x" in page, "Submitted by hand" in page, "POST /api/cloud/datasets" in page) == (True, False, True)


@pytest.mark.parametrize("name", ["token_rotate", "token_limit", "token_revoke"])
def test_who_signed_in_long_ago_confirms_before_a_token_is_changed(client, team, member, name):
    token, _ = make_token(member)
    sign_in(client, member.user, seconds_ago=3600)

    answers = [client.get(address(name, team, token.pk)), client.post(address(name, team, token.pk), {"overlap": "0", "amount": "1"})]

    expected = f"{reverse('account_reauthenticate')}?next={quote(address(name, team, token.pk), safe='')}"
    assert [(answer.status_code, answer["Location"]) for answer in answers] == [(302, expected)] * 2
    assert (APIToken.objects.get().revoked_at, SpendLimit.objects.count()) == (None, 0)


@pytest.mark.parametrize("name", ["token", "token_rotate", "token_limit", "token_revoke"])
def test_anothers_token_and_a_foreign_one_are_not_found(client, team, name):
    others, foreign = make_token(MembershipFactory(team=team))[0], make_token()[0]

    assert [client.get(address(name, team, token.pk)).status_code for token in (others, foreign)] == [404, 404]
    assert [client.post(address(name, team, token.pk), {"overlap": "0"}).status_code for token in (others, foreign)] in (
        [404] * 2,
        [405] * 2,
    )
    assert APIToken.objects.count() == 2


@pytest.mark.parametrize("name", ["tokens", "token_new"])
def test_no_page_carries_scripts_or_styles_of_its_own(client, team, name):
    assert INLINE.findall(client.get(address(name, team)).content.decode()) == []
