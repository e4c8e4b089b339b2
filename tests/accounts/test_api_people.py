"""People, levels and permissions by API: who sees and changes whom, and the shapes that SimpleTuner's clients read."""

from itertools import pairwise

import pytest

from accounts.levels import EVERYTHING
from accounts.models import APIToken, AuditLine, Membership, User
from accounts.roles import PERMISSION_TABLE, PERMISSIONS, Beyond, Right, Role, Scope
from tests.factories import PASSWORD, MembershipFactory, UserFactory, make_token

pytestmark = pytest.mark.django_db

USERS = "/api/users"
NEW = {"email": "new@example.com", "username": "new-one", "password": PASSWORD}
NOT_THERE = [
    ("get", "{id}"), ("patch", "{id}"), ("delete", "{id}"), ("post", "{id}/activate"), ("post", "{id}/deactivate"),
    ("post", "{id}/levels"), ("delete", "{id}/levels/viewer"), ("post", "{id}/permissions"), ("delete", "{id}/permissions/job.submit"),
]  # fmt: skip


def lines(event_type):
    return list(AuditLine.objects.filter(event_type=event_type).order_by("pk"))


# --- Seeing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_an_owner_lists_the_people_of_the_team_and_nobody_else(call, owner, researcher, ending):
    foreign = MembershipFactory()
    MembershipFactory(user=researcher.user, team=foreign.team)
    gone = MembershipFactory(team=owner.team, user=UserFactory(is_active=False))

    listed, everybody = call(owner, "get", USERS + ending), call(owner, "get", USERS + ending, include_inactive="true")

    assert (listed.status_code, {user["id"] for user in listed.json()}) == (200, {owner.user.pk, researcher.user.pk})
    assert {user["id"] for user in everybody.json()} == {owner.user.pk, researcher.user.pk, gone.user.pk}
    shown = next(user for user in listed.json() if user["id"] == researcher.user.pk)
    assert [team["slug"] for team in shown["teams"]] == [owner.team.slug]
    assert foreign.team.slug not in listed.content.decode()


def test_the_user_object_has_every_field_of_the_contract_and_its_type(call, owner, researcher):
    shown = call(owner, "get", f"{USERS}/{researcher.user.pk}").json()

    assert {name: type(value) for name, value in shown.items()} == {
        "id": int, "email": str, "username": str, "display_name": type(None), "avatar_url": type(None), "auth_provider": str,
        "is_active": bool, "is_admin": bool, "email_verified": bool, "created_at": str, "last_login_at": type(None),
        "levels": list, "permissions": list, "teams": list, "org_id": int, "organization": dict,
    }  # fmt: skip
    assert shown["levels"] == [{"id": 2, "name": "researcher", "priority": 10}]
    assert shown["permissions"] == sorted(shown["permissions"])
    assert {"job.submit", "api.keys.own"} <= set(shown["permissions"])
    assert {"admin.users", "*"} & set(shown["permissions"]) == set()
    assert (shown["auth_provider"], shown["org_id"], shown["organization"]["slug"]) == ("local", 1, "installation")


def test_pages_of_the_list_are_in_order_and_in_bounds(call, owner):
    for name in ("ada", "bea", "cleo"):
        MembershipFactory(team=owner.team, user=UserFactory(username=name))

    page = call(owner, "get", USERS, limit="2", offset="1").json()
    odd = [call(owner, "get", USERS, limit=limit).status_code for limit in ("0", "501", "many")]

    assert ([user["username"] for user in page], odd) == (["bea", "cleo"], [400, 400, 400])


@pytest.mark.parametrize("count", [1, 4])
def test_the_list_costs_as_many_queries_whoever_is_in_it(call, owner, count, django_assert_num_queries):
    for _ in range(count):
        MembershipFactory(team=owner.team)
    _, key = make_token(owner)
    call(key, "get", USERS)

    with django_assert_num_queries(5):
        call(key, "get", USERS)


