"""What SimpleTuner's pages ask before a submission: where results can go, the repository, and polling."""

import json

import pytest

from accounts.roles import Role, Scope
from jobs.models import ProviderSettings
from tests.factories import CredentialFactory, MembershipFactory, make_token

CLOUD = "/api/cloud"
FOR_ALL = [f"{CLOUD}/publishing/status", f"{CLOUD}/publishing-status", f"{CLOUD}/polling/status"]
FOR_SUBMITTERS = [f"{CLOUD}/local-upload/config", f"{CLOUD}/pre-submit-check"]


@pytest.fixture
def member(db, settings):
    settings.PUBLIC_URL = ""
    return MembershipFactory(role=Role.RESEARCHER)


@pytest.fixture
def get(member, client):
    _, own = make_token(member)
    return lambda path, key=own: client.get(path, headers={"X-API-Key": key})


def test_who_may_ask_with_either_ending(get, member, client):
    _, viewer = make_token(MembershipFactory(team=member.team, role=Role.VIEWER), scopes=[Scope.READ])

    for path in FOR_ALL:
        assert [get(path, viewer).status_code, get(f"{path}/").status_code, client.get(path).status_code] == [200, 200, 401]
    for path in FOR_SUBMITTERS:
        assert [get(path).status_code, get(f"{path}/").status_code, client.get(path).status_code] == [200, 200, 401]
        assert get(path, viewer).json()["details"] == {"required_permission": "job.submit"}


def test_a_new_team_is_told_that_results_have_nowhere_to_go(get):
    said, short = get(FOR_ALL[0]).json(), get(FOR_ALL[1]).json()

    assert said.pop("message").startswith("Results have nowhere to go yet.")
    assert said == {
        "hf_configured": False, "hf_token_valid": False, "hf_username": None, "hub_model_id": None, "push_to_hub": False,
        "s3_configured": False, "local_upload_available": False, "local_upload_dir": None,
    }  # fmt: skip
    assert short == {
        "push_to_hub": False, "hub_model_id": None, "s3_configured": False, "s3_bucket": None,
        "local_upload_configured": True, "local_upload_available": False,
    }  # fmt: skip


def test_each_destination_is_told_once_it_is_there(get, member, settings):
    CredentialFactory(team=member.team, kind="huggingface", secret="hf_x", health="good", account_username="acme")
    CredentialFactory(team=member.team, kind="s3", secret="AKIA1:word")
    ProviderSettings.objects.create(team=member.team, s3_delivery={"bucket": "results"})
    settings.PUBLIC_URL = "https://tunehouse.example"

    said, short = get(FOR_ALL[0]).json(), get(FOR_ALL[1]).json()

    assert (said["hf_configured"], said["hf_token_valid"], said["hf_username"], said["message"]) == (True, True, "acme", None)
    assert (said["s3_configured"], said["local_upload_available"], short["s3_bucket"], short["push_to_hub"]) == (
        True,
        True,
        "results",
        True,
    )


def test_a_bucket_without_its_keys_is_none(get, member):
    ProviderSettings.objects.create(team=member.team, s3_delivery={"bucket": "results"})

    assert get(FOR_ALL[1]).json()["s3_configured"] is False


def test_the_storage_endpoint_is_named_without_keys_and_folders(get, member, settings):
    nowhere = get(FOR_SUBMITTERS[0]).json()
    settings.PUBLIC_URL = "https://tunehouse.example"
    there = get(FOR_SUBMITTERS[0]).json()

    assert nowhere == {"enabled": False, "endpoint_url": None, "bucket": "outputs", "config_json": None, "outputs_dir": None}
    assert (there["enabled"], there["endpoint_url"]) == (True, "https://tunehouse.example/api/cloud/storage")
    assert json.loads(there["config_json"]) == [
        {"provider": "s3", "bucket": "outputs", "endpoint_url": there["endpoint_url"], "use_path_style": True}
    ]


def test_there_is_no_repository_and_polling_is_always_on(get):
    assert get(FOR_SUBMITTERS[1]).json() == {
        "git_available": False, "repo_present": False, "is_dirty": False, "dirty_count": 0, "dirty_paths": [],
        "current_commit": None, "current_abbrev": None, "current_branch": None, "tracker_run_name": None, "config_name": None,
    }  # fmt: skip
    assert get(FOR_ALL[2]).json() == {"is_active": True, "preference": None}
