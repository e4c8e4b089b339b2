"""The administration: every page of this app opens, shows no secret, and changes leave an audit line."""

import csv
import io
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts import audit, credentials, teams
from accounts.admin.base import ReadOnlyAdmin
from accounts.models import (
    APIToken,
    AuditAnchor,
    AuditForwarding,
    AuditHead,
    AuditLine,
    Credential,
    DismissedHint,
    FormerSlug,
    Invite,
    Letter,
    Membership,
    PaceCount,
    Team,
    User,
)
from accounts.roles import Role
from tests.accounts.test_audit import tamper
from tests.factories import PASSWORD, CredentialFactory, MembershipFactory, TeamFactory, UserFactory, make_token
from tests.jobs.ready import caller_of
from tests.signing_in import sign_in

pytestmark = pytest.mark.django_db

OURS = [
    *(User, Team, FormerSlug, Membership, Invite, Letter, APIToken, Credential, AuditLine, AuditAnchor, AuditForwarding),
    *(EmailAddress, Authenticator),
]
EDITED = [User, Team]
PLANTED = "pLaNtEd0SeCrEt"


@pytest.fixture
def superuser():
    return UserFactory(is_staff=True, is_superuser=True)


@pytest.fixture
def support():
    return UserFactory(is_staff=True)


@pytest.fixture
def filled():
    """A row of everything, with secrets wherever one can be, and the texts that no page may show."""
    membership = MembershipFactory(role=Role.OWNER)
    token, plain = make_token(membership)
    credential = credentials.save(
        team=membership.team, kind="replicate", secret=f"r8_{PLANTED}{'x' * 23}", by=membership.user, user=membership.user
    )
    Credential.objects.filter(pk=credential.pk).update(signing_keys=f"whsec_{PLANTED}")
    Invite.objects.create(
        team=membership.team, email="new@example.com", secret_hash=f"hash-{PLANTED}", expires_at=timezone.now() + timedelta(days=7)
    )
    audit.record(team=membership.team, event_type="token.saved", action="x", before={"api_token": PLANTED}, after={"password": PLANTED})
    last = membership.team.audit_lines.order_by("-sequence").first()
    AuditAnchor.objects.create(team=membership.team, sequence=last.sequence, hash=last.hash, at=timezone.now())
    AuditForwarding.objects.create(team=membership.team, webhook_url=f"https://siem.example.com/{PLANTED}", auth_token=PLANTED)
    FormerSlug.objects.create(team=membership.team, slug="before")
    Letter.objects.create(person=membership.user, team=membership.team, event="maker_left")
    EmailAddress.objects.create(user=membership.user, email=membership.user.email)
    Authenticator.objects.create(user=membership.user, type="totp", data={"secret": PLANTED})
    return [PLANTED, plain[11:], token.secret_hash, credential.fingerprint]


def page(model, name, *args):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


def test_every_model_of_this_app_has_a_page_but_the_chains_ends_hints_and_nameless_counts():
    registered = {model for model in admin.site._registry if model._meta.app_label == "accounts"}

    assert registered == {*apps.get_app_config("accounts").get_models()} - {AuditHead, DismissedHint, PaceCount}
    assert {model for model in OURS if model not in admin.site._registry} == set()


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
@pytest.mark.parametrize("who", ["superuser", "support"])
def test_every_page_opens_and_shows_no_secret(client, request, filled, model, who):
    sign_in(client, request.getfixturevalue(who))
    row = model._default_manager.order_by("pk").first()
    pages = [
        page(model, "changelist"),
        page(model, "changelist") + "?q=person",
        page(model, "change", row.pk),
        page(model, "history", row.pk),
    ]
    if who == "superuser" and model in [*EDITED, Credential]:
        pages.append(page(model, "add"))

    answers = [client.get(address) for address in pages]

    assert [answer.status_code for answer in answers] == [200] * len(pages)
    for answer in answers:
        assert [secret for secret in filled if secret in answer.content.decode()] == []


