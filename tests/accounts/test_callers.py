"""Who gets in by which door, as whom, and with what rights."""

import pytest
from django.test import Client, RequestFactory
from django.utils import timezone

from accounts import tokens
from accounts.callers import PERMISSION_OF_RIGHT, Caller, address_of
from accounts.errors import NotPermitted
from accounts.models import APIToken
from accounts.roles import Right, Role
from tests.factories import MembershipFactory, TeamFactory, UserFactory, make_token

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.accounts.urls")]


def sign_in(user, **options):
    client = Client(**options)
    client.force_login(user)
    return client


def suspend(team):
    team.suspended_at = timezone.now()
    team.save()


# API: tokens


@pytest.mark.parametrize(
    "header", [{"X-API-Key": "{}"}, {"Authorization": "Bearer {}"}, {"Authorization": "ApiKey {}"}, {"Authorization": "bearer {}"}]
)
def test_a_token_comes_in_by_every_documented_header(client, header):
    token, plain = make_token()

    answer = client.get("/api/work", headers={name: form.format(plain) for name, form in header.items()})

    assert answer.status_code == 200
    assert answer.json() == {"team": token.team.slug, "user": token.made_by.username, "role": "owner", "address": "127.0.0.1"}


def test_nobody_is_told_how_to_sign_in(client):
    answer = client.get("/api/work")

    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.json()["code"] == "authentication_required"
    assert answer.json()["detail"] == "Authentication required. Send an API key as X-API-Key or Authorization: Bearer."


@pytest.mark.parametrize("path", ["/api/work", "/api/open"])
@pytest.mark.parametrize(
    "headers", [{"X-API-Key": "th_wrong"}, {"X-API-Key": ""}, {"Authorization": "Bearer"}, {"Authorization": "Bearer th_wrong"}]
)
def test_a_wrong_token_is_refused_even_where_none_is_needed(client, path, headers):
    answer = client.get(path, headers=headers)

    assert (answer.status_code, answer.json()["code"], answer["WWW-Authenticate"]) == (401, "invalid_token", "Bearer")
    assert answer.json()["detail"] == "The API token is not valid. It may be mistyped, expired or revoked."


def test_a_wrong_token_is_not_saved_by_a_good_cookie():
    client = sign_in(MembershipFactory().user)
    assert client.get("/api/work").status_code == 200

    assert client.get("/api/work", headers={"X-API-Key": "th_wrong"}).status_code == 401


def test_other_schemes_are_none_of_our_business(client):
    assert client.get("/api/open", headers={"Authorization": "Basic YTpi"}).json() == {"known": False}


def test_a_revoked_token_is_refused_on_the_next_request(client):
    token, plain = make_token()
    assert client.get("/api/work", headers={"X-API-Key": plain}).status_code == 200

    tokens.revoke(token, by=token.made_by)

    assert client.get("/api/work", headers={"X-API-Key": plain}).status_code == 401


def test_a_token_without_the_right_is_told_which_permission_it_lacks(client):
    _, plain = make_token(scopes=["read"])

    answer = client.get("/api/manage", headers={"X-API-Key": plain})

    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert answer.json()["details"] == {"required_permission": PERMISSION_OF_RIGHT[Right.MANAGE]}


def test_a_token_from_a_foreign_address_is_403(client):
    _, plain = make_token(allowed_addresses=["192.0.2.0/24"])

    answer = client.get("/api/work", headers={"X-API-Key": plain})

    assert (answer.status_code, answer.json()["code"]) == (403, "ip_not_allowed")


def test_the_use_of_a_token_is_kept_with_its_route(client):
    token, plain = make_token()

    client.post("/api/pieces/17", headers={"X-API-Key": plain})

    token.refresh_from_db()
    assert (token.last_used_endpoint, token.last_used_address) == ("POST /api/pieces/<int:number>", "127.0.0.1")
    assert token.last_used_at is not None


def test_a_call_with_a_token_costs_two_queries_and_then_one(client, django_assert_num_queries):
    _, plain = make_token()

    with django_assert_num_queries(2):
        client.get("/api/work", headers={"X-API-Key": plain})
    with django_assert_num_queries(1):
        client.get("/api/work", headers={"X-API-Key": plain})


def test_a_token_needs_no_csrf_token():
    _, plain = make_token()

    assert Client(enforce_csrf_checks=True).post("/api/work", headers={"X-API-Key": plain}).status_code == 200


def test_a_token_cannot_make_a_stronger_one():
    membership = MembershipFactory(role=Role.OWNER)
    weak, _ = make_token(membership, scopes=["admin"])
    caller = Caller(team=weak.team, user=membership.user, role=weak.role, rights=weak.rights, token=weak, address="")

    same, _ = make_token(membership, scopes=["admin"], caller=caller)
    with pytest.raises(NotPermitted):
        make_token(membership, scopes=["admin", "submit"], caller=caller)

    assert set(APIToken.objects.all()) == {weak, same}


# API: cookies


def test_a_cookie_means_the_only_team():
    membership = MembershipFactory(role=Role.VIEWER)

    answer = sign_in(membership.user).get("/api/work")

    assert answer.json() == {"team": membership.team.slug, "user": membership.user.username, "role": "viewer", "address": "127.0.0.1"}


