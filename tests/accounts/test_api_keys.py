"""API keys by API: what they may do, who makes them and who ends them."""

from datetime import timedelta

import pytest
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts.models import APIToken, AuditLine
from accounts.roles import Right, Role, Scope
from tests.factories import MembershipFactory, make_token

pytestmark = pytest.mark.django_db

KEYS = ["/api/auth/api-keys", "/api/cloud/auth/api-keys", "/api/auth/api-keys/"]
PATH = KEYS[0]
INFO = {
    "id": int, "name": str, "key_prefix": str, "created_at": str, "last_used_at": type(None), "expires_at": str, "is_active": bool,
    "scoped_permissions": type(None), "scopes": list, "allowed_addresses": list,
}  # fmt: skip


@pytest.mark.parametrize("path", KEYS)
def test_a_key_is_made_shown_once_and_works(call, researcher, path):
    made = call.by_cookie(researcher.user, "post", path, {"name": "ci"}).json()

    assert {name: type(value) for name, value in made["key_info"].items()} == INFO
    assert made["key"].startswith(made["key_info"]["key_prefix"])
    assert call(made["key"], "get", "/api/users/me").json()["id"] == researcher.user.pk
    listed = call.by_cookie(researcher.user, "get", path)
    assert ([key["name"] for key in listed.json()], made["key"] in listed.content.decode()) == (["ci"], False)
    [line] = AuditLine.objects.filter(event_type="api_key.created")
    assert (line.team, line.actor, line.target_id) == (researcher.team, researcher.user.username, made["key_info"]["key_prefix"])


@pytest.mark.parametrize(("asked", "days"), [({}, 90), ({"expires_days": None}, 90), ({"expires_days": 7}, 7)])
def test_a_key_ends_after_ninety_days_unless_said(call, researcher, asked, days):
    made = call.by_cookie(researcher.user, "post", PATH, {"name": "ci"} | asked).json()

    left = parse_datetime(made["key_info"]["expires_at"]) - timezone.now()
    assert timedelta(days=days) - timedelta(minutes=5) < left <= timedelta(days=days)


@pytest.mark.parametrize(
    ("permissions", "scopes"),
    [
        (["job.submit"], ["read", "submit"]), (["job.submit", "job.cancel.own"], ["read", "submit", "cancel"]),
        (["config.view"], ["read"]), ([], ["read"]), (["config.create"], ["read", "datasets"]),
    ],
)  # fmt: skip
def test_named_permissions_become_the_scopes_that_give_no_more(call, researcher, permissions, scopes):
    made = call.by_cookie(researcher.user, "post", PATH, {"name": "ci", "scoped_permissions": permissions}).json()

    token = APIToken.objects.get()
    assert token.scopes == scopes
    assert set(permissions) <= set(made["key_info"]["scoped_permissions"])
    assert "api.keys.own" not in made["key_info"]["scoped_permissions"]


def test_a_scope_that_would_give_more_is_refused_by_name(call, owner):
    answer = call(owner, "post", PATH, {"name": "ci", "scoped_permissions": ["admin.audit"]})
    whole = ["admin.audit", "queue.approve", "job.priority.high", "api.keys.own", "admin.users"]
    made = call(owner, "post", PATH, {"name": "ci", "scoped_permissions": whole})

    assert (answer.status_code, answer.json()["field"], "admin.users" in answer.json()["detail"]) == (400, "scoped_permissions", True)
    token = APIToken.objects.get(pk=made.json()["key_info"]["id"])
    assert (token.scopes, Right.SUBMIT in token.rights, Right.MANAGE in token.rights) == (["read", "admin"], False, True)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"scoped_permissions": ["job.win"]}, "scoped_permissions"), ({"scoped_permissions": ["admin.users"]}, "scoped_permissions"),
        ({"scoped_permissions": ["job.bypass.quota"]}, "scoped_permissions"), ({"scoped_permissions": "job.submit"}, "scoped_permissions"),
        ({"name": ""}, "name"), ({"name": "x" * 101}, "name"), ({"name": None}, "name"),
        ({"scopes": "read"}, "scopes"), ({"scopes": []}, "scopes"), ({"scopes": ["win"]}, "scopes"), ({"scopes": [7]}, "scopes"),
        ({"scopes": ["read"], "scoped_permissions": []}, "scopes"), ({"allowed_addresses": "10.0.0.1"}, "allowed_addresses"),
        ({"allowed_addresses": ["everywhere"]}, "allowed_addresses"), ({"allowed_addresses": [None]}, "allowed_addresses"),
        ({"expires_days": 0}, "expires_days"), ({"expires_days": 366}, "expires_days"), ({"expires_days": True}, "expires_days"),
    ],
)  # fmt: skip
def test_a_key_that_cannot_be_is_refused_and_nothing_kept(call, researcher, wrong, field):
    answer = call.by_cookie(researcher.user, "post", PATH, {"name": "ci"} | wrong)

    assert (answer.status_code, answer.json()["field"], APIToken.objects.count()) == (400, field, 0)