def test_the_secrets_were_there_to_be_shown(filled):
    assert PLANTED in Credential.objects.get().reveal()
    assert PLANTED in Credential.objects.get().signing_keys
    assert Authenticator.objects.get().data == {"secret": PLANTED}


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_filters_and_dates_of_every_list_work(client, superuser, filled, model):
    sign_in(client, superuser)
    options = admin.site._registry[model]
    queries = [f"?{options.date_hierarchy}__year=2026"] if options.date_hierarchy else []
    for name in options.list_filter:
        queries.append(f"?{name[0]}__isempty=1" if isinstance(name, tuple) else f"?{name}__exact=1")

    answers = [client.get(page(model, "changelist") + query) for query in queries]

    # A value that does not exist leads to ?e=1, never to an error.
    assert {answer.status_code for answer in answers} <= {200, 302}
    assert answers != []


@pytest.mark.parametrize("model", [model for model in OURS if model not in [*EDITED, Credential]], ids=lambda model: model.__name__)
def test_what_services_write_cannot_be_edited(client, superuser, filled, model):
    sign_in(client, superuser)
    row = model._default_manager.order_by("pk").first()
    before = model._default_manager.values().order_by("pk")[:]
    before = list(before)

    statuses = [
        client.get(page(model, "add")).status_code,
        client.post(page(model, "change", row.pk), {}).status_code,
        client.post(page(model, "delete", row.pk), {"post": "yes"}).status_code,
    ]

    assert isinstance(admin.site._registry[model], ReadOnlyAdmin)
    assert statuses == [403, 403, 403]
    assert list(model._default_manager.values().order_by("pk")) == before


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_staff_without_more_look_and_do_not_touch(client, support, filled, model):
    sign_in(client, support)
    row = model._default_manager.order_by("pk").first()
    assert client.get(page(model, "change", row.pk)).status_code == 200

    statuses = [
        client.get(page(model, "add")).status_code,
        client.post(page(model, "change", row.pk), {}).status_code,
        client.post(page(model, "delete", row.pk), {"post": "yes"}).status_code,
    ]

    assert statuses == [403, 403, 403]


def test_members_who_are_no_staff_do_not_get_in(client):
    sign_in(client, MembershipFactory(role=Role.OWNER).user)

    assert client.get(reverse("admin:index")).status_code in {302, 403}
    assert client.get(page(Team, "changelist")).status_code in {302, 403}


def test_the_administration_has_no_sign_in_of_its_own(client):
    answer = client.get(reverse("admin:login"))

    assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, reverse("account_login"))


@pytest.mark.parametrize("model", [Membership, APIToken, Credential, AuditLine, Invite], ids=lambda model: model.__name__)
def test_a_list_costs_as_many_queries_with_three_rows_as_with_one(client, superuser, django_assert_num_queries, model):
    def add_row():
        membership = MembershipFactory()
        make_token(membership)
        CredentialFactory(team=membership.team, user=membership.user)
        Invite.objects.create(
            team=membership.team,
            email="a@example.com",
            secret_hash=membership.team.slug,
            invited_by=membership.user,
            expires_at=timezone.now(),
        )

    sign_in(client, superuser)
    add_row()
    client.get(page(model, "changelist"))
    with CaptureQueriesContext(connection) as one:
        client.get(page(model, "changelist"))
    add_row()
    add_row()

    with django_assert_num_queries(len(one)):
        answer = client.get(page(model, "changelist"))

    # Who looks here signed in first, and that is a line as well.
    assert answer.context["cl"].result_count == (4 if model is AuditLine else 3)


def test_chosen_tokens_are_revoked_with_an_audit_line(client, superuser):
    sign_in(client, superuser)
    token, _ = make_token()
    other, _ = make_token()

    client.post(page(APIToken, "changelist"), {"action": "revoke", "_selected_action": [token.pk]})

    token.refresh_from_db()
    other.refresh_from_db()
    line = AuditLine.objects.get(event_type="api_key.revoked")
    assert (token.revoked_at is None, other.revoked_at) == (False, None)
    assert (line.team, line.actor, line.address, line.target_id) == (token.team, superuser.username, "127.0.0.1", token.key_prefix)


