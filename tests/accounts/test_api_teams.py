"""The organization, its teams and their members by API."""

import pytest
from django.utils import timezone

from accounts.models import AuditLine, Membership, Organization, Team
from accounts.roles import Role
from tests.factories import MembershipFactory, TeamFactory, UserFactory

pytestmark = pytest.mark.django_db

ORGS = "/api/orgs"
TEAMS = f"{ORGS}/1/teams"
ORGANIZATION = {
    "id": int, "name": str, "slug": str, "description": str, "is_active": bool, "created_at": str, "settings": dict,
    "team_count": int, "member_count": int,
}  # fmt: skip
TEAM = {"id": int, "org_id": int, "name": str, "slug": str, "description": str, "is_active": bool, "created_at": str, "settings": dict}
MEMBER = {
    "id": int, "user_id": int, "username": str, "email": str, "display_name": type(None), "is_active": bool, "is_admin": bool,
    "role": str, "joined_at": str,
}  # fmt: skip


def types(shown):
    return {name: type(value) for name, value in shown.items()}


def lines(event_type):
    return list(AuditLine.objects.filter(event_type=event_type).order_by("pk"))


# --- The organization ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_the_installation_is_the_one_organization(call, owner, ending):
    MembershipFactory()

    listed, one = call(owner, "get", ORGS + ending).json(), call(owner, "get", f"{ORGS}/installation{ending}").json()

    assert listed == {"organizations": [one["organization"]]}
    assert types(one["organization"]) == ORGANIZATION
    assert [one["organization"][name] for name in ("id", "slug", "team_count", "member_count")] == [1, "installation", 1, 1]


def test_staff_name_the_organization_and_nobody_else_does(call, owner, staff):
    body = {"name": "Pictures", "description": "All of it", "settings": {}, "is_active": True}

    by_owner, by_staff = call(owner, "patch", f"{ORGS}/1", body), call.by_cookie(staff, "patch", f"{ORGS}/1/", body)
    again = call.by_cookie(staff, "patch", f"{ORGS}/1")

    assert (by_owner.status_code, by_owner.json()["details"]) == (403, {"required_permission": "org.edit"})
    assert by_staff.json() == again.json()
    assert [by_staff.json()["organization"][name] for name in ("name", "description")] == ["Pictures", "All of it"]
    [line] = lines("config.changed")
    assert (line.team, line.target_type, line.after) == (None, "organization", {"name": "Pictures", "description": "All of it"})
    assert call(owner, "get", f"/api/users/{owner.user.pk}").json()["organization"]["name"] == "Pictures"


def test_there_is_no_second_organization_and_the_first_one_stays(call, owner, staff):
    second = call(owner, "post", ORGS, {"name": "Two", "slug": "two"})
    gone = call.by_cookie(staff, "delete", f"{ORGS}/1")
    off = call.by_cookie(staff, "patch", f"{ORGS}/1", {"is_active": False})
    odd = call.by_cookie(staff, "patch", f"{ORGS}/1", {"settings": {"a": 1}})

    assert [answer.status_code for answer in (second, gone, off, odd)] == [422, 409, 409, 400]
    assert not Organization.objects.exists()


@pytest.mark.parametrize("path", ["2", "other", "2/members", "2/teams", "2/teams/1", "2/teams/1/members"])
def test_another_organization_is_not_there(call, owner, path):
    assert call(owner, "get", f"{ORGS}/{path}").status_code == 404


def test_the_members_of_the_organization_are_those_that_the_caller_sees(call, owner, researcher, staff):
    MembershipFactory()

    mine, all_of_them = call(owner, "get", f"{ORGS}/1/members").json(), call.by_cookie(staff, "get", f"{ORGS}/1/members/").json()

    assert {user["id"] for user in mine["members"]} == {owner.user.pk, researcher.user.pk}
    assert (len(all_of_them["members"]), mine["organization"]["name"]) == (4, "Tunehouse")
    assert {type(user["is_admin"]) for user in mine["members"]} == {bool}


def test_somebody_who_names_no_team_sees_themselves_and_no_other_person_without_one(call, owner):
    alone, several = UserFactory(), MembershipFactory(user=owner.user).user
    UserFactory()

    shown = [call.by_cookie(user, "get", f"{ORGS}/1/members").json()["members"] for user in (alone, several)]

    assert [[user["id"] for user in members] for members in shown] == [[alone.pk], [several.pk]]


