"""What SimpleTuner's command line sends for `auth status`, `auth setup`, `auth users` and `auth orgs`, and what it reads of the answers.

It reads most fields without a guard: one that is missing, or of another type, is a traceback in somebody's terminal.

Source: simpletuner-api.md 1.4 and 18.
"""

from typing import Any

import pytest

from accounts.models import ResourceRule, User
from accounts.roles import Role
from tests.calls import Calls
from tests.factories import PASSWORD, CredentialFactory, MembershipFactory

pytestmark = pytest.mark.django_db

USER = {"id": int, "username": str, "email": str}
LISTED_USER = USER | {"is_active": bool, "is_admin": bool}
ME = LISTED_USER | {
    "display_name": (str, type(None)), "email_verified": bool, "auth_provider": str, "created_at": str,
    "last_login_at": (str, type(None)), "levels": [{"name": str, "priority": int}], "permissions": [str],
}  # fmt: skip
RULE = {"id": int, "name": str, "resource_type": str, "pattern": str, "action": str}
ORG = {"id": int, "name": str, "slug": str, "is_active": bool}
WHOLE_ORG = ORG | {"description": str, "created_at": str, "settings": dict}
TEAM = {"id": int, "org_id": int, "name": str, "slug": str, "description": str, "is_active": bool, "created_at": str, "settings": dict}
DONE = {"success": True}

# Command: method, path, body, what is read. The command line's key is an owner's.
READS: list[tuple[str, str, str, Any, Any]] = [
    ("auth status", "get", "/api/users/meta/auth-status", None, {"in_use": bool, "user_count": int, "has_external_providers": bool}),
    ("auth setup", "get", "/api/auth/setup/status", None, {"needs_setup": bool, "user_count": int}),
    ("users list", "get", "/api/users?limit=100&offset=0", None, [LISTED_USER]),
    ("users me", "get", "/api/users/me", None, ME),
    ("users get", "get", "/api/users/{member}", None, ME),
    ("users create", "post", "/api/users", {"email": "n@example.com", "username": "newbie", "level_names": ["researcher"]}, USER),
    ("users update", "patch", "/api/users/{member}", {"display_name": "New"}, {}),
    ("users deactivate", "post", "/api/users/{member}/deactivate", None, DONE),
    ("users activate", "post", "/api/users/{member}/activate", None, DONE),
    ("users delete", "delete", "/api/users/{member}", None, DONE),
    (
        "users levels list", "get", "/api/users/meta/levels", None,
        [{"id": int, "name": str, "priority": int, "is_system": bool, "permissions": [str]}],
    ),
    ("users assign-level", "post", "/api/users/{member}/levels", {"level_name": "lead"}, DONE),
    ("users remove-level", "delete", "/api/users/{member}/levels/researcher", None, DONE),
    ("users permissions", "get", "/api/users/meta/permissions", None, [{"id": int, "name": str, "category": str, "description": str}]),
    (
        "users credentials", "get", "/api/users/{member}/credentials", None,
        [{"id": int, "provider": str, "credential_name": str, "is_active": bool, "updated_at": str}],
    ),
    (
        "users set-credential", "post", "/api/users/{member}/credentials",
        {"provider": "huggingface", "credential_name": "hub", "value": "hf_x"}, DONE,
    ),
    ("users delete-credential", "delete", "/api/users/{member}/credentials/replicate/api_token", None, DONE),
    ("users rotate-credentials", "post", "/api/users/{member}/credentials/rotate", None, {"rotated_count": int, "message": str}),
    (
        "users stale-credentials", "get", "/api/users/{member}/credentials/stale?days=1", None,
        {"stale_count": int, "credentials": [{"provider": str, "credential_name": str, "days_old": int}]},
    ),
    (
        "users check-stale-credentials", "post", "/api/users/credentials/check-stale?days=1", None,
        {"total_stale": int, "users_with_stale": [{"username": str, "user_id": int, "stale_count": int}]},
    ),
    ("users rules list", "get", "/api/users/resource-rules", None, [RULE]),
    (
        "users rules create", "post", "/api/users/resource-rules", {"name": "r", "resource_type": "config", "pattern": "*"},
        {"id": int, "name": str},
    ),
    ("users rules update", "put", "/api/users/resource-rules/{rule}", {"pattern": "x*"}, {}),
    ("users rules assign", "post", "/api/users/levels/2/rules/{rule}", None, {}),
    ("users rules remove", "delete", "/api/users/levels/2/rules/{rule}", None, {}),
    ("users rules delete", "delete", "/api/users/resource-rules/{rule}", None, {}),
    ("orgs list", "get", "/api/orgs", None, {"organizations": [ORG]}),
    ("orgs get", "get", "/api/orgs/1", None, {"organization": WHOLE_ORG}),
    (
        "orgs members", "get", "/api/orgs/1/members", None,
        {"organization": {"name": str}, "members": [USER | {"is_admin": bool}]},
    ),
    ("orgs add-member", "post", "/api/orgs/1/members/{member}", None, DONE),
    ("orgs teams", "get", "/api/orgs/1/teams", None, {"organization": {"name": str}, "teams": [TEAM]}),
    ("orgs team-get", "get", "/api/orgs/1/teams/{team}", None, {"team": TEAM}),
    ("orgs team-update", "patch", "/api/orgs/1/teams/{team}", {"name": "Other"}, {}),
    (
        "orgs team-members", "get", "/api/orgs/1/teams/{team}/members", None,
        {"team": {"name": str}, "members": [{"user_id": int, "username": str, "role": str}]},
    ),
    ("orgs team-remove-member", "delete", "/api/orgs/1/teams/{team}/members/{member}", None, DONE),
]  # fmt: skip