def test_what_stands_in_no_list_is_not_chosen(client, superuser):
    sign_in(client, superuser)
    token, _ = make_token()

    answer = client.post(page(APIToken, "changelist"), {"action": "revoke", "_selected_action": [token.pk, "all"]}, follow=True)

    token.refresh_from_db()
    assert (answer.status_code, "Choose rows of the list." in answer.content.decode(), token.revoked_at) == (200, True, None)


def test_staff_without_more_cannot_revoke(client, support):
    sign_in(client, support)
    token, _ = make_token()

    client.post(page(APIToken, "changelist"), {"action": "revoke", "_selected_action": [token.pk]})

    token.refresh_from_db()
    assert token.revoked_at is None


def test_a_credential_goes_in_and_never_comes_out(client, superuser):
    sign_in(client, superuser)
    team = TeamFactory()
    asked = {"team": team.pk, "kind": "replicate", "name": "api_token", "new_secret": "r8_" + PLANTED}

    first = client.post(page(Credential, "add"), asked, follow=True)
    second = client.post(page(Credential, "add"), asked | {"new_secret": "r8_" + PLANTED + "2"}, follow=True)

    current = Credential.objects.in_use().get()
    assert (first.status_code, second.status_code) == (200, 200)
    assert PLANTED not in first.content.decode() + second.content.decode()
    assert (current.team, current.reveal(), current.created_by) == (team, "r8_" + PLANTED + "2", superuser)
    assert AuditLine.objects.filter(event_type="credential.created", team=team, actor=superuser.username).count() == 2


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"new_secret": "hf_x"}, "new_secret"),
        ({"kind": "s3", "new_secret": "pLaN tEd"}, "new_secret"),
        ({"team": ""}, "team"),
        ({"user": "own"}, "user"),
    ],
)
def test_a_credential_that_cannot_be_one_goes_back_to_the_form(client, superuser, wrong, field):
    sign_in(client, superuser)
    asked = {"team": TeamFactory().pk, "kind": "replicate", "name": "api_token", "new_secret": "r8_" + PLANTED} | wrong
    if wrong == {"user": "own"}:
        asked["user"] = superuser.pk

    answer = client.post(page(Credential, "add"), asked)

    assert (answer.status_code, list(answer.context["adminform"].form.errors)) == (200, [field])
    assert asked["new_secret"] not in answer.content.decode()
    assert not Credential.objects.exists()


def test_chosen_credentials_are_offered_no_more(client, superuser):
    sign_in(client, superuser)
    credential = CredentialFactory()

    client.post(page(Credential, "changelist"), {"action": "remove", "_selected_action": [credential.pk]})

    assert not Credential.objects.in_use().exists()
    assert AuditLine.objects.get(event_type="credential.deleted").actor == superuser.username


def test_a_team_and_its_members_are_changed_with_audit_lines(client, superuser):
    sign_in(client, superuser)
    team = TeamFactory()
    stays, leaves = (MembershipFactory(team=team, role=Role.RESEARCHER) for _ in range(2))
    joins = UserFactory()
    rows = [
        {"id": stays.pk, "user": stays.user.pk, "role": "owner"},
        {"id": leaves.pk, "user": leaves.user.pk, "role": "researcher", "DELETE": "on"},
        {"id": "", "user": joins.pk, "role": "viewer"},
    ]
    asked = {
        "name": "Renamed",
        "slug": team.slug,
        "time_zone": "UTC",
        "first_weekday": 0,
        "shows_details": "on",
        "credential_days": 90,
        "credential_warning_percent": 75,
    }
    asked |= {"memberships-TOTAL_FORMS": 3, "memberships-INITIAL_FORMS": 2}
    asked |= {f"memberships-{number}-{name}": value for number, row in enumerate(rows) for name, value in (row | {"team": team.pk}).items()}

    answer = client.post(page(Team, "change", team.pk), asked)

    assert answer.status_code == 302
    assert set(team.memberships.values_list("user", "role")) == {(stays.user.pk, "owner"), (joins.pk, "viewer")}
    told = AuditLine.objects.filter(team=team).order_by("sequence").values_list("event_type", "target_id", "before", "after")
    assert list(told) == [
        ("team.updated", str(team.pk), {"name": team.name}, {"name": "Renamed"}),
        ("member.added", str(joins.pk), {}, {"role": "viewer"}),
        ("user.level.changed", str(stays.user.pk), {"role": "researcher"}, {"role": "owner"}),
        ("member.removed", str(leaves.user.pk), {"role": "researcher"}, {}),
    ]
    assert audit.verify(team).valid