def test_staff_by_cookie_see_everybody_and_may_be_in_no_team(call, owner, staff):
    everybody = call.by_cookie(staff, "get", USERS).json()
    one = call.by_cookie(staff, "get", f"{USERS}/{owner.user.pk}").json()

    assert {user["id"] for user in everybody} == {owner.user.pk, staff.pk}
    assert [team["slug"] for team in one["teams"]] == [owner.team.slug]
    mine = call.by_cookie(staff, "get", f"{USERS}/me").json()
    assert (mine["is_admin"], mine["permissions"], mine["levels"][0]["name"]) == (True, EVERYTHING, "admin")


def test_staff_with_a_teams_token_are_only_what_the_token_is(call, owner):
    User.objects.filter(pk=owner.user.pk).update(is_staff=True, is_superuser=True)
    foreign = MembershipFactory()

    listed, other = call(owner, "get", USERS), call(owner, "get", f"{USERS}/{foreign.user.pk}")

    assert ([user["id"] for user in listed.json()], other.status_code) == ([owner.user.pk], 404)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.RESEARCHER, Role.LEAD])
def test_whoever_does_not_manage_the_team_gets_403_whatever_the_id(call, owner, role):
    member = MembershipFactory(team=owner.team, role=role)
    calls = [("get", ""), ("post", ""), *((method, f"/{path}".format(id=10**6)) for method, path in NOT_THERE)]

    answers = [call(member, method, USERS + path) for method, path in calls]

    assert [answer.status_code for answer in answers] == [403] * len(calls)
    assert {answer.json()["details"]["required_permission"] for answer in answers} == {"admin.users", "admin.levels"}


def test_a_token_without_the_scope_gets_403_and_nobody_401(call, owner):
    assert call(owner, "get", USERS, scopes=[Scope.READ]).status_code == 403
    assert (call(None, "get", USERS).status_code, call(None, "get", f"{USERS}/me").status_code) == (401, 401)
    assert call("th_wrong", "get", f"{USERS}/meta/auth-status").json()["code"] == "invalid_token"


@pytest.mark.parametrize(("method", "path"), NOT_THERE)
@pytest.mark.parametrize("by_staff", [False, True])
def test_somebody_of_another_team_is_not_there_for_an_owner(call, owner, staff, method, path, by_staff):
    foreign = MembershipFactory()
    user_id = 10**18 if by_staff else foreign.user.pk
    where = f"{USERS}/{path}".format(id=user_id)

    answer = call.by_cookie(staff, method, where, team=owner.team.slug) if by_staff else call(owner, method, where)

    assert (answer.status_code, answer.json()["code"]) == (404, "user_not_found")
    assert foreign.user.username not in answer.content.decode()


# --- Oneself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/users/me", "/api/auth/me", "/api/users/me/"])
def test_a_token_learns_who_it_is(call, researcher, path):
    token, key = make_token(researcher, name="ci", scopes=[Scope.READ, Scope.SUBMIT])

    shown = call(key, "get", path).json()

    assert {name: shown[name] for name in shown["user"]} == shown["user"]
    assert (shown["id"], shown["permissions"]) == (researcher.user.pk, shown["token"]["permissions"])
    assert "job.submit" in shown["permissions"]
    assert "job.cancel.own" not in shown["permissions"]
    assert {name: shown["token"][name] for name in ("name", "prefix", "scopes", "role", "team", "limits")} == {
        "name": "ci",
        "prefix": token.key_prefix,
        "scopes": ["read", "submit"],
        "role": "researcher",
        "team": {"id": researcher.team.pk, "name": researcher.team.name, "slug": researcher.team.slug},
        "limits": [],
    }
    again = call(key, "get", path)
    assert (type(again.json()["token"]["expires_at"]), type(again.json()["token"]["last_used"])) == (str, str)
    assert key not in again.content.decode()


def test_somebody_of_several_teams_or_none_sees_themselves_all_the_same(call, owner):
    MembershipFactory(user=owner.user, role=Role.VIEWER)

    several, none = call.by_cookie(owner.user, "get", f"{USERS}/me"), call.by_cookie(UserFactory(), "get", f"{USERS}/me")
    here = call.by_cookie(owner.user, "get", f"{USERS}/me", team=owner.team.slug)

    assert [level["name"] for level in several.json()["levels"]] == ["admin", "viewer"]
    assert [level["name"] for level in here.json()["levels"]] == ["admin"]
    assert (none.status_code, none.json()["levels"], none.json()["permissions"], none.json()["token"]) == (200, [], [], None)


