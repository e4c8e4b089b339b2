"""Provider settings in the shapes of SimpleTuner's API: every key, what it takes, what it refuses, and who may change it."""

import json

import certifi
import pytest

from accounts.models import AuditLine, Credential
from accounts.roles import Role, Scope
from billing.models import SpendLimit
from jobs.models import ProviderSettings
from jobs.services import provider
from tests.factories import MembershipFactory, make_token
from tests.jobs.ready import catalogue

CONFIG = "/api/cloud/providers/replicate"
KEYS = [
    "webhook_url", "webhook_require_signature", "webhook_allowed_ips", "webhook_address_mode",
    "webhook_rate_limit_max", "webhook_rate_limit_window",
    "webhook_sends_logs", "webhook_sends_output", "s3_rate_limit_max", "s3_rate_limit_window",
    "cost_limit_enabled", "cost_limit_amount", "cost_limit_period", "cost_limit_action",
    "version_override", "hardware_profile", "hardware_info", "ssl_verify", "ssl_ca_bundle", "proxy_url", "http_timeout",
    "s3_endpoint_enabled", "s3_public_url", "s3_output_path", "s3_delivery", "preferences", "max_runtime_minutes",
    "retries_platform_faults", "org_id", "api_base_url",
]  # fmt: skip
BUCKET = {"bucket": "results", "region": "eu-west-1", "access_key_id": "AKIA1", "secret_access_key": "s3cr3tWORD"}


@pytest.fixture
def owner(db):
    catalogue()
    return MembershipFactory(role=Role.OWNER)


@pytest.fixture
def call(owner, client):
    """A request with the owner's token, or another's; the body as it is given."""
    _, own = make_token(owner)

    def send(method="get", body=None, *, path=CONFIG, key=own):
        data = body if isinstance(body, str) or body is None else json.dumps(body)
        return client.generic(method.upper(), path, data or "", content_type="application/json", headers={"X-API-Key": key})

    return send


@pytest.fixture
def put(call):
    """The config after a change that must succeed."""

    def change(**asked):
        answer = call("put", asked)
        assert answer.status_code == 200, answer.json()
        return answer.json()["config"]

    return change


def test_every_documented_key_is_there_with_its_default_and_its_type(call):
    answer = call()

    said = answer.json()
    config = said["config"]
    assert (answer.status_code, said["provider"], list(config)) == (200, "replicate", KEYS)
    assert config | {"hardware_info": None} == {
        "webhook_url": None, "webhook_require_signature": True, "webhook_allowed_ips": [], "webhook_address_mode": "block",
        "webhook_rate_limit_max": 100, "webhook_rate_limit_window": 60, "webhook_sends_logs": False, "webhook_sends_output": False,
        "s3_rate_limit_max": 50, "s3_rate_limit_window": 60,
        "cost_limit_enabled": False, "cost_limit_amount": 0.0, "cost_limit_period": "monthly", "cost_limit_action": "warn",
        "version_override": None, "hardware_profile": None, "hardware_info": None, "ssl_verify": True, "ssl_ca_bundle": None,
        "proxy_url": None, "http_timeout": 30.0, "s3_endpoint_enabled": True, "s3_public_url": None, "s3_output_path": None,
        "s3_delivery": {}, "preferences": {}, "max_runtime_minutes": None, "retries_platform_faults": 0,
        "org_id": None, "api_base_url": None,
    }  # fmt: skip
    assert isinstance(config["cost_limit_amount"], float)
    l40s = config["hardware_info"]["advanced-trainer"]
    assert (l40s["cost_per_second"], l40s["cost_per_hour"], l40s["name"]) == (0.000975, 3.51, "1x L40S")
    assert {type(entry["cost_per_second"]) for entry in config["hardware_info"].values()} == {float}


@pytest.mark.parametrize("path", [CONFIG, f"{CONFIG}/", f"{CONFIG}/config", f"{CONFIG}/config/"])
@pytest.mark.parametrize("method", ["put", "patch"])
def test_every_documented_path_shows_and_takes_settings(call, path, method):
    answer = call(method, {"webhook_rate_limit_max": 7}, path=path)

    assert (answer.status_code, answer.json()["config"]["webhook_rate_limit_max"]) == (200, 7)
    assert call(path=path).json() == answer.json()


