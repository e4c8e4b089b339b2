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
    "scoped_permissions": type(None),
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