def test_a_token_reads_its_makers_profile(call, owner):
    MembershipFactory(user=owner.user)

    read, own = call(owner, "get", f"{USERS}/me/profile"), call.by_cookie(owner.user, "get", f"{USERS}/me/profile", team=owner.team.slug)

    assert (read.status_code, read.json()) == (200, own.json())
    assert call(None, "get", f"{USERS}/me/profile").status_code == 401


def test_the_profile_is_changed_by_the_person_and_not_by_a_token(call, owner):
    changed = call.by_cookie(owner.user, "patch", f"{USERS}/me/profile", {"display_name": "Ada"})
    by_token = call(owner, "patch", f"{USERS}/me/profile", {"display_name": "Eve"})

    assert (changed.status_code, changed.json()["display_name"], by_token.status_code) == (200, "Ada", 403)
    [line] = lines("user.updated")
    assert (line.team, line.actor, line.after) == (None, owner.user.username, {"display_name": "Ada"})
    assert call.by_cookie(owner.user, "patch", f"{USERS}/me/profile", {"display_name": "x" * 101}).status_code == 400


def test_pictures_are_not_offered(call, owner):
    answer = call.by_cookie(owner.user, "post", f"{USERS}/me/avatar/upload", {"data_url": "data:image/png;base64,"})

    assert (answer.status_code, answer.json()["code"]) == (501, "not_offered")


# --- Making -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_an_owner_makes_an_account_in_the_team(call, owner, client, ending):
    made = call(owner, "post", USERS + ending, NEW | {"display_name": "New One", "level_names": ["viewer", "lead"]})

    assert (made.status_code, made.json()["levels"][0]["name"], made.json()["is_admin"]) == (201, "lead", False)
    person = User.objects.get(username="new-one")
    assert (person.memberships.get().team, person.check_password(PASSWORD), person.is_staff) == (owner.team, True, False)
    [line] = lines("user.created")
    assert (line.team, line.actor, line.target_id) == (owner.team, owner.user.username, str(person.pk))
    assert PASSWORD not in str(line.chained_fields())
    assert client.post("/api/auth/login", {"username": NEW["email"], "password": PASSWORD}, "application/json").status_code == 200


def test_a_new_person_is_a_researcher_unless_said_and_has_no_password_without_one(call, owner):
    made = call(owner, "post", USERS, {"email": "new@example.com", "username": "new-one"}).json()

    assert [level["name"] for level in made["levels"]] == ["researcher"]
    assert User.objects.get(pk=made["id"]).has_usable_password() is False


@pytest.mark.parametrize(
    ("wrong", "field", "code"),
    [
        ({"email": "taken@example.com"}, "email", "duplicate"), ({"email": "TAKEN@example.com"}, "email", "duplicate"),
        ({"username": "taken"}, "username", "duplicate"), ({"username": "a b c"}, "username", "invalid_input"),
        ({"username": "ab"}, "username", "invalid_input"), ({"username": 7}, "username", "invalid_input"),
        ({"email": "nobody"}, "email", "invalid_input"), ({"password": "12345678"}, "password", "invalid_input"),
        ({"level_names": ["king"]}, "level_names", "invalid_input"), ({"level_names": "lead"}, "level_names", "invalid_input"),
        ({"is_admin": "yes"}, "is_admin", "invalid_input"),
    ],
)  # fmt: skip
def test_an_account_that_cannot_be_is_refused_and_nothing_kept(call, owner, wrong, field, code):
    UserFactory(username="taken", email="taken@example.com")
    before = User.objects.count()

    answer = call(owner, "post", USERS, NEW | wrong)

    assert (answer.status_code, answer.json()["field"], answer.json()["code"]) == (400, field, code)
    assert (User.objects.count(), lines("user.created")) == (before, [])