def test_the_example_of_the_integration_page_works(put, owner):
    config = put(
        webhook_url="https://tunehouse.example.com",
        cost_limit_enabled=True,
        cost_limit_amount=100.0,
        cost_limit_period="monthly",
        cost_limit_action="warn",
    )

    assert (config["webhook_url"], config["cost_limit_enabled"], config["cost_limit_amount"]) == (
        "https://tunehouse.example.com",
        True,
        100,
    )
    assert SpendLimit.objects.get().amount == 100_000_000


@pytest.mark.parametrize("method", ["put", "patch"])
@pytest.mark.parametrize("body", ["", "{}"])
def test_an_empty_body_changes_nothing_and_answers_the_config(call, method, body):
    answer = call(method, body)

    assert (answer.status_code, list(answer.json()["config"])) == (200, KEYS)
    assert not AuditLine.objects.filter(event_type="provider.configured").exists()


@pytest.mark.parametrize(
    ("key", "given", "kept"),
    [
        ("webhook_url", "https://a.example/", "https://a.example"),
        ("webhook_url", "https://a.example:8443/api/webhooks/replicate", "https://a.example:8443"),
        ("webhook_url", "https://a.example/api/cloud/webhook/replicate/", "https://a.example"),
        ("webhook_url", "https://a.example/api/cloud/webhooks/replicate", "https://a.example"),
        ("webhook_url", "", None),
        ("webhook_require_signature", False, False),
        ("webhook_allowed_ips", "34.82.0.0/16, 35.185.0.0/16", ["34.82.0.0/16", "35.185.0.0/16"]),
        ("webhook_allowed_ips", ["2001:DB8::1", "10.1.2.3/8", "10.0.0.0/8"], ["2001:db8::1", "10.0.0.0/8"]),
        ("webhook_allowed_ips", "", []),
        ("webhook_address_mode", "observe", "observe"),
        ("webhook_rate_limit_max", 10000, 10000),
        ("webhook_rate_limit_window", 1, 1),
        ("webhook_sends_logs", True, True),
        ("webhook_sends_output", True, True),
        ("s3_rate_limit_max", 1, 1),
        ("s3_rate_limit_window", 3600, 3600),
        ("cost_limit_enabled", True, True),
        ("cost_limit_amount", 12.345678, 12.345678),
        ("cost_limit_amount", 0, 0.0),
        ("cost_limit_period", "weekly", "weekly"),
        ("cost_limit_action", "require_approval", "require_approval"),
        ("version_override", "simpletuner/advanced-trainer:abc123", "simpletuner/advanced-trainer:abc123"),
        ("hardware_profile", "1xH100", "h100"),
        ("hardware_profile", "", None),
        ("ssl_verify", False, False),
        ("ssl_ca_bundle", certifi.where(), certifi.where()),
        ("ssl_ca_bundle", "", None),
        ("proxy_url", "socks5://proxy.example:1080", "socks5://proxy.example:1080"),
        ("proxy_url", "http://me:word@proxy.example:3128", "http://me:***@proxy.example:3128"),
        ("http_timeout", 600, 600.0),
        ("http_timeout", 0.5, 0.5),
        ("http_timeout", 0, 30.0),
        ("s3_endpoint_enabled", False, False),
        ("s3_public_url", "https://s3.example/api/cloud/storage/", "https://s3.example/api/cloud/storage"),
        ("s3_output_path", "", None),
        ("preferences", {"theme": "dark"}, {"theme": "dark"}),
        ("max_runtime_minutes", 90, 90),
        ("retries_platform_faults", 2, 2),
        ("org_id", "", None),
        ("api_base_url", "", None),
    ],
)
def test_a_setting_is_kept_shown_and_put_back_by_null(put, call, key, given, kept):
    default = call().json()["config"][key]

    changed = put(**{key: given})

    assert changed[key] == kept
    assert call().json()["config"][key] == kept
    assert put(**{key: None})[key] == default


