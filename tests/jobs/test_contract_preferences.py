"""Polling, ages of credentials, making accounts and hints, in the shapes of SimpleTuner's API."""

import pytest

from accounts.models import AuditLine, DismissedHint, Registration, Team
from accounts.roles import Role, Scope
from tests.factories import MembershipFactory, UserFactory, make_token

CLOUD = "/api/cloud"
POLLING = f"{CLOUD}/polling/setting"
AGES = f"{CLOUD}/settings/credentials"
REGISTRATION = f"{CLOUD}/settings/registration"
HINTS = f"{CLOUD}/hints"

pytestmark = pytest.mark.django_db


@pytest.fixture
def call(client):
    def send(member, path, body=None, *, method="get", scopes=None):
        _, key = make_token(member, scopes=scopes)
        more = {} if method == "get" else {"content_type": "application/json"}
        return getattr(client, method)(path, {} if method == "get" else body, headers={"Authorization": f"Bearer {key}"}, **more)

    return send


def colleague(owner, role=Role.LEAD):
    return MembershipFactory(team=owner.team, role=role)


# --- Polling ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
@pytest.mark.parametrize(("body", "said"), [({"enabled": True}, True), ({"enabled": None}, None), ("", None)])
def test_polling_stays_on(call, owner, body, said, ending):
    answer = call(owner, POLLING + ending, body, method="put")

    assert (answer.status_code, answer.json()) == (200, {"success": True, "enabled": said, "is_active": True})


def test_polling_is_not_switched_off(call, owner):
    off, odd = call(owner, POLLING, {"enabled": False}, method="put"), call(owner, POLLING, {"enabled": "no"}, method="put")

    assert (off.status_code, off.json()["field"], odd.status_code) == (422, "enabled", 400)
    assert off.json()["detail"] == "Polling brings every job home, whatever becomes of its webhooks, and cannot be switched off."
    assert call(owner, f"{CLOUD}/polling/status").json()["is_active"] is True


def test_who_sets_polling(call, owner, client):
    answer = call(colleague(owner), POLLING, {"enabled": True}, method="put")

    assert (answer.status_code, answer.json()["details"]) == (403, {"required_permission": "admin.config"})
    assert client.put(POLLING, {}, content_type="application/json").status_code == 401


# --- Ages of credentials ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_the_ages_are_kept_for_the_team_and_audited(call, owner, ending):
    first = call(owner, AGES + ending)
    changed = call(owner, AGES + ending, {"stale_threshold_days": 30, "early_warning_enabled": True}, method="put")
    same = call(owner, AGES + ending, "", method="put")

    assert (first.status_code, first.json()) == (
        200, {"stale_threshold_days": 90, "early_warning_enabled": False, "early_warning_percent": 75},
    )  # fmt: skip
    assert changed.json() == same.json() == {"stale_threshold_days": 30, "early_warning_enabled": True, "early_warning_percent": 75}
    line = AuditLine.objects.get(event_type="config.changed")
    assert (line.team, line.before["days"], line.after) == (owner.team, 90, {"days": 30, "warns_early": True, "warning_percent": 75})
    assert call(MembershipFactory(), AGES).json()["stale_threshold_days"] == 90


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stale_threshold_days", 0), ("stale_threshold_days", 366), ("stale_threshold_days", "30"), ("stale_threshold_days", True),
        ("early_warning_percent", 0), ("early_warning_percent", 100), ("early_warning_enabled", "yes"),
    ],
)  # fmt: skip
def test_an_age_out_of_bounds_is_refused_and_nothing_kept(call, owner, key, value):
    answer = call(owner, AGES, {"stale_threshold_days": 5, key: value}, method="put")

    assert (answer.status_code, answer.json()["field"]) == (400, key)
    assert Team.objects.get().credential_days == 90


def test_who_reads_and_sets_the_ages(call, owner, client):
    lead = colleague(owner)

    answers = [call(lead, AGES), call(lead, AGES, {}, method="put"), call(owner, AGES, scopes=[Scope.READ])]

    assert [answer.json()["details"] for answer in answers] == [{"required_permission": "admin.config"}] * 3
    assert client.get(AGES).status_code == 401


# --- Making accounts ----------------------------------------------------------------------------------------