def team_form(team, *rows):
    """The team's own page, with these rows of members."""
    asked = {"name": "Team", "slug": team.slug, "time_zone": "UTC", "first_weekday": 0, "credential_days": 90}
    known = [row for row in rows if row["id"]]
    asked |= {"credential_warning_percent": 75, "memberships-TOTAL_FORMS": len(rows), "memberships-INITIAL_FORMS": len(known)}
    return asked | {
        f"memberships-{number}-{name}": value for number, row in enumerate(rows) for name, value in (row | {"team": team.pk}).items()
    }


@pytest.mark.parametrize("left", ["researcher", "deactivated owner"])
def test_the_administration_leaves_no_team_without_an_owner(client, superuser, left):
    client.force_login(superuser)
    member = MembershipFactory(user=UserFactory(is_active=left == "researcher"))
    row = {"id": member.pk, "user": member.user.pk, "role": "researcher" if left == "researcher" else "owner"}

    answer = client.post(page(Team, "change", member.team.pk), team_form(member.team, row))

    assert (answer.status_code, "A team needs an owner who can sign in." in answer.content.decode()) == (200, True)
    assert not AuditLine.objects.filter(team=member.team).exists()


def test_the_only_owner_is_replaced_on_the_teams_page_in_one_step(client, superuser):
    client.force_login(superuser)
    owner = MembershipFactory(role=Role.OWNER)
    heir = MembershipFactory(team=owner.team, role=Role.VIEWER)
    rows = [{"id": owner.pk, "user": owner.user.pk, "role": "viewer"}, {"id": heir.pk, "user": heir.user.pk, "role": "owner"}]

    answer = client.post(page(Team, "change", owner.team.pk), team_form(owner.team, *rows))

    assert answer.status_code == 302
    assert set(owner.team.memberships.values_list("user", "role")) == {(owner.user.pk, "viewer"), (heir.user.pk, "owner")}


def test_whoever_is_taken_out_on_the_teams_page_leaves_no_credential_and_no_invite_behind(client, superuser):
    client.force_login(superuser)
    owner = MembershipFactory(role=Role.OWNER)
    leaves = MembershipFactory(team=owner.team, role=Role.OWNER)
    CredentialFactory(team=owner.team, user=leaves.user)
    Invite.objects.create(
        team=owner.team, email="a@example.com", invited_by=leaves.user, secret_hash="x", expires_at=timezone.now() + timedelta(days=1)
    )
    rows = [
        {"id": owner.pk, "user": owner.user.pk, "role": "owner"},
        {"id": leaves.pk, "user": leaves.user.pk, "role": "owner", "DELETE": "on"},
    ]

    answer = client.post(page(Team, "change", owner.team.pk), team_form(owner.team, *rows))

    assert answer.status_code == 302
    assert (Credential.objects.in_use().exists(), Invite.objects.open().exists()) == (False, False)


def test_a_row_of_members_does_not_become_another_person(client, superuser):
    client.force_login(superuser)
    owner = MembershipFactory(role=Role.OWNER)

    client.post(page(Team, "change", owner.team.pk), team_form(owner.team, {"id": owner.pk, "user": superuser.pk, "role": "owner"}))

    assert list(owner.team.memberships.values_list("user", flat=True)) == [owner.user.pk]