@pytest.mark.parametrize(
    ("key", "given", "sentence"),
    [
        ("webhook_url", 5, "webhook_url must be text of at most 500 characters."),
        ("webhook_url", "ftp://a.example", "webhook_url: 'ftp://a.example' is not an http or https address."),
        ("webhook_url", "https://", "webhook_url: 'https:' is not an http or https address."),
        ("webhook_url", "https://a.example:port", "webhook_url is not an address."),
        (
            "webhook_url",
            "https://a.example/other",
            "webhook_url must be the public address of this server without a path, like https://tunehouse.example.",
        ),
        ("webhook_require_signature", "true", "webhook_require_signature must be true or false."),
        ("webhook_require_signature", 1, "webhook_require_signature must be true or false."),
        (
            "webhook_allowed_ips",
            ["10.0.0.0/8", "here"],
            "webhook_allowed_ips: 'here' is neither an address nor a network, like 34.82.0.0/16.",
        ),
        (
            "webhook_allowed_ips",
            [5],
            "webhook_allowed_ips must be a list of at most 500 addresses or networks, or text with commas.",
        ),
        ("webhook_rate_limit_max", 0, "webhook_rate_limit_max must be a whole number between 1 and 10000."),
        ("webhook_rate_limit_max", 1.5, "webhook_rate_limit_max must be a whole number between 1 and 10000."),
        ("webhook_rate_limit_max", True, "webhook_rate_limit_max must be a whole number between 1 and 10000."),
        ("webhook_rate_limit_window", 3601, "webhook_rate_limit_window must be a whole number between 1 and 3600."),
        ("webhook_sends_logs", 0, "webhook_sends_logs must be true or false."),
        ("webhook_sends_output", "no", "webhook_sends_output must be true or false."),
        ("s3_rate_limit_max", "50", "s3_rate_limit_max must be a whole number between 1 and 10000."),
        ("s3_rate_limit_window", -1, "s3_rate_limit_window must be a whole number between 1 and 3600."),
        ("cost_limit_enabled", "yes", "cost_limit_enabled must be true or false."),
        ("cost_limit_amount", -1, "cost_limit_amount must be a number of US dollars, 0 or more."),
        ("cost_limit_amount", 10**400, "cost_limit_amount must be a number of US dollars, 0 or more."),
        ("webhook_rate_limit_max", 10**400, "webhook_rate_limit_max must be a whole number between 1 and 10000."),
        ("cost_limit_amount", "50", "cost_limit_amount must be a number of US dollars, 0 or more."),
        ("cost_limit_amount", True, "cost_limit_amount must be a number of US dollars, 0 or more."),
        ("cost_limit_period", "yearly", "cost_limit_period must be one of: daily, weekly, monthly."),
        ("cost_limit_action", "notify", "cost_limit_action must be one of: warn, require_approval, block."),
        ("cost_limit_action", ["warn"], "cost_limit_action must be one of: warn, require_approval, block."),
        ("version_override", "abc123", "version_override must have the form owner/model:hash."),
        ("version_override", "acme/other:abc123", "version_override: the catalogue has no trainer acme/other."),
        ("hardware_info", {"moon": {}}, None),
        ("hardware_info", {"h100": 5}, "hardware_info.h100 must be an object with name and cost_per_second."),
        ("hardware_info", {"h100": {"nam": "x"}}, "Unknown setting 'nam' in hardware_info.h100. Did you mean 'name'?"),
        ("hardware_info", {"h100": {"name": 5}}, "hardware_info.h100.name must be text of at most 100 characters."),
        (
            "hardware_info",
            {"h100": {"gpu_count": 9}},
            "hardware_info.h100.gpu_count is a fact of the catalogue and cannot be changed here.",
        ),
        (
            "hardware_info",
            {"h100": {"cost_per_second": -1}},
            "hardware_info.h100.cost_per_second must be a number of US dollars, 0 or more.",
        ),
        ("ssl_verify", "no", "ssl_verify must be true or false."),
        ("ssl_ca_bundle", "/no/such/file", "ssl_ca_bundle must be the path of a file with certificates (PEM) on this server."),
        ("ssl_ca_bundle", __file__, "ssl_ca_bundle must be the path of a file with certificates (PEM) on this server."),
        ("proxy_url", "ftp://proxy", "proxy_url must be the address of a proxy that begins with http, https or socks5."),
        ("http_timeout", 601, "http_timeout must be a number of seconds above 0 and at most 600, or 0 for the default."),
        ("http_timeout", 0.001, "http_timeout must be at least 0.01 seconds."),
        ("s3_endpoint_enabled", "no", "s3_endpoint_enabled must be true or false."),
        ("s3_public_url", "s3.example", "s3_public_url: 's3.example' is not an http or https address."),
        (
            "s3_output_path",
            "/etc",
            "s3_output_path: where results lie on this server is set by its operator (TUNEHOUSE_OUTPUTS), and not by a team.",
        ),
        ("s3_delivery", "results", "s3_delivery must be an object."),
        ("preferences", [], "preferences must be an object of at most 64 KiB."),
        ("max_runtime_minutes", 0, "max_runtime_minutes must be a whole number between 1 and 1440."),
        ("retries_platform_faults", 4, "retries_platform_faults must be a whole number between 0 and 3."),
        ("org_id", "acme", "org_id is a setting of simpletuner_io; this server runs jobs on replicate."),
        ("api_base_url", "https://x.example", "api_base_url is a setting of simpletuner_io; this server runs jobs on replicate."),
    ],
)
def test_a_wrong_value_is_refused_in_a_sentence_and_nothing_is_saved(call, key, given, sentence):
    before = call().json()

    answer = call("put", {"webhook_rate_limit_max": 7, key: given})

    said = answer.json()
    assert (answer.status_code, said["code"], said["field"].partition(".")[0]) == (400, "invalid_input", key)
    assert said["detail"] == sentence or (sentence is None and said["detail"].startswith("hardware_info: unknown hardware 'moon'."))
    assert said["errors"][0]["message"] == said["detail"]
    assert call().json() == before
    assert not AuditLine.objects.filter(event_type="provider.configured").exists()