@pytest.fixture
def staff(client):
    """Staff who are signed in, with the least role in a team."""
    member = MembershipFactory(role=Role.VIEWER, user=UserFactory(is_staff=True))
    client.force_login(member.user)
    return member


def put(client, body):
    return client.put(REGISTRATION, body, content_type="application/json")


def test_accounts_are_closed_unless_staff_open_them(client, staff, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

    first, opened = client.get(REGISTRATION), put(client, {"enabled": True, "default_level": "viewer"})

    assert (first.status_code, first.json()) == (200, {
        "enabled": False, "default_level": "researcher", "email_configured": False,
        "email_required_warning": "E-mail is not set up on this server, so nobody's address can be confirmed. Its operator sets EMAIL_URL.",
    })  # fmt: skip
    assert (opened.status_code, opened.json()["enabled"], opened.json()["default_level"]) == (200, True, "viewer")
    line = AuditLine.objects.get(event_type="config.changed")
    assert (line.team, line.actor, line.after) == (None, staff.user.username, {"enabled": True, "default_level": "viewer"})


def test_with_mail_nothing_is_warned_of(client, staff, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"

    said = client.get(f"{REGISTRATION}/").json()

    assert (said["email_configured"], said["email_required_warning"]) == (True, None)


@pytest.mark.parametrize(("level", "status"), [("lead", 422), ("owner", 422), ("king", 400), (3, 400)])
def test_nobody_becomes_more_than_a_researcher_by_themselves(client, staff, level, status):
    answer = put(client, {"enabled": True, "default_level": level})

    assert (answer.status_code, answer.json()["field"]) == (status, "default_level")
    assert not Registration.objects.exists()


def test_an_empty_body_changes_nothing(client, staff):
    assert put(client, "").json()["enabled"] is False
    assert (put(client, {"enabled": "yes"}).status_code, AuditLine.objects.filter(event_type="config.changed").count()) == (400, 0)


def test_an_owner_reads_it_and_only_staff_change_it(call, client, owner, staff):
    client.logout()

    read, changed = call(owner, REGISTRATION), call(owner, REGISTRATION, {"enabled": True}, method="put")
    by_token = call(staff, REGISTRATION, {"enabled": True}, method="put")

    assert (read.status_code, call(colleague(owner), REGISTRATION).json()["details"]) == (200, {"required_permission": "admin.config"})
    assert [answer.status_code for answer in (changed, by_token, call(staff, REGISTRATION), put(client, {}))] == [403, 403, 403, 401]
    assert changed.json()["details"] == {"required_permission": "admin.users"}
    assert not Registration.objects.exists()


# --- Hints --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
@pytest.mark.parametrize("name", ["dataloader", "git", "admin_quotas"])
def test_a_dismissed_hint_stays_so_until_it_is_shown_again(call, owner, name, ending):
    viewer = colleague(owner, Role.VIEWER)

    answers = [call(viewer, f"{HINTS}/dismiss/{name}{ending}", "", method="post") for _ in range(2)]
    known, status = call(viewer, HINTS + ending).json(), call(viewer, f"{HINTS}/status{ending}").json()
    shown = call(viewer, f"{HINTS}/show/{name}{ending}", "", method="post")

    assert [(answer.status_code, answer.json()) for answer in [*answers, shown]] == [(200, {"success": True, "hint": name})] * 3
    assert known == {"dismissed_hints": [name]}
    assert status == {"dataloader_hint_dismissed": name == "dataloader", "git_hint_dismissed": name == "git"}
    assert call(viewer, HINTS).json() == {"dismissed_hints": []}


def test_hints_are_a_persons_own_in_every_team(call, owner, client):
    call(owner, f"{HINTS}/dismiss/git", "", method="post")

    assert call(MembershipFactory(user=owner.user), HINTS).json() == {"dismissed_hints": ["git"]}
    assert call(colleague(owner), HINTS).json() == {"dismissed_hints": []}
    assert client.get(HINTS).status_code == 401


@pytest.mark.parametrize("name", ["other", "admin_", "gits", "admin_" + "x" * 60])
def test_a_hint_that_is_none_is_refused(call, owner, name):
    answers = [call(owner, f"{HINTS}/{verb}/{name}", "", method="post") for verb in ("dismiss", "show")]

    assert [(answer.status_code, answer.json()["field"]) for answer in answers] == [(400, "name")] * 2
    assert not DismissedHint.objects.exists()