def change_person(client, person, **rights):
    """Their page with these rights ticked, and the others not."""
    asked = {"username": person.username, "email": person.email, **{name: "on" for name, ticked in rights.items() if ticked}}
    answer = client.post(page(User, "change", person.pk), asked)
    person.refresh_from_db()
    return answer


def test_the_last_owner_of_a_team_is_not_deactivated_in_the_administration(client, superuser):
    client.force_login(superuser)
    owner = MembershipFactory(role=Role.OWNER)
    MembershipFactory(team=owner.team, role=Role.OWNER, user=UserFactory(is_active=False))

    refused = change_person(client, owner.user, is_active=False)
    was_active = owner.user.is_active
    MembershipFactory(team=owner.team, role=Role.OWNER)
    taken = change_person(client, owner.user, is_active=False)

    assert (refused.status_code, was_active) == (200, True)
    assert f"The team {owner.team} would be left without an owner. Make somebody else an owner first." in refused.content.decode()
    assert (taken.status_code, owner.user.is_active) == (302, False)


@pytest.mark.parametrize("taken", ["is_active", "is_staff", "is_superuser"])
def test_the_last_administrator_stays_one(client, superuser, taken):
    client.force_login(superuser)
    UserFactory(is_superuser=True, is_staff=False)
    rights = {"is_active": True, "is_staff": True, "is_superuser": True}

    refused = change_person(client, superuser, **(rights | {taken: False}))

    assert (refused.status_code, "This is the last active administrator." in refused.content.decode()) == (200, True)
    assert (superuser.is_active, superuser.is_staff, superuser.is_superuser) == (True, True, True)


def test_people_are_deleted_neither_one_by_one_nor_by_choosing_them(client, superuser):
    client.force_login(superuser)
    owner = MembershipFactory(role=Role.OWNER)

    alone = client.post(page(User, "delete", owner.user.pk), {"post": "yes"})
    chosen = {"action": "delete_selected", "_selected_action": [owner.user.pk], "post": "yes"}
    client.post(page(User, "changelist"), chosen)

    assert (alone.status_code, User.objects.filter(pk=owner.user.pk).exists()) == (403, True)


def act_on(client, team, action, reason=""):
    asked = {"action": action, "reason": reason, "_selected_action": [team.pk]}
    answer = client.post(page(Team, "changelist"), asked, follow=True).content.decode()
    team.refresh_from_db()
    return answer


def test_staff_suspend_and_release_with_a_reason(client, superuser):
    client.force_login(superuser)
    team = MembershipFactory().team

    silent = act_on(client, team, "suspend", " ")
    was_suspended = team.is_suspended
    act_on(client, team, "suspend", "unpaid")
    suspended = (team.is_suspended, team.suspension_reason)
    act_on(client, team, "suspend", "again")
    act_on(client, team, "release", "paid")

    assert ("Say why" in silent, was_suspended, suspended, team.is_suspended) == (True, False, (True, "unpaid"), False)
    lines = AuditLine.objects.filter(team=team).order_by("sequence").values_list("event_type", "actor", "reason")
    assert list(lines) == [("team.suspended", superuser.username, "unpaid"), ("team.released", superuser.username, "paid")]


def test_staff_without_more_suspend_nobody(client, support):
    client.force_login(support)
    team = MembershipFactory().team

    act_on(client, team, "suspend", "because")

    assert not team.is_suspended


def test_an_archived_team_is_opened_again_by_staff(client, superuser):
    client.force_login(superuser)
    owner = MembershipFactory()
    teams.archive(caller_of(owner), name=owner.team.name)

    act_on(client, owner.team, "reopen")
    act_on(client, owner.team, "reopen")

    assert [(member.user, member.role) for member in owner.team.memberships.all()] == [(superuser, "owner")]
    assert (owner.team.is_suspended, AuditLine.objects.filter(event_type="team.reopened").count()) == (False, 1)