def test_whoever_has_an_account_is_in_the_organization_and_stays(call, owner, researcher):
    path, foreign = f"{ORGS}/1/members/{researcher.user.pk}", MembershipFactory()

    put, out = call(owner, "post", path), call(owner, "delete", path)

    assert (put.json()["success"], type(put.json()["message"]), out.status_code) == (True, str, 422)
    assert call(owner, "post", f"{ORGS}/1/members/{foreign.user.pk}").status_code == 404
    assert call(researcher, "post", path).status_code == 403


# --- Teams --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_token_sees_its_team_a_person_theirs_and_staff_all(call, owner, staff, ending):
    other, foreign = MembershipFactory(user=owner.user).team, MembershipFactory().team

    def seen(answer):
        return {team["slug"] for team in answer.json()["teams"]}

    assert seen(call(owner, "get", TEAMS + ending)) == {owner.team.slug}
    assert seen(call.by_cookie(owner.user, "get", TEAMS + ending)) == {owner.team.slug, other.slug}
    assert seen(call.by_cookie(staff, "get", TEAMS + ending)) == {owner.team.slug, other.slug, foreign.slug}
    assert types(call(owner, "get", TEAMS).json()["teams"][0]) == TEAM


@pytest.mark.parametrize("by_slug", [True, False])
def test_a_team_is_found_by_number_and_slug_and_a_foreign_one_not_at_all(call, owner, by_slug):
    mine, foreign = (owner.team, TeamFactory())
    path = [f"{TEAMS}/{team.slug if by_slug else team.pk}" for team in (mine, foreign)]

    assert types(call(owner, "get", path[0]).json()["team"]) == TEAM
    calls = [("get", ""), ("patch", ""), ("get", "/members"), ("post", "/members"), ("patch", "/members/1"), ("delete", "/members/1")]
    assert [call(owner, method, path[1] + rest).status_code for method, rest in calls] == [404] * len(calls)


def test_suspended_teams_are_listed_on_request(call, owner, staff):
    Team.objects.update(suspended_at="2026-01-01T00:00:00Z")

    shown, all_of_them = call(owner, "get", TEAMS).json()["teams"], call(owner, "get", TEAMS, include_inactive="true").json()["teams"]

    assert (shown, [team["is_active"] for team in all_of_them]) == ([], [False])


def test_staff_make_teams_and_own_them(call, owner, staff):
    body = {"name": "Research", "slug": "research", "description": "New"}

    by_owner, made = call(owner, "post", TEAMS, body), call.by_cookie(staff, "post", f"{TEAMS}/", body)
    again, odd = call.by_cookie(staff, "post", TEAMS, body), call.by_cookie(staff, "post", TEAMS, body | {"slug": "Re search"})
    unnamed = call.by_cookie(staff, "post", TEAMS, {"name": "Research"})

    assert (by_owner.status_code, by_owner.json()["details"]) == (403, {"required_permission": "team.create"})
    assert (made.status_code, made.json()["team"]["slug"], Team.objects.get(slug="research").memberships.get().user) == (
        200,
        "research",
        staff,
    )
    assert [(answer.status_code, answer.json()["field"]) for answer in (again, odd)] == [(400, "slug"), (400, "slug")]
    assert unnamed.json()["team"]["slug"] == "research-2"
    assert [line.team.slug for line in lines("team.created")] == ["research", "research-2"]


def test_an_owner_names_the_team_and_staff_suspend_it(call, owner, researcher, staff):
    path = f"{TEAMS}/{owner.team.slug}"

    named = call(owner, "patch", path, {"name": "Ours", "description": "It is"})
    denied = [
        call(researcher, "patch", path, {"name": "Mine"}),
        call(owner, "patch", path, {"is_active": False}),
        call(owner, "delete", path),
    ]
    off = call.by_cookie(staff, "delete", f"{path}/")
    while_off = call(owner, "patch", path, {"name": "Not now"})
    on = call.by_cookie(staff, "patch", path, {"is_active": True, "reason": "paid"})

    assert (named.json()["team"]["name"], [answer.status_code for answer in denied]) == ("Ours", [403, 403, 403])
    assert (off.json()["success"], type(off.json()["message"]), while_off.status_code, on.json()["team"]["is_active"]) == (
        True,
        str,
        403,
        True,
    )
    assert [line.after for line in lines("team.updated")] == [{"name": "Ours", "description": "It is"}]
    told = [*lines("team.suspended"), *lines("team.released")]
    assert [(line.actor, line.reason) for line in told] == [(staff.username, "by API, without a reason"), (staff.username, "paid")]