def test_a_key_makes_another_with_no_more_than_its_own_scopes(call, owner):
    _, key = make_token(owner, scopes=[Scope.READ, Scope.ADMIN])

    all_of_its = call(key, "post", PATH, {"name": "child"}).json()
    beyond = call(key, "post", PATH, {"name": "child", "scoped_permissions": ["job.submit"]})

    assert APIToken.objects.get(pk=all_of_its["key_info"]["id"]).scopes == ["read", "admin"]
    assert (beyond.status_code, APIToken.objects.count()) == (400, 2)


def test_who_makes_keys(call, owner):
    viewer = MembershipFactory(team=owner.team, role=Role.VIEWER)

    denied, reader = (
        call.by_cookie(viewer.user, "post", PATH, {"name": "ci"}),
        call(owner, "post", PATH, {"name": "ci"}, scopes=[Scope.READ]),
    )

    assert (denied.status_code, denied.json()["details"], reader.status_code) == (403, {"required_permission": "api.keys.own"}, 403)
    assert (call(None, "post", PATH).status_code, call(None, "get", PATH).status_code) == (401, 401)


@pytest.mark.parametrize("path", KEYS[:2])
@pytest.mark.parametrize("ending", ["", "/"])
def test_a_revoked_key_opens_nothing_on_the_next_call(call, researcher, path, ending):
    token, key = make_token(researcher)
    before = call(key, "get", "/api/users/me").status_code

    gone = call.by_cookie(researcher.user, "delete", f"{path}/{token.pk}{ending}")

    assert (before, gone.json(), call(key, "get", "/api/users/me").status_code) == (200, {"success": True}, 401)
    assert call.by_cookie(researcher.user, "get", path).json()[0]["is_active"] is False
    assert AuditLine.objects.filter(event_type="api_key.revoked").count() == 1


def test_a_member_ends_their_own_keys_and_an_owner_all_of_the_team(call, owner, researcher):
    colleague, foreign = MembershipFactory(team=owner.team, role=Role.LEAD), MembershipFactory()
    theirs, elsewhere = make_token(colleague)[0], make_token(foreign)[0]

    answers = [
        call.by_cookie(researcher.user, "delete", f"{PATH}/{theirs.pk}"),
        call.by_cookie(owner.user, "delete", f"{PATH}/{elsewhere.pk}"),
        call.by_cookie(owner.user, "delete", f"{PATH}/{10**19}"),
        call.by_cookie(owner.user, "delete", f"{PATH}/{theirs.pk}"),
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 404, 200]
    assert APIToken.objects.filter(revoked_at=None).get() == elsewhere


def test_the_list_is_the_callers_own(call, owner, researcher):
    make_token(researcher, name="theirs")

    listed = call(owner, "get", PATH).json()

    assert [key["name"] for key in listed] == ["ci"]


def test_a_key_has_the_scopes_and_the_addresses_that_were_asked_for(call, researcher):
    asked = {"name": "ci", "scopes": ["submit", "read"], "allowed_addresses": ["192.0.2.7", "2001:db8::/32"]}

    made = call.by_cookie(researcher.user, "post", PATH, asked).json()

    assert (made["key_info"]["scopes"], made["key_info"]["allowed_addresses"]) == (["read", "submit"], ["192.0.2.7/32", "2001:db8::/32"])
    elsewhere = call(made["key"], "get", "/api/users/me")
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (403, "ip_not_allowed")