def test_a_private_address_is_refused_where_the_operator_does_not_allow_it(call, settings):
    settings.ALLOW_PRIVATE_HOSTS = False

    private, plain = call("put", {"webhook_url": "https://10.0.0.1"}), call("put", {"webhook_url": "http://a.example"})

    assert private.json()["detail"] == "webhook_url: 10.0.0.1 is a private host, which the provider cannot reach."
    assert plain.json()["detail"] == "webhook_url: The address must begin with https."


def test_an_unknown_key_is_refused_by_name_with_the_one_that_was_meant(call):
    answer = call("put", {"webhok_url": "https://a.example", "cost_limit_amount": 5, "ssl_verify": "no"})

    said = answer.json()
    assert (answer.status_code, said["detail"], said["field"]) == (
        400, "Unknown setting 'webhok_url'. Did you mean 'webhook_url'?", "webhok_url",
    )  # fmt: skip
    assert [(error["field"], error["type"]) for error in said["errors"]] == [("webhok_url", "unknown"), ("ssl_verify", "invalid")]
    assert not SpendLimit.objects.exists()


@pytest.mark.parametrize("body", ["[]", "5", "{", '{"cost_limit_amount": 1e999}', '{"cost_limit_amount": NaN}'])
def test_a_body_that_is_no_object_of_settings_is_refused(call, body):
    assert call("put", body).status_code == 400


def test_the_audit_line_says_what_was_there_before(put, owner):
    put(cost_limit_amount=10)
    put(cost_limit_amount=20, proxy_url="http://me:word@proxy.example", ssl_verify=True)

    line = AuditLine.objects.filter(event_type="provider.configured").first()
    assert (line.actor, line.target_id) == (owner.user.username, "replicate")
    assert (line.before, line.after) == (
        {"cost_limit_amount": "10.000000", "proxy_url": None},
        {"cost_limit_amount": "20.000000", "proxy_url": "http://me:***@proxy.example"},
    )


def test_the_whole_config_can_be_sent_back_and_changes_nothing(put, call, owner):
    put(s3_delivery=BUCKET, proxy_url="http://me:word@proxy.example", cost_limit_enabled=True, cost_limit_amount=5, hardware_profile="h100")
    config = call().json()["config"]
    lines = AuditLine.objects.count()

    again = put(**config)

    assert again == config
    assert (AuditLine.objects.count(), ProviderSettings.objects.get().proxy_url) == (lines, "http://me:word@proxy.example")