def test_only_an_administrator_makes_administrators_and_accounts_without_a_team(call, owner, staff):
    by_owner = call(owner, "post", USERS, NEW | {"is_admin": True})
    by_staff = call.by_cookie(UserFactory(is_staff=True), "post", USERS, NEW | {"is_admin": True})
    made = call.by_cookie(staff, "post", USERS, NEW | {"is_admin": True})

    assert [answer.status_code for answer in (by_owner, by_staff, made)] == [403, 403, 201]
    person = User.objects.get(pk=made.json()["id"])
    assert (person.is_superuser, person.memberships.count(), lines("user.created")[0].team) == (True, 0, None)


def test_staff_make_accounts_in_the_team_that_they_name(call, owner, staff):
    made = call.by_cookie(staff, "post", USERS, NEW, team=owner.team.slug)
    nowhere = call.by_cookie(staff, "post", USERS, NEW | {"email": "b@example.com", "username": "bee"}, team="no-such-team")

    assert (made.status_code, User.objects.get(pk=made.json()["id"]).memberships.get().team) == (201, owner.team)
    assert (nowhere.status_code, User.objects.filter(username="bee").exists()) == (404, False)


# --- Changing -----------------------------------------------------------------------------------------------


def test_an_owner_changes_how_a_member_is_called(call, owner, researcher):
    changed = call(owner, "patch", f"{USERS}/{researcher.user.pk}", {"display_name": "Bea"})
    same = call(owner, "patch", f"{USERS}/{researcher.user.pk}")

    assert (changed.json()["display_name"], same.json()["display_name"], same.status_code) == ("Bea", "Bea", 200)
    [line] = lines("user.updated")
    assert (line.team, line.before, line.after) == (owner.team, {"display_name": ""}, {"display_name": "Bea"})


@pytest.mark.parametrize(
    "change", [{"email": "mine@example.com"}, {"username": "mine"}, {"password": "a long phrase of mine"}, {"is_admin": True}]
)
def test_an_owner_cannot_take_a_members_account_over(call, owner, researcher, change):
    before = User.objects.get(pk=researcher.user.pk)

    answer = call(owner, "patch", f"{USERS}/{researcher.user.pk}", change)

    after = User.objects.get(pk=researcher.user.pk)
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert (after.email, after.username, after.password, after.is_staff) == (before.email, before.username, before.password, False)


def test_an_administrator_changes_all_of_an_account(call, owner, staff):
    asked = {"email": "ada@example.com", "username": "ada-l", "password": "a long phrase of hers", "is_admin": True, "display_name": "Ada"}

    changed = call.by_cookie(staff, "patch", f"{USERS}/{owner.user.pk}", asked)

    person = User.objects.get(pk=owner.user.pk)
    assert (changed.status_code, person.email, person.username, person.is_superuser) == (200, "ada@example.com", "ada-l", True)
    assert person.check_password("a long phrase of hers")
    assert [line.team for line in [*lines("user.updated"), *lines("user.password.changed")]] == [None, None]
    assert "phrase" not in "".join(str(line.chained_fields()) for line in AuditLine.objects.all())


def test_staff_who_are_no_administrators_do_not_touch_those_who_are(call, staff):
    colleague = UserFactory(is_staff=True)

    answers = [
        call.by_cookie(colleague, "patch", f"{USERS}/{staff.pk}", {"password": "a long phrase of mine"}),
        call.by_cookie(colleague, "patch", f"{USERS}/{colleague.pk}", {"is_admin": True}),
        call.by_cookie(colleague, "delete", f"{USERS}/{staff.pk}"),
    ]

    # Staff are called administrators already, and become no more than they are.
    assert [answer.status_code for answer in answers] == [403, 200, 403]
    assert (User.objects.get(pk=staff.pk).check_password(PASSWORD), lines("user.updated")) == (True, [])
    assert User.objects.get(pk=colleague.pk).is_superuser is False


def test_a_member_of_another_team_too_is_deactivated_by_staff_only(call, owner, researcher, staff):
    MembershipFactory(user=researcher.user, role=Role.VIEWER)
    path = f"{USERS}/{researcher.user.pk}"

    by_owner, by_staff = call(owner, "post", f"{path}/deactivate"), call.by_cookie(staff, "post", f"{path}/deactivate")

    assert (by_owner.status_code, by_staff.json()) == (403, {"success": True})
    assert User.objects.get(pk=researcher.user.pk).is_active is False