def test_a_key_asks_for_no_scope_that_the_calling_one_lacks(call, owner):
    _, key = make_token(owner, scopes=[Scope.READ, Scope.ADMIN])

    answer = call(key, "post", PATH, {"name": "more", "scopes": ["submit"]})

    assert (answer.status_code, APIToken.objects.count()) == (403, 1)


@pytest.mark.parametrize(("body", "days"), [(None, 0), ({"overlap_days": None}, 0), ({"overlap_days": 7}, 7)])
def test_a_rotated_key_works_beside_its_successor_for_as_long_as_was_said(call, researcher, body, days):
    token, plain = make_token(researcher)

    made = call.by_cookie(researcher.user, "post", f"{PATH}/{token.pk}/rotate", body).json()

    both = [call(key, "get", "/api/users/me").status_code for key in (plain, made["key"])]
    assert both == [200 if days else 401, 200]
    assert made["key_info"]["id"] == APIToken.objects.get(pk=token.pk).replaced_by_id
    left = parse_datetime(made["former_works_until"]) - timezone.now()
    assert timedelta(days=days) - timedelta(minutes=5) < left <= timedelta(days=days)


@pytest.mark.parametrize("overlap", [-1, 8, 1.5, "7", True, []])
def test_an_overlap_is_none_to_seven_whole_days(call, researcher, overlap):
    token, plain = make_token(researcher)

    answer = call.by_cookie(researcher.user, "post", f"{PATH}/{token.pk}/rotate", {"overlap_days": overlap})

    assert (answer.status_code, answer.json()["field"], call(plain, "get", "/api/users/me").status_code) == (400, "overlap_days", 200)


def test_a_key_is_rotated_once_and_only_by_those_who_may_end_it(call, owner, researcher):
    token, _ = make_token(researcher)
    path = f"{PATH}/{token.pk}/rotate"

    foreign = call(MembershipFactory(), "post", path)
    first, twice = call.by_cookie(owner.user, "post", path), call.by_cookie(owner.user, "post", path)

    assert (foreign.status_code, first.status_code, twice.status_code) == (404, 200, 409)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("post", PATH, {"name": "new"}), ("delete", f"{PATH}/{{token}}", None), ("post", f"{PATH}/{{token}}/rotate", None),
        ("post", "/api/users/me/credentials", {"provider": "replicate", "credential_name": "x", "value": "r8_" + "a" * 37}),
        ("post", "/api/users/{user}/credentials/rotate", None), ("delete", "/api/users/{user}/credentials/replicate/x", None),
        ("post", "/api/users", {"email": "n@example.com", "username": "new"}), ("delete", "/api/users/{user}", None),
        ("patch", "/api/users/{user}", {"display_name": "x"}), ("post", "/api/users/{user}/levels", {"level_name": "admin"}),
        ("post", "/api/users/{user}/deactivate", None), ("post", "/api/orgs/1/teams/{team}/members", {"email": "n@example.com"}),
        ("patch", "/api/orgs/1/teams/{team}/members/{user}", {"role": "admin"}),
        ("delete", "/api/orgs/1/teams/{team}/members/{user}", None),
    ],
)  # fmt: skip
def test_whoever_signed_in_long_ago_changes_no_secret_and_nobodys_place_by_cookie(call, owner, researcher, method, path, body):
    token, _ = make_token(owner)
    path = path.format(token=token.pk, user=researcher.user.pk, team=owner.team.slug)

    answer = call.by_cookie(owner.user, method, path, body, seconds_ago=3600)

    assert (answer.status_code, answer.json()["code"]) == (403, "confirmation_required")
    noted = AuditLine.objects.exclude(event_type__in=["auth.login.success", "security.permission_denied"])
    assert [line.event_type for line in noted] == ["api_key.created"]
    assert call.by_cookie(owner.user, "get", "/api/users", seconds_ago=3600).status_code == 200


def test_where_a_key_was_used_reads_as_an_address(call, researcher):
    token, plain = make_token(researcher)

    call(plain, "delete", f"{PATH}/{token.pk}")

    assert APIToken.objects.get().last_used_endpoint == "DELETE /api/auth/api-keys/<key_id>"