def test_an_archived_team_is_not_said_to_work_again(call, owner, staff):
    Team.objects.filter(pk=owner.team.pk).update(archived_at=timezone.now())

    answer = call.by_cookie(staff, "patch", f"{TEAMS}/{owner.team.slug}", {"is_active": True})

    assert (answer.status_code, answer.json()["field"]) == (409, "is_active")
    assert not [*lines("team.updated"), *lines("team.released")]


# --- Members ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_every_member_sees_who_is_in_the_team(call, owner, researcher, ending):
    shown = call(researcher, "get", f"{TEAMS}/{owner.team.pk}/members{ending}").json()

    assert {(member["user_id"], member["role"]) for member in shown["members"]} == {
        (owner.user.pk, "admin"),
        (researcher.user.pk, "researcher"),
    }
    assert (types(shown["members"][0]), shown["team"]["name"]) == (MEMBER, owner.team.name)


def test_people_come_in_by_address_and_by_number_where_staff_say_so(call, owner, staff):
    path, (ada, bea) = f"{TEAMS}/{owner.team.slug}/members", (UserFactory(), UserFactory())

    by_address = call(owner, "post", path, {"email": ada.email})
    by_number = call(owner, "post", path, {"user_id": bea.pk, "role": "lead"})
    by_staff = call.by_cookie(staff, "post", f"{path}/", {"user_id": bea.pk, "role": "lead"})
    again = call(owner, "post", path, {"user_id": bea.pk})

    assert (by_address.json()["success"], by_number.status_code, by_staff.json()["success"], again.status_code) == (True, 404, True, 409)
    assert dict(owner.team.memberships.exclude(pk=owner.pk).values_list("user", "role")) == {ada.pk: Role.RESEARCHER, bea.pk: Role.LEAD}
    assert [line.team for line in lines("member.added")] == [owner.team, owner.team]


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "email"), ({"user_id": "7"}, "user_id"), ({"email": "a@b.example", "role": "king"}, "role"), ({"email": 7}, "email")],
)
def test_a_member_that_cannot_be_is_refused(call, owner, body, field):
    answer = call(owner, "post", f"{TEAMS}/{owner.team.slug}/members", body)

    assert (answer.status_code, answer.json()["field"], Membership.objects.count()) == (400, field, 1)


@pytest.mark.parametrize("body", [{}, {"role": None}, {"role": ""}, {"role": []}, {"role": {}}, {"role": False}])
def test_a_change_that_names_no_role_makes_nobody_a_researcher(call, owner, body):
    lead = MembershipFactory(team=owner.team, role=Role.LEAD)

    answer = call(owner, "patch", f"{TEAMS}/{owner.team.slug}/members/{lead.user.pk}", body)
    added = call(owner, "post", f"{TEAMS}/{owner.team.slug}/members", {"email": UserFactory().email, "role": []})

    lead.refresh_from_db()
    assert (answer.status_code, answer.json()["field"], lead.role, added.status_code) == (400, "role", Role.LEAD, 400)


def test_a_members_role_is_changed_and_taken(call, owner, researcher):
    path = f"{TEAMS}/{owner.team.slug}/members/{researcher.user.pk}"

    changed, gone = call(owner, "patch", path, {"role": "lead"}), call(owner, "delete", f"{path}/")
    twice, last = call(owner, "delete", path), call(owner, "delete", f"{TEAMS}/{owner.team.slug}/members/{owner.user.pk}")

    assert [changed.json()["success"], type(changed.json()["message"]), gone.json()["success"]] == [True, str, True]
    assert ((twice.status_code, twice.json()["code"]), (last.status_code, last.json()["code"])) == (
        (404, "user_not_found"),
        (409, "last_owner"),
    )
    assert [line.after for line in lines("user.level.changed")] == [{"role": "lead"}]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.RESEARCHER, Role.LEAD])
def test_whoever_does_not_manage_the_team_changes_nobody(call, owner, role):
    member, path = MembershipFactory(team=owner.team, role=role), f"{TEAMS}/{owner.team.slug}/members"
    calls = [("post", path), ("patch", f"{path}/{owner.user.pk}"), ("delete", f"{path}/{10**6}")]

    answers = [call(member, method, where, {"email": "a@b.example", "role": "viewer"}) for method, where in calls]

    assert {(answer.status_code, answer.json()["details"]["required_permission"]) for answer in answers} == {(403, "team.manage.members")}


def test_nobody_in_particular_sees_no_organization(call, db):
    paths = [ORGS, f"{ORGS}/1", f"{ORGS}/1/members", TEAMS, f"{TEAMS}/1", f"{TEAMS}/1/members"]

    assert [call(None, "get", path).status_code for path in paths] == [401] * len(paths)
