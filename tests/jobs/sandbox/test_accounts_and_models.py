import httpx
import pytest

from jobs.sandbox import catalogue


def test_01_a_call_without_a_token_is_told_so(account):
    response = httpx.get(f"{account.sandbox.url}/v1/account", trust_env=False)

    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {"title": "Unauthenticated", "detail": "You did not pass an authentication token", "status": 401}


@pytest.mark.parametrize("path", ["account", "predictions", "files", "hardware", "webhooks/default/secret"])
def test_01_an_unknown_token_opens_nothing(account, path):
    response = account.http.get(f"/v1/{path}", headers={"Authorization": "Bearer r8_nobody"})

    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {"title": "Unauthenticated", "detail": "You did not pass a valid authentication token", "status": 401}


@pytest.mark.parametrize("scheme", ["Bearer", "Token"])
def test_02_the_demo_tokens_are_accounts_by_both_schemes(account, scheme):
    token = "r8_Sandbox0Sandbox0Sandbox0Sandbox0Team1"

    found = account.http.get("/v1/account", headers={"Authorization": f"{scheme} {token}"}).json()

    assert len(token) == 40
    assert (found["type"], found["username"], found["name"]) == ("organization", "team1", "Sandbox team1")


def test_02_two_tokens_of_one_account_see_the_same_data(account):
    second = "r8_second".ljust(40, "x")
    account.sandbox.control("tokens", token=second, account=account.name)
    uploaded = account.upload(b"bytes")

    found = account.http.get(f"/v1/files/{uploaded['id']}", headers={"Authorization": f"Bearer {second}"})

    assert found.json() == uploaded


def test_35_the_webhook_secret_is_the_accounts_own_and_stable(account, open_account):
    other = open_account(account.sandbox)

    key = account.http.get("/v1/webhooks/default/secret").json()["key"]

    assert key.startswith("whsec_")
    assert account.http.get("/v1/webhooks/default/secret").json()["key"] == key
    assert other.http.get("/v1/webhooks/default/secret").json()["key"] != key


@pytest.mark.parametrize("name", catalogue.TRAINERS)
def test_04_every_trainer_shows_its_schema(account, name):
    model = account.http.get(f"/v1/models/simpletuner/{name}").json()

    wanted = model["latest_version"]["openapi_schema"]["components"]["schemas"]["Input"]
    orders = {name: schema["x-order"] for name, schema in wanted["properties"].items()}
    assert sorted(orders, key=orders.get) == list(catalogue.INPUTS)
    assert sorted(orders.values()) == list(range(15))
    assert wanted["required"] == ["images", "config_json", "dataloader_json", "max_train_steps", "lycoris_config"]
    secret = [name for name, schema in wanted["properties"].items() if schema.get("x-cog-secret")]
    assert secret == ["s3_access_key", "s3_secret_key", "hf_token"]


def test_05_the_schema_variant_can_be_chosen(account):
    account.rule(schema_variant="six")
    six = account.version()

    account.rule(schema_variant="none")
    none = account.version()

    assert six["cog_version"] == "0.18.0"
    assert "hf_token" in six["openapi_schema"]["components"]["schemas"]["Input"]["required"]
    assert "required" not in none["openapi_schema"]["components"]["schemas"]["Input"]


def test_06_versions_are_listed_newest_first_and_found_by_id(account):
    page = account.http.get("/v1/models/simpletuner/advanced-trainer/versions").json()

    stamps = [version["created_at"] for version in page["results"]]
    assert stamps == sorted(stamps, reverse=True)
    assert page["results"][0] == account.version()
    one = account.http.get(f"/v1/models/simpletuner/advanced-trainer/versions/{page['results'][1]['id']}").json()
    assert one == page["results"][1]


@pytest.mark.parametrize("path", ["models/simpletuner/nothing", "models/acme/advanced-trainer", "predictions/unknown", "nowhere"])
def test_04_what_is_not_there_is_a_404_without_a_title(account, path):
    response = account.http.get(f"/v1/{path}")

    assert response.status_code == 404
    assert response.json() == {"detail": "The requested resource could not be found.", "status": 404}


def test_06_hardware_is_a_bare_list(account):
    hardware = account.http.get("/v1/hardware").json()

    assert {"name": "Nvidia L40S GPU", "sku": "gpu-l40s"} in hardware
