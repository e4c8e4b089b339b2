"""The team's token at the provider: saved, asked about, and what is said when it is wrong or nobody answers."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import AuditLine, Credential
from accounts.roles import Role
from jobs.services import provider
from tests.factories import CredentialFactory, MembershipFactory, make_token

TOKEN = "/api/cloud/providers/replicate/token"
VALIDATE = "/api/cloud/providers/replicate/validate"


@pytest.fixture
def owner(db, settings, account):
    settings.REPLICATE_BASE_URL = account.sandbox.url
    return MembershipFactory(role=Role.OWNER)


@pytest.fixture
def put(owner, client):
    _, key = make_token(owner)

    def send(body, path=TOKEN, key=key):
        return client.put(path, body, content_type="application/json", headers={"Authorization": f"Bearer {key}"})

    return send


@pytest.fixture
def ask(owner, client):
    _, key = make_token(owner)
    return lambda path=VALIDATE: client.get(path, headers={"X-API-Key": key})


@pytest.mark.parametrize("path", [TOKEN, f"{TOKEN}/"])
def test_a_good_token_is_saved_and_encrypted(put, owner, account, path):
    answer = put({"api_token": account.token}, path)

    kept = Credential.objects.in_use().get()
    stored = Credential.objects.filter(pk=kept.pk).extra(select={"raw": "secret"}).values_list("raw", flat=True).get()
    assert (answer.status_code, answer.json()) == (200, {"success": True, "file_path": None, "error": None})
    assert (kept.team, kept.reveal(), kept.health, kept.account_username) == (owner.team, account.token, "good", account.name)
    assert account.token not in str(stored)
    line = AuditLine.objects.get(event_type="token.saved")
    assert (line.after, line.actor) == ({"last_four": account.token[-4:]}, owner.user.username)


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        ("", "The token is empty."),
        ("r8_a b", "The token has a blank or a line break in it. Copy it again without them."),
        ("r8_abc\n", "The token has a blank or a line break in it. Copy it again without them."),
        ("sk_abc", "A Replicate token begins with r8_. Copy it from https://replicate.com/account/api-tokens."),
        ("r8_ä", "The token has characters that no token has. Copy it again."),
        (5, "Send the token as text in 'api_token'."),
        (None, "Send the token as text in 'api_token'."),
    ],
)
def test_a_token_that_cannot_be_one_is_refused_and_nothing_is_saved(put, token, sentence):
    answer = put({"api_token": token})

    assert (answer.status_code, answer.json()["detail"], answer.json()["field"]) == (400, sentence, "api_token")
    assert not Credential.objects.exists()
    assert not AuditLine.objects.filter(event_type="token.saved").exists()


def test_a_token_that_the_provider_refuses_is_saved_and_said_to_be_refused(put):
    answer = put({"api_token": "r8_" + "0" * 37})

    assert (answer.status_code, answer.json()["success"]) == (200, True)
    assert answer.json()["error"].startswith("Token saved but validation failed: Replicate does not accept this token.")
    assert Credential.objects.in_use().get().health == "refused"


def test_a_token_is_saved_while_the_provider_is_away(put, account, settings):
    settings.REPLICATE_BASE_URL = "http://127.0.0.1:9"

    answer = put({"api_token": account.token})

    assert answer.json()["error"].startswith("Token saved but validation failed: Replicate could not be asked: ")
    assert (Credential.objects.in_use().get().health, account.token in answer.content.decode()) == ("unchecked", False)


def test_only_those_who_manage_the_team_save_its_token(put, owner, account):
    _, key = make_token(MembershipFactory(team=owner.team, role=Role.LEAD))

    answer = put({"api_token": account.token}, key=key)

    assert (answer.status_code, answer.json()["details"]) == (403, {"required_permission": "admin.config"})
    assert not Credential.objects.exists()


def test_the_token_of_another_provider_is_not_found(put):
    assert put({"api_token": "r8_x"}, "/api/cloud/providers/other/token").status_code == 404


@pytest.mark.parametrize("path", [VALIDATE, f"{VALIDATE}/", "/api/cloud/replicate/validate"])
def test_a_good_token_is_validated_with_its_account(ask, owner, account, path):
    CredentialFactory(team=owner.team, secret=account.token)

    said = ask(path).json()

    assert (said["valid"], said["username"], said["error"]) == (True, account.name, None)
    assert said["user_info"]["username"] == account.name
    assert said["user_info"]["token_source"] == "team"


def test_without_a_token_the_sentence_is_the_documented_one(ask):
    answer = ask()

    assert (answer.status_code, answer.json()["valid"], answer.json()["error"]) == (200, False, "REPLICATE_API_TOKEN not set")
    assert isinstance(answer.json()["user_info"], dict)


def test_a_persons_own_token_comes_first(ask, owner, account):
    CredentialFactory(team=owner.team, secret="r8_" + "0" * 37)
    CredentialFactory(team=owner.team, user=owner.user, secret=account.token)

    assert ask().json()["user_info"]["token_source"] == "user"


def test_the_installations_token_serves_where_it_is_shared(ask, account, settings):
    settings.REPLICATE_API_TOKEN = account.token

    shared = ask().json()
    settings.SHARE_INSTALLATION_CREDENTIALS = False
    kept_back = ask().json()

    assert (shared["valid"], shared["user_info"]["token_source"]) == (True, "global")
    assert (kept_back["valid"], kept_back["error"]) == (False, "REPLICATE_API_TOKEN not set")


def test_a_refused_token_and_a_silent_provider_are_told_apart(ask, owner, settings):
    CredentialFactory(team=owner.team, secret="r8_" + "0" * 37)

    refused = ask().json()
    settings.REPLICATE_BASE_URL = "http://127.0.0.1:9"
    silent = ask().json()

    assert (refused["valid"], refused["error"][:40]) == (False, "Replicate does not accept this token. It")
    assert (silent["valid"], silent["error"][:29]) == (False, "Replicate could not be asked:")


def test_nobody_saves_or_is_told_anything(db, client):
    assert client.put(TOKEN, {"api_token": "r8_x"}, content_type="application/json").status_code == 401
    assert client.get(VALIDATE).status_code == 401


# --- Signing keys -----------------------------------------------------------------------------------------


@pytest.fixture
def credential(owner, account):
    return CredentialFactory(team=owner.team, secret=account.token)


def keys_of(credential, **options):
    return provider.signing_keys(team=credential.team, credential=Credential.objects.get(pk=credential.pk), **options)


def test_a_signing_secret_is_fetched_once_and_kept(credential, account, settings):
    theirs = account.http.get("/v1/webhooks/default/secret").json()["key"]

    first = keys_of(credential)
    settings.REPLICATE_BASE_URL = "http://127.0.0.1:9"
    second = keys_of(credential)

    assert first == second == [theirs]


def test_a_changed_secret_is_fetched_at_most_once_a_minute_and_the_former_stays(credential, account):
    theirs = account.http.get("/v1/webhooks/default/secret").json()["key"]
    long_ago, just_now = timezone.now() - timedelta(seconds=61), timezone.now() - timedelta(seconds=45)
    Credential.objects.update(signing_keys="whsec_b2xk\nwhsec_b2xkZXI=", signing_keys_fetched_at=just_now)

    too_soon = keys_of(credential, refetch=True)
    Credential.objects.update(signing_keys_fetched_at=long_ago)
    not_asked = keys_of(credential)
    fetched = keys_of(credential, refetch=True)

    assert too_soon == not_asked == ["whsec_b2xk", "whsec_b2xkZXI="]
    assert fetched == [theirs, "whsec_b2xk"]


def test_a_secret_that_cannot_be_fetched_is_not_asked_for_again_at_once(credential, account, settings):
    settings.REPLICATE_BASE_URL = "http://127.0.0.1:9"
    assert keys_of(credential) == []
    settings.REPLICATE_BASE_URL = account.sandbox.url

    at_once = keys_of(credential)
    Credential.objects.update(signing_keys_fetched_at=timezone.now() - timedelta(seconds=61))

    assert (at_once, len(keys_of(credential))) == ([], 1)