@pytest.mark.parametrize("ending", ["", "/"])
def test_who_is_deactivated_is_let_in_no_more_until_activated(call, owner, researcher, client, ending):
    client.force_login(researcher.user)
    path = f"{USERS}/{researcher.user.pk}"

    off = call(owner, "post", f"{path}/deactivate{ending}")
    while_off = client.get(f"{USERS}/me").status_code
    on = call(owner, "post", f"{path}/activate{ending}")

    assert (off.json(), while_off, on.json(), client.get(f"{USERS}/me").status_code) == ({"success": True}, 401, {"success": True}, 200)
    assert [line.after for line in lines("user.updated")] == [{"is_active": False}, {"is_active": True}]


def test_the_last_administrator_and_the_last_owner_stay(call, owner, staff):
    other = UserFactory(is_staff=True, is_superuser=True)

    one = call.by_cookie(staff, "patch", f"{USERS}/{other.pk}", {"is_admin": False})
    last = call.by_cookie(staff, "patch", f"{USERS}/{staff.pk}", {"is_admin": False})
    the_owner = call.by_cookie(staff, "post", f"{USERS}/{owner.user.pk}/deactivate")
    oneself = call(owner, "post", f"{USERS}/{owner.user.pk}/deactivate")

    assert [answer.status_code for answer in (one, last, the_owner, oneself)] == [200, 422, 409, 422]
    assert (last.json()["code"], the_owner.json()["code"]) == ("last_admin", "last_owner")
    assert User.objects.filter(is_active=True).count() == 3


# --- Taking away --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_an_owner_who_deletes_somebody_of_another_team_too_takes_them_out_of_this_one(call, owner, researcher, ending):
    elsewhere = MembershipFactory(user=researcher.user)

    gone = call(owner, "delete", f"{USERS}/{researcher.user.pk}{ending}")

    assert (gone.json(), list(Membership.objects.filter(user=researcher.user))) == ({"success": True}, [elsewhere])
    assert User.objects.get(pk=researcher.user.pk).is_active is True
    assert call(owner, "get", f"{USERS}/{researcher.user.pk}").status_code == 404


def test_deleting_somebody_altogether_ends_sessions_and_keys_and_leaves_the_row(call, owner, researcher, client):
    token, key = make_token(researcher)
    client.force_login(researcher.user)

    gone = call(owner, "delete", f"{USERS}/{researcher.user.pk}")

    person = User.objects.get(pk=researcher.user.pk)
    assert (gone.json(), person.is_active, person.has_usable_password(), person.memberships.count()) == ({"success": True}, False, False, 0)
    assert (client.get(f"{USERS}/me").status_code, call(key, "get", f"{USERS}/me").status_code) == (401, 401)
    assert APIToken.objects.get(pk=token.pk).revoked_at is not None
    [line] = lines("user.deleted")
    assert (line.team, line.before) == (owner.team, {"teams": {owner.team.slug: "researcher"}})


def test_nobody_deletes_themselves_or_the_last_owner(call, owner, staff):
    answers = [call(owner, "delete", f"{USERS}/{owner.user.pk}"), call.by_cookie(staff, "delete", f"{USERS}/{owner.user.pk}")]

    assert [answer.status_code for answer in answers] == [422, 409]
    assert (Membership.objects.get().user, lines("user.deleted")) == (owner.user, [])


# --- Levels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [f"{USERS}/meta/levels", f"{USERS}/meta/levels/", f"{USERS}/levels"])
def test_the_levels_are_the_four_roles(call, owner, path):
    listed = call(owner, "get", path).json()

    assert [(level["id"], level["name"], level["priority"], level["is_system"]) for level in listed] == [
        (1, "viewer", 0, True), (2, "researcher", 10, True), (3, "lead", 50, True), (4, "admin", 100, True),
    ]  # fmt: skip
    assert set(listed[0]) == {"id", "name", "description", "priority", "is_system", "permissions"}
    assert all(set(lower["permissions"]) < set(higher["permissions"]) for lower, higher in pairwise(listed))


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_level_is_given_and_taken_and_takes_the_place_of_the_one_before(call, owner, researcher, ending):
    path = f"{USERS}/{researcher.user.pk}/levels"

    given = call(owner, "post", path + ending, {"level_name": "lead"})
    taken = call(owner, "delete", f"{path}/lead{ending}")
    again = call(owner, "delete", f"{path}/lead{ending}")
    least = call(owner, "delete", f"{path}/viewer{ending}")

    assert [given.json(), taken.json(), again.status_code, least.status_code] == [{"success": True}, {"success": True}, 404, 422]
    assert [line.after for line in lines("user.level.changed")] == [{"role": "lead"}, {"role": "viewer"}]
    assert Membership.objects.get(user=researcher.user).role == Role.VIEWER


