"""The pages of a team itself: making it, what it says of itself, its former addresses, archiving it, and who may do what."""

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts import invites, teams
from accounts.models import AuditLine, Credential, FormerSlug, Team
from accounts.roles import PERMISSIONS, RIGHTS_OF_ROLE, RIGHTS_OF_SCOPE, Right, Role, Scope, manages
from jobs.services import dispatch
from jobs.states import State
from tests.billing.factories import SpendLimitFactory
from tests.factories import CredentialFactory, MembershipFactory, TeamFactory, UserFactory, make_token
from tests.jobs.factories import JobFactory
from tests.jobs.ready import caller_of
from tests.pages import INLINE
from tests.signing_in import sign_in

SAID = {
    "name": "Vision",
    "slug": "vision",
    "description": "Pictures",
    "time_zone": "America/Mexico_City",
    "first_weekday": "6",
    "shows_details": "on",
}


@pytest.fixture
def owner(client, db):
    owner = MembershipFactory()
    sign_in(client, owner.user)
    return owner


@pytest.fixture
def team(owner):
    return owner.team


def address(name, team, *args):
    return reverse(name, args=[team.slug, *args])


# --- Making -----------------------------------------------------------------------------------------------


def test_staff_make_a_team_and_own_it(client, db):
    staff = UserFactory(is_staff=True)
    client.force_login(staff)

    offered = client.get(reverse("home")).content.decode()
    answer = client.post(reverse("team_new"), {"name": " Atelier Süd "})

    made = Team.objects.get()
    assert (reverse("team_new") in offered, answer["Location"]) == (True, address("members", made))
    assert (made.name, made.slug, made.memberships.get().user, made.memberships.get().role) == (
        "Atelier Süd",
        "atelier-sud",
        staff,
        "owner",
    )


def test_nobody_else_makes_teams(client, owner):
    answers = [client.get(reverse("team_new")).status_code, client.post(reverse("team_new"), {"name": "X"}).status_code]
    client.logout()

    assert (answers, client.get(reverse("team_new")).status_code) == ([403, 403], 302)
    assert Team.objects.count() == 1
    assert reverse("team_new") not in client.get(reverse("home"), follow=True).content.decode()


# --- General ----------------------------------------------------------------------------------------------


def test_an_owner_changes_what_the_team_says_of_itself(client, team):
    before = team.slug

    answer = client.post(address("team_general", team), SAID)
    again = client.post(answer["Location"], SAID)

    team.refresh_from_db()
    assert teams.profile(team) == teams.Profile("Vision", "vision", "Pictures", "America/Mexico_City", 6, True)
    assert answer["Location"] == again["Location"] == "/t/vision/settings/general/"
    line = AuditLine.objects.get(team=team)
    assert (line.event_type, line.before["slug"], line.after["slug"], set(line.after)) == (
        "team.updated", before, "vision", {"name", "slug", "description", "time_zone", "first_weekday"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "name"),
        ({"slug": ""}, "slug"),
        ({"slug": "a b"}, "slug"),
        ({"slug": "Vision"}, "slug"),
        ({"slug": "x" * 51}, "slug"),
        ({"slug": "taken"}, "slug"),
        ({"slug": "once"}, "slug"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"first_weekday": "7"}, "first_weekday"),
        ({"description": "x" * 501}, "description"),
    ],
)
def test_what_is_wrong_stands_at_its_field(client, team, wrong, field):
    FormerSlug.objects.create(team=TeamFactory(slug="taken"), slug="once")

    response = client.post(address("team_general", team), SAID | wrong)

    assert list(response.context["form"].errors) == [field]
    assert not AuditLine.objects.filter(team=team).exists()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.RESEARCHER, Role.LEAD])
def test_only_owners_change_and_archive(client, team, role):
    sign_in(client, MembershipFactory(team=team, role=role).user)

    answers = [client.post(address(name, team), SAID).status_code for name in ("team_general", "jobs:team_archive")]

    assert answers == [403, 403]


def test_spending_periods_of_another_zone_do_not_break_the_pages(client, team):
    SpendLimitFactory(team=team, amount=10)
    client.get(team.get_absolute_url())

    client.post(address("team_general", team), SAID)

    assert client.get("/t/vision/spend/").status_code == 200


# --- Former addresses -------------------------------------------------------------------------------------


@pytest.fixture
def moved(client, team):
    before = team.slug
    client.post(address("team_general", team), SAID)
    team.refresh_from_db()
    return before


def test_links_with_a_former_address_lead_members_on(client, team, moved):
    job = JobFactory(team=team)

    answers = [client.get(f"/t/{moved}/jobs/?state=failed"), client.get(f"/t/{moved}/jobs/{job.job_id}/")]

    assert [answer["Location"] for answer in answers] == ["/t/vision/jobs/?state=failed", f"/t/vision/jobs/{job.job_id}/"]


def test_a_former_address_tells_strangers_nothing_and_takes_nothing(client, team, moved):
    sent = client.post(f"/t/{moved}/settings/general/", SAID | {"name": "Other"}).status_code
    sign_in(client, MembershipFactory().user)

    assert (sent, client.get(f"/t/{moved}/members/").status_code) == (404, 404)


def test_scripts_with_a_former_address_go_on(client, owner, team, moved):
    MembershipFactory(user=owner.user)

    assert client.get("/api/cloud/jobs", {"team": moved}).status_code == 200