def test_a_person_is_made_changed_and_given_a_password_with_audit_lines(client, superuser):
    sign_in(client, superuser)
    made = {"username": "newcomer", "email": "n@example.com", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}

    assert client.post(page(User, "add"), made).status_code == 302
    person = User.objects.get(username="newcomer")
    changed = {"username": "newcomer", "email": "n@example.com", "display_name": "New", "is_active": "on"}
    assert client.post(page(User, "change", person.pk), changed).status_code == 302
    address = reverse("admin:auth_user_password_change", args=[person.pk])
    new = PASSWORD + " 2"
    assert client.get(address).status_code == 200
    assert client.post(address, {"usable_password": "true", "password1": new, "password2": new}).status_code == 302

    person.refresh_from_db()
    lines = AuditLine.objects.filter(team=None).exclude(event_type="auth.login.success").order_by("sequence")
    assert person.check_password(new)
    assert list(lines.values_list("event_type", "target_id")) == [
        ("user.created", str(person.pk)), ("user.updated", str(person.pk)), ("user.password.changed", str(person.pk)),
    ]  # fmt: skip
    assert (lines[1].before, lines[1].after) == ({"display_name": ""}, {"display_name": "New"})
    assert all(PASSWORD not in f"{line.before}{line.after}{line.action}" for line in lines)


def test_whoever_may_edit_people_cannot_make_themselves_more(client):
    editor = UserFactory(is_staff=True)
    editor.user_permissions.add(Permission.objects.get(codename="change_user"))
    sign_in(client, editor)
    changed = {
        "username": editor.username,
        "email": editor.email,
        "display_name": "Me",
        "is_active": "on",
        "is_staff": "on",
        "is_superuser": "on",
    }

    assert client.post(page(User, "change", editor.pk), changed).status_code == 302

    editor.refresh_from_db()
    assert (editor.display_name, editor.is_staff, editor.is_superuser) == ("Me", True, False)


def act(client, action, *rows):
    return client.post(page(AuditLine, "changelist"), {"action": action, "_selected_action": [row.pk for row in rows]}, follow=True)


def test_the_chains_of_chosen_lines_are_verified(client, support):
    client.force_login(support)
    whole, broken = TeamFactory(slug="whole"), TeamFactory(slug="broken")
    lines = [audit.record(team=team, event_type="config.changed", action="x") for team in (whole, broken, None)]
    tamper("UPDATE accounts_auditline SET action = 'y' WHERE team_id = %s", broken.pk)

    answer = act(client, "verify", *lines)

    assert [str(message) for message in answer.context["messages"]] == [
        f"broken is broken at line {lines[1].pk}: The line was changed: its hash does not fit what it says.",
        "whole: 1 line, intact.",
        "platform: 2 lines, intact.",
    ]


def test_chosen_lines_are_downloaded_as_csv(client, support):
    client.force_login(support)
    first, second = (audit.record(team=None, event_type="config.changed", action=action) for action in ("=1", "two"))

    answer = act(client, "export_csv", first, second)

    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode(), newline="")))
    assert [(row["id"], row["action"], row["hash"]) for row in rows] == [
        (str(second.pk), "two", second.hash),
        (str(first.pk), "'=1", first.hash),
    ]


def test_whoever_signed_in_long_ago_confirms_before_a_secret_goes_in_or_is_taken_away(client, superuser):
    token, _ = make_token()
    credential = CredentialFactory()
    sign_in(client, superuser, seconds_ago=3600)

    answers = [
        client.get(page(Credential, "add")),
        client.post(page(Credential, "add"), {"team": credential.team_id, "kind": "s3", "name": "x", "new_secret": "s"}),
        client.post(page(Credential, "changelist"), {"action": "remove", "_selected_action": [credential.pk]}),
        client.post(page(APIToken, "changelist"), {"action": "revoke", "_selected_action": [token.pk]}),
        client.get(reverse("admin:auth_user_password_change", args=[superuser.pk])),
    ]

    assert [answer["Location"].split("?")[0] for answer in answers] == [reverse("account_reauthenticate")] * 5
    assert (Credential.objects.in_use().get(), APIToken.objects.get().revoked_at) == (credential, None)
    assert client.get(page(APIToken, "changelist")).status_code == 200
