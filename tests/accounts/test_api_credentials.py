"""Credentials that people have of their own in a team, by API: written, listed, counted as old, and never read."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import credentials
from accounts.models import AuditLine, Credential
from accounts.roles import Role, Scope
from tests.factories import CredentialFactory, MembershipFactory

pytestmark = pytest.mark.django_db

ME = "/api/users/me/credentials"
STALE = "/api/users/credentials/check-stale"
SECRET = "r8_" + "s" * 37
NEW = {"provider": "replicate", "credential_name": "api_token", "value": SECRET}
SHOWN = {
    "id": int, "provider": str, "credential_name": str, "description": str, "created_at": str, "updated_at": str,
    "last_used_at": type(None), "is_active": bool,
}  # fmt: skip


def of(member):
    return f"/api/users/{member.user.pk}/credentials"


@pytest.fixture
def aged(owner, researcher):
    """Make a credential that the researcher saved so many days ago."""

    def make(days, **more):
        made = CredentialFactory(team=owner.team, user=researcher.user, **more)
        Credential.objects.filter(pk=made.pk).update(created_at=timezone.now() - timedelta(days=days))
        return made

    return make


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_persons_credential_is_saved_and_never_shown(call, owner, researcher, ending):
    saved = call(owner, "post", of(researcher) + ending, NEW | {"description": "mine"})
    listed = call(owner, "get", of(researcher) + ending)

    found = Credential.objects.get(pk=saved.json()["id"])
    assert (saved.status_code, saved.json()["success"], found.user, found.team) == (200, True, researcher.user, owner.team)
    assert {name: type(value) for name, value in listed.json()[0].items()} == SHOWN
    assert (SECRET in listed.content.decode(), SECRET[-4:] in listed.content.decode()) == (False, False)
    assert credentials.find(team=owner.team, user=researcher.user, kind="replicate").reveal() == SECRET
    [line] = AuditLine.objects.filter(event_type="credential.created")
    assert (line.team, line.after["person"], SECRET in str(line.chained_fields())) == (owner.team, researcher.user.username, False)


def test_a_person_has_their_own_and_they_are_listed_by_provider(call, owner, researcher):
    call(researcher, "post", ME, NEW)
    call(researcher, "post", f"{ME}/", {"provider": "huggingface", "credential_name": "hub", "value": "hf_abc"})
    CredentialFactory(team=owner.team)
    CredentialFactory(team=MembershipFactory(user=researcher.user).team, user=researcher.user)

    mine, one = call(researcher, "get", ME).json(), call(researcher, "get", ME, provider="huggingface").json()

    assert [found["provider"] for found in mine] == ["huggingface", "replicate"]
    assert [found["credential_name"] for found in one] == ["hub"]


@pytest.mark.parametrize(
    ("wrong", "status", "field"),
    [
        ({"provider": "other"}, 400, "provider"), ({"provider": None}, 400, "provider"), ({"credential_name": ""}, 400, "credential_name"),
        ({"value": ""}, 400, "value"), ({"value": 7}, 400, "value"), ({"value": "hf_not_of_replicate"}, 422, "value"),
        ({"value": f"{SECRET}\n"}, 422, "value"), ({"provider": "s3"}, 422, "value"), ({"provider": "s3", "value": "key:"}, 422, "value"),
    ],
)  # fmt: skip
def test_a_credential_that_cannot_be_is_refused_without_being_repeated(call, researcher, wrong, status, field):
    answer = call(researcher, "post", ME, NEW | wrong)

    assert (answer.status_code, answer.json()["field"], Credential.objects.count()) == (status, field, 0)
    assert SECRET not in answer.content.decode()


@pytest.mark.parametrize("ending", ["", "/"])
def test_one_is_removed_by_its_name(call, owner, researcher, ending):
    CredentialFactory(team=owner.team, user=researcher.user, name="api_token")
    CredentialFactory(team=owner.team, user=researcher.user, name="second")
    CredentialFactory(team=owner.team, name="third")

    gone = [
        call(owner, "delete", f"{of(researcher)}/replicate/api_token{ending}"),
        call(researcher, "delete", f"{ME}/replicate/second{ending}"),
        call(researcher, "delete", f"{ME}/replicate/second{ending}"),
        call(researcher, "delete", f"{ME}/replicate/third{ending}"),
    ]

    assert [answer.status_code for answer in gone] == [200, 200, 404, 404]
    assert (Credential.objects.in_use().get().name, AuditLine.objects.filter(event_type="credential.deleted").count()) == ("third", 2)


@pytest.mark.parametrize(("body", "left"), [("", []), ({"provider": "replicate", "reason": "he left"}, ["huggingface"])])
def test_rotating_removes_them_so_that_new_ones_are_saved(call, owner, researcher, body, left):
    CredentialFactory(team=owner.team, user=researcher.user)
    CredentialFactory(team=owner.team, user=researcher.user, kind="huggingface")
    kept = CredentialFactory(team=owner.team)

    said = call(owner, "post", f"{of(researcher)}/rotate", body).json()

    assert (said["success"], said["rotated_count"], type(said["message"])) == (True, 2 - len(left), str)
    assert said["credentials"][-1] == {"provider": "replicate", "credential_name": "api_token", "status": "deleted"}
    assert [found.kind for found in Credential.objects.in_use().exclude(pk=kept.pk)] == left
    reasons = {line.reason for line in AuditLine.objects.filter(event_type="credential.deleted")}
    assert reasons == {body["reason"] if body else ""}


def test_a_person_rotates_their_own_and_nothing_is_no_error(call, researcher):
    said = call(researcher, "post", f"{ME}/rotate/").json()

    assert (said["success"], said["rotated_count"], said["credentials"]) == (True, 0, [])


@pytest.mark.parametrize("ending", ["", "/"])
def test_old_ones_are_counted_by_days(call, owner, researcher, aged, ending):
    aged(89, name="young")
    old = aged(90, name="old")
    removed = aged(200, name="removed")
    Credential.objects.filter(pk=removed.pk).update(removed_at=timezone.now())

    said = call(owner, "get", f"{of(researcher)}/stale{ending}").json()
    by_number = call(owner, "get", f"{of(researcher)}/stale{ending}", days="10").json()

    assert (said["user_id"], said["threshold_days"], said["stale_count"]) == (researcher.user.pk, 90, 1)
    assert [(found["id"], found["days_old"], found["credential_name"]) for found in said["credentials"]] == [(old.pk, 90, "old")]
    assert (by_number["threshold_days"], by_number["stale_count"]) == (10, 2)
    assert [call(owner, "get", f"{of(researcher)}/stale", days=days).status_code for days in ("0", "366", "x")] == [400, 400, 400]


def test_the_team_is_told_who_has_old_ones(call, owner, researcher, aged):
    aged(100)
    CredentialFactory(team=owner.team)

    said, none = call(owner, "post", STALE).json(), call(owner, "post", f"{STALE}/", days="200").json()

    assert said == {
        "threshold_days": 90, "total_stale": 1,
        "users_with_stale": [{"user_id": researcher.user.pk, "username": researcher.user.username, "stale_count": 1}],
    }  # fmt: skip
    assert none == {"threshold_days": 200, "total_stale": 0, "users_with_stale": []}


def test_somebody_of_another_team_is_not_there(call, owner):
    foreign = MembershipFactory()
    calls = [("get", ""), ("post", ""), ("delete", "/replicate/api_token"), ("post", "/rotate"), ("get", "/stale")]

    answers = [call(owner, method, of(foreign) + rest, NEW if method == "post" else None) for method, rest in calls]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "user_not_found")}


@pytest.mark.parametrize("role", [Role.VIEWER, Role.RESEARCHER, Role.LEAD])
def test_only_who_manages_the_team_reaches_other_peoples(call, owner, role):
    member = MembershipFactory(team=owner.team, role=role)
    calls = [("get", ""), ("post", ""), ("delete", "/replicate/api_token"), ("post", "/rotate"), ("get", "/stale")]

    answers = [call(member, method, of(owner) + rest, NEW if method == "post" else None) for method, rest in calls]
    answers.append(call(member, "post", STALE))

    assert {answer.status_code for answer in answers} == {403}


def test_a_viewer_and_a_reading_token_save_nothing(call, owner):
    viewer = MembershipFactory(team=owner.team, role=Role.VIEWER)

    answers = [call(viewer, "post", ME, NEW), call(owner, "post", ME, NEW, scopes=[Scope.READ]), call(None, "post", ME, NEW)]

    assert ([answer.status_code for answer in answers], Credential.objects.count()) == ([403, 403, 401], 0)
    assert call(viewer, "get", ME).json() == []
