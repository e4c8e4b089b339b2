"""Quotas by API: every row of the contract's section 12, and the quotas of the organization and its teams in section 5."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import levels
from accounts.models import AuditLine
from accounts.roles import Role
from billing.models import SpendLimit
from jobs.models import JobQuota
from tests.billing.factories import USD, SpendLimitFactory, hold
from tests.factories import MembershipFactory
from tests.jobs.factories import JobFactory

pytestmark = pytest.mark.django_db

QUOTAS = "/api/quotas"
Q = {
    "id": int, "quota_type": str, "limit_value": float, "action": str, "scope": str, "user_id": type(None), "level_id": type(None),
    "team_id": type(None), "org_id": type(None), "is_global": bool, "set_by": str,
}  # fmt: skip
S = {
    "quota_type": str, "limit": float, "limit_value": float, "current": float, "current_usage": float, "action": str, "is_exceeded": bool,
    "is_warning": bool, "percent_used": float, "message": type(None), "source": str, "ceiling": type(None),
}  # fmt: skip
FIVE = {"quota_type": "concurrent_jobs", "limit_value": 5}


def types(shown):
    return {name: type(value) for name, value in shown.items()}


def changed():
    return list(AuditLine.objects.filter(event_type="quota.changed").order_by("pk"))


# --- Setting them -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_an_owner_sets_a_default_for_each_person_of_the_team(call, owner, ending):
    answer = call(owner, "post", QUOTAS + ending, FIVE)

    said = answer.json()
    assert (answer.status_code, types(said["quota"])) == (200, Q)
    assert {name: said[name] for name in Q} == said["quota"]
    assert [said[name] for name in ("quota_type", "limit_value", "action", "scope", "is_global", "set_by")] == [
        "concurrent_jobs", 5.0, "block", "global", True, "team",
    ]  # fmt: skip
    row = JobQuota.objects.get()
    assert (row.team, row.scope, row.kind, row.limit_value, row.action) == (owner.team, "each", "concurrent_jobs", 5, "block")
    [line] = changed()
    assert (line.team, line.actor_id, line.target_id) == (owner.team, owner.user.pk, str(said["id"]))
    assert line.after == {"scope": "each", "quota_type": "concurrent_jobs", "limit": 5, "action": "block"}
    assert call(owner, "get", f"{QUOTAS}/{said['id']}{ending}").json() == said["quota"]
    assert call(owner, "get", QUOTAS + ending).json() == {"quotas": [said["quota"]]}


def test_setting_it_again_changes_the_one_that_is_there(call, owner):
    first = call(owner, "post", QUOTAS, FIVE).json()

    again = call(owner, "post", QUOTAS, {**FIVE, "limit_value": 7, "action": "warn"}).json()
    same = call(owner, "post", QUOTAS, {**FIVE, "limit_value": 7.0, "action": "warn"}).json()

    assert (again["id"], again["limit_value"], again["action"]) == (first["id"], 7.0, "warn")
    assert same == again
    assert [(line.before.get("limit"), line.after["limit"]) for line in changed()] == [(None, 5), (5, 7)]


def test_a_quota_is_for_a_person_a_level_or_the_team(call, owner, researcher):
    person = call(owner, "post", QUOTAS, {**FIVE, "user_id": researcher.user.pk}).json()["quota"]
    level = call(owner, "post", QUOTAS, {**FIVE, "level_id": 3}).json()["quota"]
    team = call(owner, "post", QUOTAS, {**FIVE, "team_id": owner.team.pk}).json()["quota"]

    ids = ("scope", "user_id", "level_id", "team_id", "org_id", "is_global")
    assert [person[name] for name in ids] == ["user", researcher.user.pk, None, None, None, False]
    assert [level[name] for name in ids] == ["level", None, 3, None, None, False]
    assert [team[name] for name in ids] == ["team", None, None, owner.team.pk, None, False]
    assert set(JobQuota.objects.values_list("scope", "user_id", "role")) == {
        ("person", researcher.user.pk, ""), ("role", None, "lead"), ("team", None, ""),
    }  # fmt: skip


WRONG = [
    ({}, 400, "quota_type"),
    ({"quota_type": "cats", "limit_value": 1}, 400, "quota_type"),
    ({"quota_type": 3, "limit_value": 1}, 400, "quota_type"),
    ({**FIVE, "action": "shout"}, 400, "action"),
    ({**FIVE, "limit_value": None}, 400, "limit_value"),
    ({**FIVE, "limit_value": "5"}, 400, "limit_value"),
    ({**FIVE, "limit_value": True}, 400, "limit_value"),
    ({**FIVE, "limit_value": 2.5}, 400, "limit_value"),
    ({**FIVE, "limit_value": 0}, 422, "limit_value"),
    ({**FIVE, "limit_value": -1}, 422, "limit_value"),
    ({**FIVE, "limit_value": 1e300}, 422, "limit_value"),
    ({**FIVE, "user_id": 1, "level_id": 2}, 400, "level_id"),
    ({**FIVE, "user_id": "me"}, 400, "user_id"),
    ({**FIVE, "user_id": 10**30}, 400, "user_id"),
    ({**FIVE, "user_id": 999_999}, 404, None),
    ({**FIVE, "level_id": 9}, 404, None),
    ({**FIVE, "team_id": 999_999}, 404, None),
    ({**FIVE, "org_id": 2}, 404, None),
    ({**FIVE, "org_id": 1}, 403, None),
    ({"quota_type": "storage_bytes", "limit_value": 5, "action": "require_approval"}, 422, "action"),
    ({"quota_type": "cost_daily", "limit_value": 5, "action": "notify"}, 422, "action"),
    ({"quota_type": "cost_daily", "limit_value": 1e12}, 422, "limit_value"),
]


@pytest.mark.parametrize(("body", "status", "field"), WRONG)
def test_what_is_wrong_is_said_in_a_sentence(call, owner, body, status, field):
    answer = call(owner, "post", QUOTAS, body)

    assert (answer.status_code, answer.json()["field"]) == (status, field)
    assert isinstance(answer.json()["detail"], str)
    assert (JobQuota.objects.count(), SpendLimit.objects.count(), changed()) == (0, 0, [])


@pytest.mark.parametrize("body", [[], "x", 7])
def test_a_body_that_is_no_object_is_refused(call, owner, body):
    assert call(owner, "post", QUOTAS, body).status_code == 400


def test_nobody_allows_more_than_the_total_above(call, owner, staff):
    path = f"/api/orgs/1/teams/{owner.team.slug}/quotas"
    call.by_cookie(staff, "post", "/api/orgs/1/quotas", {**FIVE, "limit_value": 10})

    over_platform = call(owner, "post", path, {**FIVE, "limit_value": 20})
    also = call(owner, "post", QUOTAS, {**FIVE, "limit_value": 20, "team_id": owner.team.pk})
    team = call(owner, "post", path, {**FIVE, "limit_value": 8})
    over_team = call(owner, "post", QUOTAS, {**FIVE, "limit_value": 9})

    assert (over_platform.status_code, over_platform.json()["detail"]) == (400, "Team quota (20) cannot exceed organization ceiling (10).")
    assert (also.status_code, team.status_code) == (422, 200)
    assert (over_team.status_code, over_team.json()["detail"]) == (422, "Global quota (9) cannot exceed team ceiling (8).")


def test_words_in_capitals_are_understood(call, owner):
    said = call(owner, "post", QUOTAS, {"quota_type": "CONCURRENT_JOBS", "limit_value": 1, "action": "Warn"}).json()

    assert (said["quota_type"], said["action"]) == ("concurrent_jobs", "warn")


def test_a_quota_is_taken_away(call, owner):
    quota_id = call(owner, "post", QUOTAS, FIVE).json()["id"]

    gone, again = call(owner, "delete", f"{QUOTAS}/{quota_id}/"), call(owner, "delete", f"{QUOTAS}/{quota_id}")

    assert (gone.json(), again.status_code) == ({"success": True, "quota_id": quota_id}, 404)
    assert call(owner, "get", f"{QUOTAS}/{quota_id}").status_code == 404
    assert changed()[-1].before["limit"] == 5


# --- Money ------------------------------------------------------------------------------------------------


def test_a_quota_of_money_is_the_teams_spend_limit(call, owner):
    said = call(owner, "post", QUOTAS, {"quota_type": "cost_monthly", "limit_value": 500, "action": "warn"}).json()["quota"]

    limit = SpendLimit.objects.get()
    assert (limit.scope, limit.team, limit.amount, limit.period, limit.action) == ("team", owner.team, 500 * USD, "monthly", "warn")
    assert [said[name] for name in ("limit_value", "limit_value_micros", "scope", "team_id")] == [500, 500 * USD, "team", owner.team.pk]
    assert JobQuota.objects.count() == 0


def test_a_limit_that_is_there_is_the_quota_and_is_changed(call, owner):
    limit = SpendLimitFactory(team=owner.team, name="team", amount=50 * USD)
    weekly = SpendLimitFactory(team=owner.team, period="weekly")

    [listed] = call(owner, "get", QUOTAS).json()["quotas"]
    said = call(owner, "post", QUOTAS, {"quota_type": "cost_monthly", "limit_value": 20.5, "team_id": owner.team.pk}).json()

    limit.refresh_from_db()
    assert (listed["limit_value"], listed["id"], limit.amount) == (50, said["id"], 20_500_000)
    assert SpendLimit.objects.count() == 2
    assert weekly.pk != limit.pk


def test_a_persons_quota_of_money_goes_off_and_comes_back_with_its_number(call, owner, researcher):
    body = {"quota_type": "cost_daily", "limit_value": 5, "user_id": researcher.user.pk}
    first = call(owner, "post", QUOTAS, body).json()["id"]
    hold(owner.team, 4, user=researcher.user, now=timezone.now())

    gone = call(owner, "delete", f"{QUOTAS}/{first}").json()
    off = call(owner, "get", f"{QUOTAS}/{first}").status_code
    again = call(owner, "post", QUOTAS, body).json()["id"]

    assert (gone["success"], off, again) == (True, 404, first)
    [standing] = call(researcher, "get", f"{QUOTAS}/status").json()["quotas"]
    assert (standing["quota_type"], standing["current"], standing["percent_used"], standing["source"]) == ("cost_daily", 4, 80.0, "user")
    assert SpendLimit.objects.get().user == researcher.user


def test_a_level_has_a_quota_of_money_for_each_of_its_people(call, owner, researcher, lead):
    level = levels.of_role(Role.RESEARCHER).id
    said = call(owner, "post", QUOTAS, {"quota_type": "cost_daily", "limit_value": 5, "level_id": level}).json()["quota"]
    hold(owner.team, 4, now=timezone.now(), user=researcher.user)
    hold(owner.team, 9, now=timezone.now(), user=lead.user)

    assert {name: said[name] for name in ("quota_type", "limit_value", "limit_value_micros", "scope", "level_id", "action")} == {
        "quota_type": "cost_daily", "limit_value": 5, "limit_value_micros": 5 * USD, "scope": "level", "level_id": level, "action": "block",
    }  # fmt: skip
    [standing] = call(researcher, "get", f"{QUOTAS}/status").json()["quotas"]
    assert set(standing) >= set(S)
    assert (standing["quota_type"], standing["current"], standing["percent_used"], standing["source"]) == ("cost_daily", 4, 80.0, "level")
    assert call(lead, "get", f"{QUOTAS}/status").json()["quotas"] == []
    [impact] = call(researcher, "post", f"{QUOTAS}/cost-estimate", estimated_cost="1.01").json()["impacts"]
    assert (impact["after"], impact["limit"], impact["would_exceed"], impact["source"]) == (5.01, 5, True, "level")
    assert SpendLimit.objects.count() == 0
    assert call(owner, "delete", f"{QUOTAS}/{said['id']}").json()["success"] is True
    assert call(owner, "get", QUOTAS).json()["quotas"] == []


def test_what_an_estimated_cost_would_do(call, owner):
    SpendLimitFactory(team=owner.team, amount=50 * USD)
    hold(owner.team, 40, now=timezone.now())

    fits = call(owner, "post", f"{QUOTAS}/cost-estimate", estimated_cost="5").json()
    beyond = call(owner, "post", f"{QUOTAS}/cost-estimate/", estimated_cost="10.01").json()

    assert (fits["estimated_cost"], fits["would_exceed"], beyond["would_exceed"]) == (5, False, True)
    [impact] = fits["impacts"]
    assert {name: impact[name] for name in impact if not name.endswith("_micros")} == {
        "quota_type": "cost_monthly", "current": 40, "after": 45, "limit": 50, "percent_before": 80.0, "percent_after": 90.0,
        "would_exceed": False, "action": "block", "source": "team",
    }  # fmt: skip


@pytest.mark.parametrize("said", ["", "-1", "much", "nan", "inf", "1e400"])
def test_an_estimated_cost_is_a_number(call, owner, said):
    answer = call(owner, "post", f"{QUOTAS}/cost-estimate", estimated_cost=said)

    assert (answer.status_code, answer.json()["field"]) == (400, "estimated_cost")


# --- How they stand ---------------------------------------------------------------------------------------


def test_everybody_reads_how_they_stand(call, owner, researcher):
    call(owner, "post", QUOTAS, FIVE)
    JobFactory(team=owner.team, submitted_by=researcher.user)

    [standing] = call(researcher, "get", f"{QUOTAS}/status/").json()["quotas"]
    mine = call(researcher, "get", f"{QUOTAS}/me").json()

    assert types(standing) == S
    assert [standing[name] for name in ("limit", "limit_value", "current", "current_usage", "percent_used", "source")] == [
        5, 5, 1, 1, 20.0, "global",
    ]  # fmt: skip
    assert mine == {"user_id": researcher.user.pk, "statuses": [standing], "can_submit": True, "blocking_reasons": []}


def test_what_blocks_is_said(call, owner, researcher, lead):
    call(owner, "post", QUOTAS, {**FIVE, "limit_value": 1})
    call(owner, "post", QUOTAS, {**FIVE, "limit_value": 1, "team_id": owner.team.pk, "action": "warn"})
    SpendLimitFactory(team=owner.team, amount=10 * USD)
    hold(owner.team, 10, now=timezone.now())
    JobFactory(team=owner.team, submitted_by=researcher.user)

    mine = call(researcher, "get", f"{QUOTAS}/me/").json()
    theirs = call(lead, "get", f"{QUOTAS}/user/{researcher.user.pk}").json()

    assert mine == theirs
    assert (mine["can_submit"], mine["blocking_reasons"]) == (False, [
        "Quota exceeded: Maximum 1 concurrent job allowed for each person; 1 now.",
        "Cost limit exceeded: $10.00 spent of $10.00 monthly limit.",
    ])  # fmt: skip
    person, team, money = mine["statuses"]
    assert person["ceiling"] == {"source": "team", "value": 1.0, "is_bound": False}
    assert (team["source"], team["is_exceeded"], team["action"]) == ("team", True, "warn")
    assert (money["quota_type"], money["message"]) == ("cost_monthly", "Quota exceeded: $10.00 of $10.00 monthly for the team.")


def test_who_left_the_window_is_free_again(call, owner):
    call(owner, "post", QUOTAS, {"quota_type": "jobs_per_day", "limit_value": 1})
    JobFactory(team=owner.team, submitted_by=owner.user, submitted_at=timezone.now() - timedelta(days=2))

    assert call(owner, "get", f"{QUOTAS}/me").json()["can_submit"] is True


def test_the_types_are_named_with_their_units(call, researcher):
    said = call(researcher, "get", f"{QUOTAS}/types/").json()

    assert [entry["name"] for entry in said["types"]] == [entry["value"] for entry in said["quota_types"]]
    units = {entry["name"]: entry["unit"] for entry in said["types"]}
    assert [units[name] for name in ("concurrent_jobs", "jobs_per_hour", "jobs_per_day", "cost_daily", "cost_monthly", "local_gpus")] == [
        "jobs", "jobs", "jobs", "USD", "USD", "GPUs",
    ]  # fmt: skip
    assert [entry["value"] for entry in said["actions"]] == ["block", "warn", "require_approval", "notify"]


def test_gpus_of_this_server_are_taken_and_never_reached(call, owner):
    call(owner, "post", QUOTAS, {"quota_type": "local_gpus", "limit_value": 1})

    [standing] = call(owner, "get", f"{QUOTAS}/status").json()["quotas"]
    assert (standing["current"], standing["is_exceeded"]) == (0, False)


# --- Whose ------------------------------------------------------------------------------------------------


def test_a_foreign_teams_quotas_do_not_exist(call, owner):
    other = MembershipFactory()
    foreign = [call(other, "post", QUOTAS, FIVE).json()["id"]]
    foreign.append(call(other, "post", QUOTAS, {"quota_type": "cost_daily", "limit_value": 5}).json()["id"])

    assert [call(owner, method, f"{QUOTAS}/{pk}").status_code for pk in foreign for method in ("get", "delete")] == [404] * 4
    assert call(owner, "post", QUOTAS, {**FIVE, "user_id": other.user.pk}).status_code == 404
    assert call(owner, "post", QUOTAS, {**FIVE, "team_id": other.team.pk}).status_code == 404
    assert call(owner, "get", QUOTAS).json() == {"quotas": []}


def test_staff_set_the_platforms_and_owners_only_see_them(call, owner, staff):
    total = call.by_cookie(staff, "post", QUOTAS, {**FIVE, "org_id": 1}).json()["quota"]
    each = call.by_cookie(staff, "post", QUOTAS, {**FIVE, "quota_type": "jobs_per_day"}).json()["quota"]
    money = call.by_cookie(staff, "post", QUOTAS, {"quota_type": "cost_monthly", "limit_value": 100}).json()["quota"]

    seen = call(owner, "get", QUOTAS).json()["quotas"]
    refused = call(owner, "delete", f"{QUOTAS}/{total['id']}")

    assert {quota["id"] for quota in seen} == {quota["id"] for quota in (total, each, money)}
    assert [(quota["scope"], quota["org_id"], quota["set_by"]) for quota in (total, each, money)] == [
        ("org", 1, "platform"), ("global", None, "platform"), ("org", 1, "platform"),
    ]  # fmt: skip
    assert (refused.status_code, refused.json()["details"]) == (403, {"required_permission": "org.manage.quotas"})
    assert call.by_cookie(staff, "delete", f"{QUOTAS}/{total['id']}").json()["success"] is True
    assert [line.team for line in changed()] == [None] * 4
    assert SpendLimit.objects.get().scope == "platform"


def test_staff_set_a_teams_where_they_name_it(call, owner, staff):
    said = call.by_cookie(staff, "post", QUOTAS, FIVE, team=owner.team.slug).json()

    assert JobQuota.objects.get().team == owner.team
    assert call.by_cookie(staff, "get", QUOTAS, team=owner.team.slug).json()["quotas"] == [said["quota"]]
    assert call.by_cookie(staff, "get", QUOTAS).json() == {"quotas": []}
    assert call.by_cookie(staff, "get", f"{QUOTAS}/user/{owner.user.pk}").status_code == 400


@pytest.mark.parametrize(("role", "reads"), [(Role.VIEWER, 403), (Role.RESEARCHER, 403), (Role.LEAD, 200)])
def test_leads_see_quotas_and_owners_set_them(call, owner, role, reads):
    member = MembershipFactory(team=owner.team, role=role)
    quota_id = call(owner, "post", QUOTAS, FIVE).json()["id"]

    seen = [call(member, "get", f"{QUOTAS}{rest}").status_code for rest in ("", f"/{quota_id}", f"/user/{owner.user.pk}")]
    refused = [call(member, "post", QUOTAS, FIVE), call(member, "delete", f"{QUOTAS}/{quota_id}")]

    assert seen == [reads] * 3
    assert [(answer.status_code, answer.json()["details"]) for answer in refused] == [(403, {"required_permission": "quota.manage"})] * 2
    assert call(member, "get", f"{QUOTAS}/me").status_code == 200


# --- The organization and its teams -----------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_the_organizations_quotas(call, owner, staff, ending):
    path = f"/api/orgs/1/quotas{ending}"

    refused = call(owner, "post", path, FIVE)
    said = call.by_cookie(staff, "post", path, {**FIVE, "action": "notify"}).json()
    seen = call(owner, "get", path).json()

    assert (refused.status_code, refused.json()["details"]) == (403, {"required_permission": "org.manage.quotas"})
    assert (said["success"], said["quota"]["scope"], said["quota"]["action"]) == (True, "org", "notify")
    assert isinstance(said["message"], str)
    assert (seen["organization"]["id"], seen["quotas"]) == (1, [said["quota"]])


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_teams_quotas(call, owner, researcher, ending):
    path = f"/api/orgs/1/teams/{owner.team.slug}/quotas{ending}"

    refused = call(researcher, "post", path, FIVE)
    said = call(owner, "post", path, FIVE).json()
    call(owner, "post", QUOTAS, {**FIVE, "user_id": researcher.user.pk})
    seen = call(researcher, "get", path).json()

    assert (refused.status_code, refused.json()["details"]) == (403, {"required_permission": "team.manage.quotas"})
    assert (said["success"], said["quota"]["team_id"]) == (True, owner.team.pk)
    assert (seen["team"]["slug"], seen["quotas"]) == (owner.team.slug, [said["quota"]])


def test_another_organizations_and_another_teams_quotas_are_not_there(call, owner):
    other = MembershipFactory()

    paths = ["/api/orgs/2/quotas", f"/api/orgs/1/teams/{other.team.slug}/quotas"]

    assert [call(owner, method, path, FIVE).status_code for path in paths for method in ("get", "post")] == [404] * 4