# What this platform does otherwise: the command prints `detail`, a sentence.
REFUSED = [
    ("users levels create", "post", "/api/users/levels", {"name": "intern"}, 501),
    ("users levels update", "put", "/api/users/levels/1", {"description": "x"}, 422),
    ("users levels delete", "delete", "/api/users/levels/1", None, 422),
    ("users set-permission", "post", "/api/users/{member}/permissions", {"permission_name": "job.submit", "granted": True}, 501),
    ("users remove-permission", "delete", "/api/users/{member}/permissions/job.submit", None, 501),
    ("orgs create", "post", "/api/orgs", {"name": "Two", "slug": "two"}, 422),
    ("orgs update", "patch", "/api/orgs/1", {"name": "Two"}, 403),
    ("orgs delete", "delete", "/api/orgs/1", None, 409),
    ("orgs remove-member", "delete", "/api/orgs/1/members/{member}", None, 422),
    ("orgs team-create", "post", "/api/orgs/1/teams", {"name": "Two", "slug": "two"}, 403),
    ("orgs team-delete", "delete", "/api/orgs/1/teams/{team}", None, 403),
    ("orgs team-add-member", "post", "/api/orgs/1/teams/{team}/members", {"user_id": 999999, "role": "member"}, 404),
]


@pytest.fixture
def house(db):
    """An owner's team with a researcher who has a credential, and a rule; the names that stand for them in paths."""
    owner = MembershipFactory(role=Role.OWNER)
    member = MembershipFactory(team=owner.team, role=Role.RESEARCHER)
    CredentialFactory(team=owner.team, user=member.user).__class__.objects.update(created_at="2026-01-01T00:00:00Z")
    rule = ResourceRule.objects.create(team=owner.team, name="r", resource_type="config", pattern="*", roles=["researcher"])
    return owner, {"member": member.user.pk, "rule": rule.pk, "team": owner.team.pk}


def run(house, method, path, body):
    """Send it as the command line does: no slash at the end, always JSON, an empty body where there is none."""
    owner, names = house
    where, _, query = path.format(**names).partition("?")
    return Calls()(owner, method, where, body, **dict(pair.split("=") for pair in query.split("&") if pair))


def problems(shown: Any, wanted: Any, at: str = "") -> list[str]:
    """Where an answer is not what is read of it. A list must have something in it, else nothing was proved."""
    if isinstance(wanted, list):
        if not isinstance(shown, list) or not shown:
            return [f"{at}: {shown!r} is no list with something in it"]
        return [problem for item in shown for problem in problems(item, wanted[0], f"{at}[]")]
    if isinstance(wanted, dict):
        if not isinstance(shown, dict):
            return [f"{at}: {shown!r} is no object"]
        return [problem for name, item in wanted.items() for problem in problems(shown.get(name, "(missing)"), item, f"{at}.{name}")]
    if isinstance(wanted, bool):
        return [] if shown is wanted else [f"{at}: {shown!r} is not {wanted}"]
    is_right = isinstance(shown, wanted) and shown != "(missing)" and not (wanted is int and isinstance(shown, bool))
    return [] if is_right else [f"{at}: {shown!r} is no {wanted}"]


@pytest.mark.parametrize(("command", "method", "path", "body", "read"), READS, ids=[entry[0] for entry in READS])
def test_a_command_finds_what_it_reads(house, command, method, path, body, read):
    answer = run(house, method, path, body)

    assert answer.status_code in (200, 201), answer.content
    assert problems(answer.json(), read) == []


@pytest.mark.parametrize(("command", "method", "path", "body", "status"), REFUSED, ids=[entry[0] for entry in REFUSED])
def test_a_command_that_is_refused_gets_a_sentence(house, command, method, path, body, status):
    answer = run(house, method, path, body)

    said = answer.json()
    assert (answer.status_code, said["success"], said["detail"] == said["error"], len(said["detail"]) > 10) == (status, False, True, True)
    assert "authentication required" not in said["detail"].lower()


def test_setup_reads_the_first_administrator(client, db):
    body = {"email": "ada@example.com", "username": "ada-l", "password": PASSWORD, "display_name": "Ada"}

    answer = client.post("/api/auth/setup/first-admin", body, content_type="application/json")

    assert problems(answer.json(), {"success": True, "user": USER, "message": str}) == []
    assert User.objects.get().is_superuser