def test_a_level_that_is_none_and_the_last_owner_are_refused(call, owner, researcher):
    unknown = call(owner, "post", f"{USERS}/{researcher.user.pk}/levels", {"level_name": "king"})
    empty = call(owner, "post", f"{USERS}/{researcher.user.pk}/levels")
    last = call(owner, "post", f"{USERS}/{owner.user.pk}/levels", {"level_name": "viewer"})

    assert [answer.status_code for answer in (unknown, empty, last)] == [404, 400, 409]
    assert (last.json()["code"], lines("user.level.changed")) == ("last_owner", [])


def test_staff_say_in_which_team_they_give_a_level(call, owner, researcher, staff):
    path, body = f"{USERS}/{researcher.user.pk}/levels", {"level_name": "lead"}

    nowhere, here = call.by_cookie(staff, "post", path, body), call.by_cookie(staff, "post", path, body, team=owner.team.slug)

    assert (nowhere.status_code, nowhere.json()["code"], here.json()) == (400, "team_required", {"success": True})
    assert Membership.objects.get(user=researcher.user).role == Role.LEAD


def test_the_system_levels_stay_and_others_are_not_offered(call, owner, researcher):
    made = call(owner, "post", f"{USERS}/levels", {"name": "intern"})
    fixed = [
        call(owner, "put", f"{USERS}/levels/1", {"name": "guest"}),
        call(owner, "delete", f"{USERS}/levels/1"),
        call(owner, "put", f"{USERS}/levels/1/permissions", {"permission_names": []}),
    ]
    override = call(owner, "post", f"{USERS}/{researcher.user.pk}/permissions", {"permission_name": "job.submit", "granted": False})
    removed = call(owner, "delete", f"{USERS}/{researcher.user.pk}/permissions/job.submit")
    unknown = call(owner, "post", f"{USERS}/{researcher.user.pk}/permissions", {"permission_name": "job.win"})

    assert [(answer.status_code, answer.json()["code"]) for answer in (made, override, removed)] == [(501, "not_offered")] * 3
    assert [answer.status_code for answer in (*fixed, call(owner, "delete", f"{USERS}/levels/9"), unknown)] == [422, 422, 422, 404, 400]


# --- Permissions --------------------------------------------------------------------------------------------


def test_every_permission_of_simpletuner_is_listed_with_its_number(call, owner):
    listed = call(owner, "get", f"{USERS}/meta/permissions").json()

    assert [entry["id"] for entry in listed] == sorted({known.id for known in PERMISSION_TABLE})
    assert (listed[0]["name"], listed[-1]["name"], listed[-1]["id"]) == ("job.submit", "team.manage.quotas", 85)
    assert {entry["category"] for entry in listed} == {"jobs", "config", "queue", "quota", "admin", "org", "team", "api"}
    assert {type(entry[name]) for entry in listed for name in ("name", "description", "category")} == {str}
    by_name = {entry["name"]: entry["description"] for entry in listed}
    assert by_name["job.bypass.queue"].endswith("(not offered here)")
    assert by_name["admin.backup"].endswith("(the platform's staff only)")


def test_the_table_of_permissions_gives_each_name_once_and_every_right(db):
    names = [known.name for known in PERMISSION_TABLE]

    assert len(names) == len(set(names)) == 50
    assert set(PERMISSIONS.values()) == set(Right)
    assert {known.given_by for known in PERMISSION_TABLE} == {*Right, *Beyond}