def test_the_password_of_the_proxy_is_used_but_never_shown_or_stored_in_clear(put, call, owner):
    put(proxy_url="http://me:pa55word@proxy.example:3128")

    raw = ProviderSettings.objects.extra(select={"raw": "proxy_url"}).values_list("raw", flat=True).get()
    assert provider.settings_of(owner.team).proxy_url == "http://me:pa55word@proxy.example:3128"
    assert "pa55word" not in raw + str(call().content) + str(list(AuditLine.objects.values()))


def test_a_shown_price_may_differ_from_the_book_by_profile(put):
    config = put(hardware_info={"h100": {"name": "Our H100", "cost_per_second": 0.002}})

    assert config["hardware_info"]["h100"] | {"hardware_type": None, "gpu_count": None} == {
        "name": "Our H100", "cost_per_second": 0.002, "cost_per_hour": 7.2, "hardware_type": None, "gpu_count": None,
    }  # fmt: skip
    assert put(hardware_info=None)["hardware_info"]["h100"]["cost_per_second"] == 0.001525


def test_a_price_can_be_given_by_the_providers_name_of_the_hardware_and_goes_for_its_profiles(put):
    named = {"gpu-l40s": {"name": "Our L40S", "cost_per_second": 0.002}, "gpu-a100-large": {"cost_per_second": 0.0015}}

    shown = put(hardware_info=named)["hardware_info"]

    assert (shown["gpu-l40s"]["name"], shown["l40s"]["name"]) == ("Our L40S", "1x L40S (own profile)")
    assert [shown[name]["cost_per_second"] for name in ("gpu-l40s", "l40s", "advanced-trainer", "h100")] == [0.002, 0.002, 0.002, 0.001525]
    assert (shown["gpu-a100-large"]["cost_per_second"], shown["gpu-a100-large"]["gpu_count"]) == (0.0015, 1)
    assert put(hardware_info=shown)["hardware_info"] == shown


# --- External S3 ------------------------------------------------------------------------------------------


def test_the_secret_of_a_bucket_becomes_a_credential_and_is_never_returned(put, call, owner):
    config = put(s3_delivery={**BUCKET, "path_prefix": "/runs/"})

    credential = Credential.objects.get(kind="s3")
    assert config["s3_delivery"] == {
        "bucket": "results", "region": "eu-west-1", "endpoint_url": None, "access_key_id": "AKIA1", "path_prefix": "runs",
        "use_path_style": False, "public_read": False,
    }  # fmt: skip
    assert (credential.team, credential.reveal()) == (owner.team, "AKIA1:s3cr3tWORD")
    assert "s3cr3tWORD" not in str(call().content) + str(list(AuditLine.objects.values()))


def test_the_bucket_changes_without_its_secret_as_long_as_the_key_stays(put, call):
    put(s3_delivery=BUCKET)

    moved = put(s3_delivery={"bucket": "other", "access_key_id": "AKIA1"})
    stranger = call("put", {"s3_delivery": {"bucket": "other", "access_key_id": "AKIA2"}})

    assert moved["s3_delivery"]["bucket"] == "other"
    assert Credential.objects.in_use().get().reveal() == "AKIA1:s3cr3tWORD"
    assert stranger.json()["detail"] == "s3_delivery.secret_access_key is missing for this access key."


def test_a_new_secret_alone_leaves_its_line(put):
    put(s3_delivery=BUCKET)
    put(s3_delivery={**BUCKET, "secret_access_key": "another"})

    assert Credential.objects.in_use().get().reveal() == "AKIA1:another"
    assert AuditLine.objects.filter(event_type="provider.configured").count() == 2


def test_without_a_bucket_there_are_no_keys(put):
    put(s3_delivery=BUCKET)

    assert put(s3_delivery=None)["s3_delivery"] == {}
    assert not Credential.objects.in_use().exists()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"bucket": "a/b"}, "s3_delivery.bucket"),
        ({"bucket": None}, "s3_delivery.bucket"),
        ({"region": 5}, "s3_delivery.region"),
        ({"endpoint_url": "ftp://x"}, "s3_delivery.endpoint_url"),
        ({"access_key_id": "a:b"}, "s3_delivery.access_key_id"),
        ({"access_key_id": ""}, "s3_delivery.access_key_id"),
        ({"secret_access_key": 5}, "s3_delivery.secret_access_key"),
        ({"secret_access_key": "a b"}, "s3_delivery.secret_access_key"),
        ({"secret_access_key": None}, "s3_delivery.secret_access_key"),
        ({"path_prefix": "a/../b"}, "s3_delivery.path_prefix"),
        ({"use_path_style": "yes"}, "s3_delivery.use_path_style"),
        ({"public_read": 1}, "s3_delivery.public_read"),
        ({"regoin": "x"}, "s3_delivery.regoin"),
    ],
)
def test_a_bucket_that_cannot_be_one_is_refused_by_its_part(call, change, field):
    answer = call("put", {"s3_delivery": {**BUCKET, **change}})

    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert not Credential.objects.exists()