def test_a_former_address_is_nobody_elses_and_can_be_had_back(client, team, moved):
    assert teams.create(name=moved, owner=UserFactory()).slug == f"{moved}-2"

    answer = client.post(address("team_general", team), SAID | {"slug": moved})

    assert answer["Location"] == f"/t/{moved}/settings/general/"
    assert list(FormerSlug.objects.values_list("slug", flat=True)) == ["vision"]


# --- Archiving --------------------------------------------------------------------------------------------


def test_a_team_is_archived_when_its_name_is_typed(client, owner, team):
    _token, plain = make_token(owner)
    CredentialFactory(team=team)
    invites.invite(caller_of(owner), email="new@example.com", role="viewer")
    JobFactory(team=team, state=State.COMPLETED)

    wrong = client.post(address("jobs:team_archive", team), {"name": "another"})
    still = team.memberships.count()
    answer = client.post(address("jobs:team_archive", team), {"name": team.name})

    assert (list(wrong.context["form"].errors), still, answer["Location"]) == (["name"], 1, reverse("home"))
    assert client.get(address("members", team)).status_code == 404
    assert client.get("/api/cloud/jobs", headers={"Authorization": f"Bearer {plain}"}).status_code == 401
    assert (Credential.objects.in_use().exists(), team.invites.open().exists(), team.jobs.count()) == (False, False, 1)
    assert AuditLine.objects.get(event_type="team.archived").before == {"members": {owner.user.username: "owner"}}


def test_a_team_with_a_job_that_is_not_over_is_not_archived(client, team):
    JobFactory(team=team, state=State.RUNNING)

    page = client.post(address("jobs:team_archive", team), {"name": team.name})

    assert "1 job is not over yet." in page.content.decode()
    assert team.memberships.exists()


def test_archiving_asks_for_a_fresh_password(client, owner, team):
    sign_in(client, owner.user, seconds_ago=3600)

    assert client.post(address("jobs:team_archive", team), {"name": team.name})["Location"].startswith(reverse("account_reauthenticate"))
    assert team.memberships.exists()


# --- Suspended --------------------------------------------------------------------------------------------


@pytest.fixture
def staff(db):
    return UserFactory(is_staff=True, display_name="Sam Staff")


def test_a_suspended_team_says_so_and_whom_to_ask(client, team, staff):
    before = client.get(address("members", team)).content.decode()

    teams.suspend(team, by=staff, reason="The invoice is unpaid.")
    page = client.get(address("members", team)).content.decode()

    assert "This team is suspended." not in before
    assert [words in page for words in ("This team is suspended.", "The invoice is unpaid.", f"mailto:{staff.email}", "Sam Staff")] == [
        True
    ] * 4
    assert INLINE.findall(page) == []


def test_a_suspended_teams_pages_take_nothing_and_say_why(client, owner, team, staff):
    teams.suspend(team, by=staff, reason="unpaid")

    answers = [client.post(address(name, team), SAID) for name in ("team_general", "member_invite", "member_leave", "jobs:team_archive")]

    assert [answer.status_code for answer in answers] == [403] * 4
    assert {"The team is suspended" in answer.content.decode() for answer in answers} == {True}
    assert team.memberships.count() == 1


def test_the_api_of_a_suspended_team_reads_only(client, owner, team, staff):
    _token, plain = make_token(owner)
    teams.suspend(team, by=staff, reason="unpaid")
    key = {"Authorization": f"Bearer {plain}"}

    read = client.get("/api/cloud/jobs", headers=key)
    sent = client.post("/api/cloud/jobs/submit", {}, content_type="application/json", headers=key)

    assert (read.status_code, sent.status_code, sent.json()["code"]) == (200, 403, "team_suspended")


def test_a_suspended_teams_queue_goes_on_when_it_is_released(team, staff):
    job = JobFactory(team=team, state=State.PENDING, submitted_at=timezone.now())
    teams.suspend(team, by=staff, reason="unpaid")

    held = dispatch.dispatch()
    teams.release(team, by=staff, reason="paid")
    gone = dispatch.dispatch()

    assert (held, gone) == ([], [job])


# --- Who may do what --------------------------------------------------------------------------------------


def test_every_member_reads_who_may_do_what(client, team):
    for role in Role:
        sign_in(client, MembershipFactory(team=team, role=role).user)
        assert client.get(address("roles", team)).status_code == 200


def test_the_page_says_what_the_table_says(client, team):
    response = client.get(address("roles", team))

    said = response.context
    page = response.content.decode()
    assert said["rights_of_roles"] == [(right.label, [right in RIGHTS_OF_ROLE[role] for role in Role]) for right in Right]
    assert said["rights_of_scopes"] == [(right.label, [right in RIGHTS_OF_SCOPE[scope] for scope in Scope]) for right in Right]
    assert page.count(">yes<") == sum(
        [
            *(len(rights) for rights in RIGHTS_OF_ROLE.values()),
            *(len(rights) for rights in RIGHTS_OF_SCOPE.values()),
            *(manages(giver, role) for giver in Role for role in Role),
        ]
    )
    assert [name for name in PERMISSIONS if f"<code>{name}</code>" not in page] == []


def test_nobody_manages_anybody_above_their_own_level():
    levels = list(Role)

    assert {
        (giver, role) for giver in levels for role in levels if manages(giver, role) and levels.index(role) > levels.index(giver)
    } == set()
    assert {giver for giver in Role if any(manages(giver, role) for role in Role)} == {
        role for role in Role if Right.MANAGE in RIGHTS_OF_ROLE[role]
    }


def test_the_short_address_of_a_team_leads_to_its_jobs(client, team):
    answer = client.get(f"/t/{team.slug}/")

    assert answer.url == address("jobs:list", team)