def test_a_cookie_with_several_teams_must_name_one():
    user = UserFactory()
    first, second = MembershipFactory(user=user, role=Role.VIEWER), MembershipFactory(user=user, role=Role.OWNER)
    client = sign_in(user)

    unnamed = client.get("/api/work")
    by_query = client.get("/api/work", {"team": first.team.slug})
    by_header = client.get("/api/work", headers={"X-Team": second.team.slug})

    assert (unnamed.status_code, unnamed.json()["code"]) == (400, "team_required")
    assert (by_query.json()["team"], by_query.json()["role"]) == (first.team.slug, "viewer")
    assert (by_header.json()["team"], by_header.json()["role"]) == (second.team.slug, "owner")


def test_a_cookie_without_a_team_is_told_so():
    answer = sign_in(UserFactory()).get("/api/work")

    assert (answer.status_code, answer.json()["code"]) == (400, "team_required")


def test_a_cookie_does_not_reach_a_foreign_team():
    client = sign_in(MembershipFactory().user)
    foreign = TeamFactory()

    answers = [client.get("/api/work", {"team": slug}) for slug in (foreign.slug, "nowhere")]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json() | {"request_id": ""} == answers[1].json() | {"request_id": ""}


def test_writes_by_cookie_need_the_csrf_token():
    client = sign_in(MembershipFactory().user, enforce_csrf_checks=True)
    assert client.get("/api/work").status_code == 200

    assert client.post("/api/work").status_code == 403

    client.cookies["csrftoken"] = "a" * 32
    assert client.post("/api/work", headers={"X-CSRFToken": "a" * 32}).status_code == 200


def test_the_cookie_of_somebody_deactivated_is_nobodys():
    membership = MembershipFactory()
    client = sign_in(membership.user)
    assert client.get("/api/work").status_code == 200

    membership.user.is_active = False
    membership.user.save()

    assert client.get("/api/work").status_code == 401


def test_a_suspended_team_is_read_only_by_every_door():
    token, plain = make_token()
    client = sign_in(token.made_by)
    page = f"/teams/{token.team.slug}/pieces/1"
    doors = [("/api/work", {}), ("/api/work", {"X-API-Key": plain}), (page, {})]
    assert [client.post(path, headers=headers).status_code for path, headers in doors] == [200, 200, 200]

    suspend(token.team)

    assert [client.get(path, headers=headers).status_code for path, headers in doors] == [200, 200, 200]
    assert [client.post(path, headers=headers).status_code for path, headers in doors] == [403, 403, 403]
    assert "suspended" in client.post("/api/work").json()["detail"]


# Pages


def test_a_page_is_404_to_strangers_and_403_to_members_without_the_right():
    owner, viewer = MembershipFactory(role=Role.OWNER), MembershipFactory(role=Role.VIEWER)
    viewer.team = owner.team
    viewer.save()
    stranger = MembershipFactory(role=Role.OWNER).user
    page = f"/teams/{owner.team.slug}/settings"

    statuses = [sign_in(user).get(page).status_code for user in (owner.user, viewer.user, stranger)]

    assert statuses == [200, 403, 404]
    assert sign_in(owner.user).get("/teams/nowhere/settings").status_code == 404


def test_a_page_is_given_its_team_and_caller():
    owner = MembershipFactory(role=Role.OWNER)

    answer = sign_in(owner.user).get(f"/teams/{owner.team.slug}/settings")

    assert answer.content.decode() == f"{owner.team.slug} {owner.user.username} owner"


def test_every_right_has_a_name_that_clients_know():
    assert set(PERMISSION_OF_RIGHT) == set(Right)


# Addresses


@pytest.mark.parametrize(
    ("peer", "headers", "address"),
    [
        ("203.0.113.9", {}, "203.0.113.9"),
        ("203.0.113.9", {"X-Forwarded-For": "192.0.2.1", "X-Real-IP": "192.0.2.1"}, "203.0.113.9"),
        ("10.0.0.2", {"X-Forwarded-For": "192.0.2.66, 192.0.2.1"}, "192.0.2.1"),
        ("10.0.0.2", {"X-Forwarded-For": "192.0.2.66, 192.0.2.1, 10.0.0.3"}, "192.0.2.1"),
        ("10.0.0.2", {"X-Forwarded-For": "10.0.0.4, 10.0.0.3"}, "10.0.0.4"),
        ("10.0.0.2", {"X-Forwarded-For": "192.0.2.1, nonsense"}, "10.0.0.2"),
        ("10.0.0.2", {"X-Real-IP": "192.0.2.1"}, "192.0.2.1"),
        ("10.0.0.2", {}, "10.0.0.2"),
        ("::ffff:10.0.0.2", {"X-Forwarded-For": "2001:DB8::1"}, "2001:db8::1"),
        ("::1", {"X-Forwarded-For": "192.0.2.1"}, "192.0.2.1"),
        ("fe80::1%eth0", {}, "fe80::1"),
        ("", {"X-Forwarded-For": "192.0.2.1"}, ""),
    ],
)
def test_only_trusted_proxies_may_speak_for_another(settings, peer, headers, address):
    settings.TRUSTED_PROXIES = ["10.0.0.0/8", "::1"]

    request = RequestFactory().get("/", headers=headers, REMOTE_ADDR=peer)

    assert address_of(request) == address
