"""The API's description: complete, without a warning, and served from here alone."""

import io
import re

import pytest
import yaml
from django.core.management import call_command
from django.urls import URLPattern, URLResolver

from accounts.api import urls as accounts_urls
from jobs.api import urls as jobs_urls
from jobs.services import provider_settings
from tests.factories import TeamFactory

METHODS = ["get", "put", "post", "patch", "delete"]


@pytest.fixture(scope="module")
def described():
    out = io.StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out)
    return yaml.safe_load(out.getvalue())


def operations(described):
    return [(path, method, item[method]) for path, item in described["paths"].items() for method in METHODS if method in item]


def test_every_path_of_the_api_is_described_without_a_slash_at_its_end(described):
    served = set()
    for pattern in [*accounts_urls.urlpatterns, *jobs_urls.urlpatterns]:
        assert isinstance(pattern, URLPattern)
        assert not isinstance(pattern, URLResolver)
        bare = str(pattern.pattern).removeprefix("^").removesuffix("/?$")
        served.add("/api/" + re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", bare))

    assert len(served) > 35
    assert served - set(described["paths"]) == set()
    assert [path for path in described["paths"] if path.endswith("/")] == []


def test_every_operation_has_a_sentence_and_a_name_of_its_own(described):
    found = operations(described)

    names = [operation["operationId"] for _, _, operation in found]
    assert len(names) == len(set(names)) > 50
    assert [path for path, _, operation in found if not operation.get("description", "").strip()] == []
    assert [path for path, _, operation in found if not operation.get("summary", "").strip()] == []


def test_limited_calls_and_no_others_name_the_headers_of_the_pace(described):
    def headers_of(path, method):
        return [*described["paths"][path][method]["responses"]["200"].get("headers", {})]

    assert headers_of("/api/cloud/jobs/submit", "post") == ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]
    assert headers_of("/api/cloud/jobs/{job_id}/logs/stream", "get") == headers_of("/api/cloud/providers", "get") == []


def test_a_call_names_its_credentials_and_the_body_of_its_refusals(described):
    submit = described["paths"]["/api/cloud/jobs/submit"]["post"]
    schemes = described["components"]["securitySchemes"]

    assert [list(way) for way in submit["security"]] == [["token"], ["key"], ["session"]]
    assert (schemes["token"]["scheme"], schemes["key"]["name"]) == ("bearer", "X-API-Key")
    assert submit["responses"]["default"]["content"]["application/json"]["schema"]["$ref"].endswith("/RefusalBody")
    assert list(described["components"]["schemas"]["RefusalBody"]["properties"]) == [
        "detail", "code", "hint", "field", "error", "success", "status_code", "request_id", "errors", "details",
    ]  # fmt: skip


def test_every_provider_setting_is_described_and_no_other(described, db):
    put = described["paths"]["/api/cloud/providers/{provider}"]["put"]

    asked = put["requestBody"]["content"]["application/json"]["schema"]
    answered = put["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["config"]
    assert list(asked["properties"]) == list(answered["properties"]) == list(provider_settings.read(TeamFactory()))
    assert [key for key, schema in asked["properties"].items() if not schema["description"]] == []


@pytest.mark.parametrize("path", ["/api/schema", "/api/schema/"])
def test_the_description_is_open_to_programs(client, db, path):
    as_yaml, as_json = client.get(path), client.get(path, {"format": "json"})

    assert yaml.safe_load(as_yaml.content)["info"]["title"] == "Tunehouse API"
    assert as_json.json()["openapi"].startswith("3.")


@pytest.mark.parametrize("path", ["/api/docs", "/api/docs/"])
def test_the_reference_comes_from_our_own_files(client, db, path):
    page = client.get(path, headers={"Accept": "text/html"})
    program = client.get(path, {"script": ""})

    html = page.content.decode()
    sources = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert (page.status_code, len(sources)) == (200, 5)
    assert [source for source in sources if not source.startswith(("/static/", "/api/docs"))] == []
    assert (program.headers["Content-Type"], "/api/schema" in program.content.decode()) == ("application/javascript", True)


def test_only_this_page_may_style_what_its_program_draws(client, db):
    reference = client.get("/api/docs").headers["Content-Security-Policy"]
    sign_in = client.get("/accounts/login/").headers["Content-Security-Policy"]

    assert "style-src 'self' 'unsafe-inline'" in reference
    assert "unsafe-inline" not in sign_in
    assert "script-src" not in reference
