"""The administration: every page of this app opens, shows no secret, and changes leave an audit line."""

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

from accounts import audit, credentials
from accounts.admin import ReadOnlyAdmin
from accounts.models import APIToken, AuditLine, Credential, Invite, Membership, Team, User
from accounts.roles import Role
from tests.factories import PASSWORD, CredentialFactory, MembershipFactory, TeamFactory, UserFactory, make_token

pytestmark = pytest.mark.django_db

OURS = [User, Team, Membership, Invite, APIToken, Credential, AuditLine, EmailAddress, Authenticator]
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
    EmailAddress.objects.create(user=membership.user, email=membership.user.email)
    Authenticator.objects.create(user=membership.user, type="totp", data={"secret": PLANTED})
    return [PLANTED, plain[11:], token.secret_hash, credential.fingerprint]


def page(model, name, *args):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


def test_every_model_of_this_app_has_a_page_but_the_chains_ends():
    registered = {model for model in admin.site._registry if model._meta.app_label == "accounts"}

    assert registered == {*apps.get_app_config("accounts").get_models()} - {apps.get_model("accounts.AuditHead")}
    assert {model for model in OURS if model not in admin.site._registry} == set()


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
@pytest.mark.parametrize("who", ["superuser", "support"])
def test_every_page_opens_and_shows_no_secret(client, request, filled, model, who):
    client.force_login(request.getfixturevalue(who))
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
    client.force_login(superuser)
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
    client.force_login(superuser)
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
    client.force_login(support)
    row = model._default_manager.order_by("pk").first()
    assert client.get(page(model, "change", row.pk)).status_code == 200

    statuses = [
        client.get(page(model, "add")).status_code,
        client.post(page(model, "change", row.pk), {}).status_code,
        client.post(page(model, "delete", row.pk), {"post": "yes"}).status_code,
    ]

    assert statuses == [403, 403, 403]


def test_members_who_are_no_staff_do_not_get_in(client):
    client.force_login(MembershipFactory(role=Role.OWNER).user)

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

    client.force_login(superuser)
    add_row()
    client.get(page(model, "changelist"))
    with CaptureQueriesContext(connection) as one:
        client.get(page(model, "changelist"))
    add_row()
    add_row()

    with django_assert_num_queries(len(one)):
        answer = client.get(page(model, "changelist"))

    assert answer.context["cl"].result_count == 3


def test_chosen_tokens_are_revoked_with_an_audit_line(client, superuser):
    client.force_login(superuser)
    token, _ = make_token()
    other, _ = make_token()

    client.post(page(APIToken, "changelist"), {"action": "revoke", "_selected_action": [token.pk]})

    token.refresh_from_db()
    other.refresh_from_db()
    line = AuditLine.objects.get(event_type="api_key.revoked")
    assert (token.revoked_at is None, other.revoked_at) == (False, None)
    assert (line.team, line.actor, line.address, line.target_id) == (token.team, superuser.username, "127.0.0.1", token.key_prefix)


def test_staff_without_more_cannot_revoke(client, support):
    client.force_login(support)
    token, _ = make_token()

    client.post(page(APIToken, "changelist"), {"action": "revoke", "_selected_action": [token.pk]})

    token.refresh_from_db()
    assert token.revoked_at is None


def test_a_credential_goes_in_and_never_comes_out(client, superuser):
    client.force_login(superuser)
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
    client.force_login(superuser)
    asked = {"team": TeamFactory().pk, "kind": "replicate", "name": "api_token", "new_secret": "r8_" + PLANTED} | wrong
    if wrong == {"user": "own"}:
        asked["user"] = superuser.pk

    answer = client.post(page(Credential, "add"), asked)

    assert (answer.status_code, list(answer.context["adminform"].form.errors)) == (200, [field])
    assert asked["new_secret"] not in answer.content.decode()
    assert not Credential.objects.exists()


def test_chosen_credentials_are_offered_no_more(client, superuser):
    client.force_login(superuser)
    credential = CredentialFactory()

    client.post(page(Credential, "changelist"), {"action": "remove", "_selected_action": [credential.pk]})

    assert not Credential.objects.in_use().exists()
    assert AuditLine.objects.get(event_type="credential.deleted").actor == superuser.username


def test_a_team_and_its_members_are_changed_with_audit_lines(client, superuser):
    client.force_login(superuser)
    team = TeamFactory()
    stays, leaves = (MembershipFactory(team=team, role=Role.RESEARCHER) for _ in range(2))
    joins = UserFactory()
    rows = [
        {"id": stays.pk, "user": stays.user.pk, "role": "lead"},
        {"id": leaves.pk, "user": leaves.user.pk, "role": "researcher", "DELETE": "on"},
        {"id": "", "user": joins.pk, "role": "viewer"},
    ]
    asked = {
        "name": "Renamed",
        "slug": team.slug,
        "time_zone": "UTC",
        "first_weekday": 0,
        "shows_details": "on",
        "suspended_at_0": "",
        "suspended_at_1": "",
    }
    asked |= {"memberships-TOTAL_FORMS": 3, "memberships-INITIAL_FORMS": 2}
    asked |= {f"memberships-{number}-{name}": value for number, row in enumerate(rows) for name, value in (row | {"team": team.pk}).items()}

    answer = client.post(page(Team, "change", team.pk), asked)

    assert answer.status_code == 302
    assert set(team.memberships.values_list("user", "role")) == {(stays.user.pk, "lead"), (joins.pk, "viewer")}
    told = AuditLine.objects.filter(team=team).order_by("sequence").values_list("event_type", "target_id", "before", "after")
    assert list(told) == [
        ("team.updated", str(team.pk), {"name": team.name}, {"name": "Renamed"}),
        ("user.level.changed", str(stays.user.pk), {"role": "researcher"}, {"role": "lead"}),
        ("user.level.changed", str(leaves.user.pk), {"role": "researcher"}, {"role": None}),
        ("user.level.changed", str(joins.pk), {"role": None}, {"role": "viewer"}),
    ]
    assert audit.verify(team).valid


def test_a_person_is_made_changed_and_given_a_password_with_audit_lines(client, superuser):
    client.force_login(superuser)
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
    lines = AuditLine.objects.filter(team=None).order_by("sequence")
    assert person.check_password(new)
    assert list(lines.values_list("event_type", "target_id")) == [
        ("user.created", str(person.pk)), ("user.updated", str(person.pk)), ("user.password.changed", str(person.pk)),
    ]  # fmt: skip
    assert (lines[1].before, lines[1].after) == ({"display_name": ""}, {"display_name": "New"})
    assert all(PASSWORD not in f"{line.before}{line.after}{line.action}" for line in lines)


def test_whoever_may_edit_people_cannot_make_themselves_more(client):
    editor = UserFactory(is_staff=True)
    editor.user_permissions.add(Permission.objects.get(codename="change_user"))
    client.force_login(editor)
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
