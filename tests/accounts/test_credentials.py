"""Credentials: which one a person works with, and what remains of those that were replaced."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from accounts import audit, credentials
from accounts.errors import InvalidInput
from accounts.models import AuditLine, Credential, CredentialHealth, CredentialKind, Team
from tests.factories import CredentialFactory, MembershipFactory, TeamFactory, UserFactory

pytestmark = pytest.mark.django_db

TOKEN = "r8_" + "Ab3" * 12 + "z"
OTHER = "r8_" + "Cd4" * 12 + "y"


@pytest.fixture
def owner():
    return MembershipFactory()


def save(owner, secret=TOKEN, **options):
    return credentials.save(**{"team": owner.team, "kind": "replicate", "secret": secret, "by": owner.user} | options)


def find(owner, kind="replicate"):
    return credentials.find(team=owner.team, user=owner.user, kind=kind)


@dataclass
class Account:
    username: str
    type: str


@pytest.mark.parametrize(
    ("text", "word"),
    [("", "empty"), (TOKEN + "\n", "line break"), (" " + TOKEN, "blank"), ("hf_abcdefgh", "r8_"), (TOKEN + "é", "characters")],
)
def test_a_replicate_token_that_cannot_be_one_is_refused_in_a_sentence(owner, text, word):
    assert word in credentials.problem_with_replicate_token(text)

    with pytest.raises(InvalidInput) as refused:
        save(owner, text)

    assert refused.value.field == "secret"
    assert text == "" or text not in refused.value.detail
    assert not Credential.objects.exists()


def test_a_good_replicate_token_has_no_problem():
    assert credentials.problem_with_replicate_token(TOKEN) == ""


def test_a_secret_is_sealed_in_the_database(owner):
    credential = save(owner)

    with connection.cursor() as cursor:
        cursor.execute("SELECT c::text FROM accounts_credential c UNION ALL SELECT a::text FROM accounts_auditline a")
        rows = [row for (row,) in cursor.fetchall()]

    assert len(rows) == 2
    assert all(TOKEN not in row for row in rows)
    assert Credential.objects.get(pk=credential.pk).reveal() == TOKEN
    assert (credential.last_four, str(credential)) == (TOKEN[-4:], f"Replicate …{TOKEN[-4:]}")
    assert TOKEN not in repr(credential)


def test_a_persons_own_comes_before_the_teams(owner):
    teams = save(owner)
    own = save(owner, OTHER, user=owner.user)
    colleague = MembershipFactory(team=owner.team)

    assert find(owner) == own
    assert find(colleague) == teams
    assert credentials.find(team=owner.team, user=None, kind="replicate") == teams


def test_what_a_person_saved_for_one_team_is_not_used_in_another(owner):
    save(owner, user=owner.user)
    elsewhere = MembershipFactory(user=owner.user)
    assert find(owner) is not None

    assert find(elsewhere) is None


def test_another_teams_is_never_used(owner, settings):
    save(owner)
    stranger = MembershipFactory()

    assert find(stranger) is None
    settings.REPLICATE_API_TOKEN = OTHER
    assert find(stranger).reveal() == OTHER


def test_kinds_and_names_are_apart(owner):
    save(owner, kind="huggingface", secret="hf_abcdefgh")
    save(owner, name="second")

    assert find(owner) is None
    assert find(owner, kind="huggingface").reveal() == "hf_abcdefgh"


def test_a_new_secret_replaces_the_former_one_which_jobs_keep(owner):
    former = save(owner)

    current = save(owner, OTHER)

    former.refresh_from_db()
    assert (find(owner), former.reveal()) == (current, TOKEN)
    assert former.removed_at is not None
    line = AuditLine.objects.filter(event_type="credential.created").latest("pk")
    assert (line.before["last_four"], line.after["last_four"]) == (TOKEN[-4:], OTHER[-4:])


def test_a_removed_credential_is_not_offered_and_removed_once(owner):
    credential = save(owner)

    first, second = (credentials.remove(credential, by=owner.user) for _ in range(2))

    assert (first, second, find(owner)) == (True, False, None)
    assert AuditLine.objects.filter(event_type="credential.deleted").count() == 1
    assert audit.verify(owner.team).valid


def test_secrets_of_removed_credentials_are_wiped_once_nothing_needs_them(owner):
    needed, idle, current = save(owner), save(owner, OTHER), save(owner, TOKEN)
    Credential.objects.update(signing_keys="whsec_planted")

    assert credentials.wipe_removed(still_needed=[needed.pk]) == 1
    assert credentials.wipe_removed(still_needed=[needed.pk]) == 0

    for credential in (needed, idle, current):
        credential.refresh_from_db()
    assert [credential.secret for credential in (needed, idle, current)] == [TOKEN, "", TOKEN]
    assert [credential.signing_keys for credential in (needed, idle, current)] == ["whsec_planted", "", "whsec_planted"]


def test_the_installations_token_serves_who_has_none_as_far_as_allowed(owner, settings):
    settings.REPLICATE_API_TOKEN = TOKEN
    settings.HF_TOKEN = "hf_installation"

    shared, again = find(owner), find(MembershipFactory())
    hub = find(owner, kind="huggingface")

    assert shared == again
    assert (shared.team, shared.is_from_environment, shared.secret, shared.last_four) == (None, True, "", TOKEN[-4:])
    assert (shared.reveal(), hub.reveal()) == (TOKEN, "hf_installation")
    assert find(owner, kind="s3") is None
    settings.SHARE_INSTALLATION_CREDENTIALS = False
    assert find(owner) is None


def test_another_installation_token_makes_another_row(owner, settings):
    settings.REPLICATE_API_TOKEN = TOKEN
    former = find(owner)

    settings.REPLICATE_API_TOKEN = OTHER
    current = find(owner)

    former.refresh_from_db()
    assert former != current
    assert (former.removed_at is None, current.removed_at is None) == (False, True)
    assert current.last_four == OTHER[-4:]
    settings.REPLICATE_API_TOKEN = TOKEN
    assert find(owner) == former
    assert Credential.objects.in_use().get() == former


@pytest.mark.django_db(transaction=True)
def test_the_installations_row_is_made_once_by_many_at_once(settings):
    settings.REPLICATE_API_TOKEN = TOKEN
    team = TeamFactory()

    def look(_):
        try:
            return credentials.find(team=team, user=None, kind="replicate").pk
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(look, range(8)))

    assert found == {Credential.objects.get().pk}


@pytest.mark.django_db(transaction=True)
def test_two_who_save_at_once_take_turns():
    owner = MembershipFactory()

    def write(number):
        try:
            return save(owner, f"r8_{number:037d}").pk
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(write, range(8)))

    assert len(made) == 8
    assert Credential.objects.in_use().get().pk in made


def test_health_is_kept_and_a_change_of_it_told(owner):
    credential = save(owner)
    now = timezone.now()

    answers = [
        credentials.mark(credential, health=CredentialHealth.GOOD, account=Account("acme", "organization"), now=now),
        credentials.mark(credential, health=CredentialHealth.GOOD, now=now),
        credentials.mark(credential, health=CredentialHealth.NO_CREDIT, reason="Out of credit.", now=now),
    ]

    credential.refresh_from_db()
    assert answers == [True, False, True]
    assert (credential.health, credential.health_reason, credential.checked_at) == ("no_credit", "Out of credit.", now)
    assert (credential.account_username, credential.account_type) == ("acme", "organization")


def test_a_check_does_not_make_an_old_secret_look_new(owner):
    credential = save(owner)
    Credential.objects.update(updated_at="2020-01-01T00:00Z")

    credentials.mark(credential, health=CredentialHealth.GOOD, now=timezone.now())

    credential.refresh_from_db()
    assert credential.is_stale


@pytest.mark.parametrize(("days", "is_nearly", "is_stale"), [(7, False, False), (8, True, False), (10, False, True)])
def test_a_team_says_when_its_credentials_are_old_and_when_it_wants_a_hint(owner, days, is_nearly, is_stale):
    Team.objects.update(credential_days=10, warns_of_old_credentials=True, credential_warning_percent=75)
    save(owner)
    Credential.objects.update(updated_at=timezone.now() - timedelta(days=days))

    credential = Credential.objects.get()

    assert (credential.is_nearly_stale, credential.is_stale) == (is_nearly, is_stale)
    Team.objects.update(warns_of_old_credentials=False)
    assert Credential.objects.get().is_nearly_stale is False


def test_the_factory_makes_what_the_service_would():
    credential = CredentialFactory()

    assert credentials.find(team=credential.team, user=UserFactory(), kind=CredentialKind.REPLICATE) == credential
    assert credential.reveal().endswith(credential.last_four)