# --- Who may --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.RESEARCHER, 403), (Role.LEAD, 403), (Role.OWNER, 200)])
def test_everybody_reads_and_owners_write(call, owner, role, status):
    _, key = make_token(MembershipFactory(team=owner.team, role=role))

    changed = call("put", {"ssl_verify": True}, key=key)

    assert (call(key=key).status_code, changed.status_code) == (200, status)
    assert call(path=f"{CONFIG}/advanced", key=key).status_code == status
    assert changed.json().get("details", {}) in ({}, {"required_permission": "admin.config"})


def test_a_token_writes_with_the_admin_scope_only(call, owner):
    _, reader = make_token(owner, scopes=[Scope.READ, Scope.SUBMIT])
    _, admin = make_token(owner, scopes=[Scope.ADMIN])

    assert call("put", {"ssl_verify": True}, key=reader).status_code == 403
    assert call("put", {"ssl_verify": True}, key=admin).status_code == 200


def test_nobody_reads_or_writes(db, client):
    answer = client.get(CONFIG)

    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert client.put(CONFIG, "{}", content_type="application/json").status_code == 401


def test_one_team_neither_sees_nor_changes_anothers_settings(put, call):
    put(webhook_url="https://mine.example", cost_limit_amount=9)
    _, stranger = make_token()

    answer = call("put", {"cost_limit_amount": 1}, key=stranger)

    assert (answer.json()["config"]["webhook_url"], call().json()["config"]["cost_limit_amount"]) == (None, 9.0)


@pytest.mark.parametrize("path", ["/api/cloud/providers/other", "/api/cloud/providers/other/config", "/api/cloud/providers/other/advanced"])
def test_another_provider_is_not_found(call, path):
    assert (call(path=path).status_code, call("patch", {}, path=path).status_code) == (404, 404)


# --- Network and allowlist apart ------------------------------------------------------------------------


@pytest.mark.parametrize("path", [f"{CONFIG}/advanced", f"{CONFIG}/advanced/"])
def test_the_advanced_settings_have_their_own_view(call, path):
    answer = call("patch", {"webhook_allowed_ips": "10.0.0.1", "proxy_url": "http://a:b@p.example", "http_timeout": 45}, path=path)

    assert answer.json() == {
        "ssl_verify": True, "ssl_ca_bundle": None, "proxy_url": "http://a:***@p.example", "http_timeout": 45,
        "webhook_ip_allowlist_enabled": True, "webhook_allowed_ips": ["10.0.0.1"],
    }  # fmt: skip
    assert call(path=path).json() == answer.json()
    assert AuditLine.objects.filter(event_type="provider.configured").count() == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"webhook_ip_allowlist_enabled": True}, "webhook_allowed_ips"),
        ({"webhook_ip_allowlist_enabled": False, "webhook_allowed_ips": ["10.0.0.1"]}, "webhook_ip_allowlist_enabled"),
        ({"webhook_ip_allowlist_enabled": "no"}, "webhook_ip_allowlist_enabled"),
        ({"webhook_url": "https://a.example"}, "webhook_url"),
        ({"http_timeout": -1}, "http_timeout"),
    ],
)
def test_what_makes_no_sense_there_is_refused(call, body, field):
    answer = call("patch", body, path=f"{CONFIG}/advanced")

    assert (answer.status_code, answer.json()["field"]) == (400, field)


def test_switching_the_allowlist_off_empties_it(put, call):
    put(webhook_allowed_ips=["10.0.0.1"])

    answer = call("patch", {"webhook_ip_allowlist_enabled": False}, path=f"{CONFIG}/advanced")

    assert (answer.json()["webhook_ip_allowlist_enabled"], answer.json()["webhook_allowed_ips"]) == (False, [])
