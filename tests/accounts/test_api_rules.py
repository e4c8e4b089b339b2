"""Resource rules of a team by API, and what they decide."""

import pytest

from accounts import resource_rules
from accounts.callers import Caller
from accounts.models import AuditLine, ResourceRule, ResourceType
from accounts.roles import Role
from tests.factories import MembershipFactory, UserFactory

pytestmark = pytest.mark.django_db

RULES = "/api/users/resource-rules"
NEW = {"name": "ours", "resource_type": "config", "pattern": "team-*"}
SHOWN = {
    "id": int, "name": str, "resource_type": str, "pattern": str, "action": str, "priority": int, "description": str, "levels": list,
    "created_at": str, "created_by": int,
}  # fmt: skip


def rule(team, **more):
    return ResourceRule.objects.create(team=team, **{"name": "r", "resource_type": "config", "pattern": "*", **more})


def caller(member):
    return Caller(team=member.team, user=member.user, role=member.role, rights=member.rights, token=None, address="")


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_rule_is_made_read_changed_and_deleted(call, owner, ending):
    made = call(owner, "post", RULES + ending, NEW)
    path = f"{RULES}/{made.json()['id']}{ending}"
    changed = call(owner, "put", path, {"pattern": "other-*", "action": "deny", "priority": 7})
    read, listed = call(owner, "get", path), call(owner, "get", RULES + ending)
    gone, after = call(owner, "delete", path), call(owner, "get", path)

    assert (made.status_code, {name: type(value) for name, value in made.json().items()}) == (201, SHOWN)
    assert (made.json()["action"], made.json()["levels"]) == ("allow", [])
    assert changed.json() == read.json() == listed.json()[0]
    assert [changed.json()[name] for name in ("name", "pattern", "action", "priority")] == ["ours", "other-*", "deny", 7]
    assert (gone.json(), after.status_code) == ({"success": True}, 404)
    told = AuditLine.objects.filter(event_type="config.changed", target_type="resource_rule").order_by("pk")
    assert [(line.team, bool(line.before), bool(line.after)) for line in told] == [
        (owner.team, False, True), (owner.team, True, True), (owner.team, True, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "name"), ({"name": "x" * 101}, "name"), ({"resource_type": "disk"}, "resource_type"), ({"pattern": ""}, "pattern"),
        ({"action": "maybe"}, "action"), ({"priority": 1001}, "priority"), ({"priority": "7"}, "priority"),
        ({"description": 7}, "description"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_is_refused(call, owner, wrong, field):
    answer = call(owner, "post", RULES, NEW | wrong)

    assert (answer.status_code, answer.json()["field"], ResourceRule.objects.count()) == (400, field, 0)


def test_a_change_of_nothing_and_of_the_kind_is_refused(call, owner):
    path = f"{RULES}/{rule(owner.team).pk}"

    answers = [
        call(owner, "put", path),
        call(owner, "put", path, {"resource_type": "hardware"}),
        call(owner, "put", path, {"action": "maybe"}),
    ]

    assert [answer.status_code for answer in answers] == [400, 400, 400]


def test_rules_are_listed_by_kind(call, owner):
    rule(owner.team, resource_type="hardware")
    rule(owner.team)
    rule(MembershipFactory().team)

    kinds = [
        [found["resource_type"] for found in call(owner, "get", RULES, **query).json()] for query in ({}, {"resource_type": "hardware"})
    ]

    assert (kinds, call(owner, "get", RULES, resource_type="disk").status_code) == ([["hardware", "config"], ["hardware"]], 400)


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_level_gets_rules_and_loses_them(call, owner, ending):
    one, two = rule(owner.team), rule(owner.team)
    path = "/api/users/levels/2/rules"

    answers = [call(owner, "post", f"{path}/{one.pk}{ending}").json() for _ in range(2)]
    shown = call(owner, "get", f"{RULES}/{one.pk}").json()["levels"]
    replaced = call(owner, "put", path + ending, {"rule_ids": [two.pk]}).json()
    of_level = [found["id"] for found in call(owner, "get", path + ending).json()]
    taken = call(owner, "delete", f"{path}/{two.pk}{ending}").json()

    assert answers == [{"success": True, "already_assigned": False}, {"success": True, "already_assigned": True}]
    assert (shown, replaced, of_level) == ([{"id": 2, "name": "researcher"}], {"success": True, "rule_count": 1}, [two.pk])
    assert (taken, call(owner, "get", path).json()) == ({"success": True}, [])


def test_rules_of_another_team_are_not_there(call, owner):
    foreign = rule(MembershipFactory().team, roles=["researcher"])
    calls = [
        ("get", f"{RULES}/{foreign.pk}"), ("put", f"{RULES}/{foreign.pk}"), ("delete", f"{RULES}/{foreign.pk}"),
        ("post", f"/api/users/levels/2/rules/{foreign.pk}"), ("delete", f"/api/users/levels/2/rules/{foreign.pk}"),
        ("get", "/api/users/levels/9/rules"),
    ]  # fmt: skip

    assert [call(owner, method, path).status_code for method, path in calls] == [404] * len(calls)
    assert call(owner, "put", "/api/users/levels/2/rules", {"rule_ids": [foreign.pk]}).status_code == 400
    assert call(owner, "put", "/api/users/levels/2/rules", {"rule_ids": "1"}).status_code == 400
    assert (call(owner, "get", "/api/users/levels/2/rules").json(), ResourceRule.objects.get().roles) == ([], ["researcher"])


@pytest.mark.parametrize("role", [Role.VIEWER, Role.RESEARCHER, Role.LEAD])
def test_only_who_manages_the_team_reaches_its_rules(call, owner, role):
    member = MembershipFactory(team=owner.team, role=role)
    calls = [("get", RULES), ("post", RULES), ("get", f"{RULES}/1"), ("put", f"{RULES}/1"), ("post", "/api/users/levels/2/rules/1")]

    answers = [call(member, method, path) for method, path in calls]

    assert {(answer.status_code, answer.json()["details"]["required_permission"]) for answer in answers} == {(403, "admin.users")}
    assert call(None, "get", RULES).status_code == 401


# --- What they decide ---------------------------------------------------------------------------------------

ALLOWED = [
    ([], "anything"),
    ([("allow", "team-*")], "team-x"),
    ([("allow", "team-*"), ("deny", "*")], "team-x"),
    ([("deny", "team-*"), ("allow", "team-x")], "team-x"),
]
DENIED = [
    ([("allow", "team-*")], "other"),
    ([("deny", "team-*")], "team-x"),
    ([("deny", "team-*")], "other"),
    ([("allow", "Team-*")], "team-x"),
    ([("allow", "*")], ""),
]


def check(member, rules, name):
    for action, pattern in rules:
        rule(member.team, action=action, pattern=pattern, roles=["researcher"])
    resource_rules.require(caller(member), ResourceType.CONFIG, [name])


@pytest.mark.parametrize(("rules", "name"), ALLOWED)
def test_what_the_rules_allow(researcher, rules, name):
    check(researcher, rules, name)


@pytest.mark.parametrize(("rules", "name"), DENIED)
def test_what_the_rules_deny(researcher, rules, name):
    with pytest.raises(resource_rules.ResourceDenied) as denied:
        check(researcher, rules, name)

    assert (denied.value.status, denied.value.code) == (403, "resource_denied")


def test_rules_bind_the_levels_that_have_them_in_that_team_for_that_kind(owner, researcher):
    lead, elsewhere = MembershipFactory(team=owner.team, role=Role.LEAD), MembershipFactory(role=Role.RESEARCHER)
    rule(owner.team, action="deny", roles=["researcher"])

    for member, kind in ((lead, ResourceType.CONFIG), (elsewhere, ResourceType.CONFIG), (researcher, ResourceType.HARDWARE)):
        resource_rules.require(caller(member), kind, ["x"])
    with pytest.raises(resource_rules.ResourceDenied):
        resource_rules.require(caller(researcher), ResourceType.CONFIG, ["x"])


def test_owners_and_staff_skip_the_rules(owner):
    rule(owner.team, action="deny", roles=["researcher", "owner"])
    staff = MembershipFactory(team=owner.team, role=Role.RESEARCHER, user=UserFactory(is_staff=True))

    for member in (owner, staff):
        resource_rules.require(caller(member), ResourceType.CONFIG, ["x"])
