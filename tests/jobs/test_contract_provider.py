"""The other endpoints of the provider: versions, billing, removing the token, offers, estimates, cost limit and status page."""

import pytest
from django.utils import timezone

from accounts.models import AuditLine, Credential
from accounts.roles import Role, Scope
from billing import documented
from billing.documented import CostLimit
from billing.models import Hold, PriceLine
from jobs.models import ProviderStatus
from jobs.services import datasets
from tests.billing.factories import USD, hold, settle
from tests.factories import CredentialFactory, MembershipFactory, make_token
from tests.jobs.factories import completed
from tests.jobs.ready import CONFIG, caller_of, catalogue, files
from tests.jobs.sandbox.servers import free_port, picture

CLOUD = "/api/cloud"
REPLICATE = f"{CLOUD}/providers/replicate"
COST_LIMIT = [
    f"{CLOUD}/cost-limit/status",
    f"{CLOUD}/metrics/cost-limit",
    f"{CLOUD}/metrics/cost-limit-status",
    "/api/metrics/cost-limit/status",
]
STATUS = [f"{CLOUD}/system-status", f"{CLOUD}/replicate/status", "/api/metrics/replicate/status"]
READABLE = [f"{REPLICATE}/versions", f"{CLOUD}/providers", f"{CLOUD}/hardware-options", *COST_LIMIT, *STATUS]


@pytest.fixture
def owner(db, settings):
    settings.REPLICATE_BASE_URL = settings.STATUS_PAGE_URL = f"http://127.0.0.1:{free_port()}"
    catalogue()
    return MembershipFactory(role=Role.OWNER)


@pytest.fixture
def call(owner, client):
    _, own = make_token(owner)

    def send(path, body=None, *, method=None, key=own, **query):
        headers = {"Authorization": f"Bearer {key}"}
        if body is None and method is None:
            return client.get(path, query, headers=headers)
        return getattr(client, method or "post")(path, body, content_type="application/json", headers=headers)

    return send


@pytest.fixture
def at_sandbox(owner, account, settings):
    """The sandbox answers, and the team's token is good there."""
    settings.REPLICATE_BASE_URL = settings.STATUS_PAGE_URL = account.sandbox.url
    return CredentialFactory(team=owner.team, secret=account.token)


def test_every_read_has_both_endings_and_is_open_to_viewers_and_closed_to_nobody(call, owner, client):
    CredentialFactory(team=owner.team, account_username="acme")
    _, viewer = make_token(MembershipFactory(team=owner.team, role=Role.VIEWER), scopes=[Scope.READ])

    for path in [*READABLE, f"{REPLICATE}/billing"]:
        assert [call(path, key=viewer).status_code, call(f"{path}/").status_code, client.get(path).status_code] == [200, 200, 401], path


def test_the_provider_that_is_coming_is_not_called_unknown(call):
    answer = call(f"{CLOUD}/providers/simpletuner_io")

    assert (answer.status_code, answer.json()["detail"]) == (404, "The provider 'simpletuner_io' is not available yet.")


def test_another_provider_has_none_of_this(call):
    answers = [call(f"{CLOUD}/providers/other/{what}") for what in ("versions", "billing")]
    answers.append(call(f"{CLOUD}/providers/other/token", method="delete"))

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "not_found")] * 3


# --- Versions -----------------------------------------------------------------------------------------------


def test_versions_are_listed_newest_first_and_the_newest_is_current(call, at_sandbox):
    said = call(f"{REPLICATE}/versions").json()

    assert sorted(said) == ["current_version", "error", "versions"]
    assert sorted(said["versions"][0]) == ["created_at", "full_version", "id", "model_id"]
    newest = said["versions"][0]
    assert (newest["model_id"], newest["full_version"]) == ("simpletuner/advanced-trainer", f"simpletuner/advanced-trainer:{newest['id']}")
    assert (said["current_version"], said["error"]) == (newest["full_version"], None)
    times = [version["created_at"] for version in said["versions"]]
    assert times == sorted(times, reverse=True)


def test_a_pinned_version_is_the_current_one(call, at_sandbox):
    call(REPLICATE, {"version_override": "simpletuner/advanced-trainer:abc123"}, method="put")

    pinned, other = call(f"{REPLICATE}/versions").json(), call(f"{REPLICATE}/versions", model_id="simpletuner/advanced-trainer-h100").json()

    assert pinned["current_version"] == "simpletuner/advanced-trainer:abc123"
    assert other["current_version"] != pinned["current_version"]


@pytest.mark.parametrize("model", ["advanced-trainer", "a/b/c", "a/..%2F", "a/b:c"])
def test_a_model_id_of_another_form_is_refused(call, model):
    answer = call(f"{REPLICATE}/versions", model_id=model)

    assert (answer.status_code, answer.json()["field"], answer.json()["detail"]) == (
        400, "model_id", "model_id must have the form owner/name.",
    )  # fmt: skip


def test_trouble_at_the_provider_is_an_answer_with_a_reason(call, at_sandbox, settings):
    unknown = call(f"{REPLICATE}/versions", model_id="nobody/nothing").json()
    settings.REPLICATE_BASE_URL = f"http://127.0.0.1:{free_port()}"
    away = call(f"{REPLICATE}/versions").json()
    Credential.objects.all().delete()
    tokenless = call(f"{REPLICATE}/versions").json()

    assert [said["versions"] for said in (unknown, away, tokenless)] == [[], [], []]
    assert (unknown["error"][:22], away["error"][:27]) == ("Replicate answered 404", "Replicate cannot be reached")
    assert tokenless == {"versions": [], "current_version": None, "error": "REPLICATE_API_TOKEN not set"}


# --- Billing ------------------------------------------------------------------------------------------------


def test_billing_says_why_there_is_no_balance_and_what_our_ledger_knows(call, at_sandbox, owner, account):
    now = timezone.now()
    settle(hold(owner.team, 4, now=now).hold, 1.5, now=now)
    hold(owner.team, 2, now=now)
    hold(MembershipFactory().team, 9, now=now)

    said = call(f"{REPLICATE}/billing").json()

    assert (said["balance"], said["credit_balance"]) == (None, None)
    assert said["balance_note"].startswith("Replicate has no call that tells an account's balance")
    assert said["account"] == {"username": account.name, "type": "organization"}
    assert said["spend"] == {"day": 1.5, "week": 1.5, "month": 1.5}
    assert said["spend_micros"] == {"day": 1_500_000, "week": 1_500_000, "month": 1_500_000}
    assert said["held"] == {"day": 2.0, "week": 2.0, "month": 2.0}
    assert said["default_hardware"] == "advanced-trainer"
    assert said["hardware"]["h100"]["cost_per_second"] == 0.001525


def test_billing_without_a_token_says_so(call):
    answer = call(f"{REPLICATE}/billing")

    assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (409, "missing_token", "REPLICATE_API_TOKEN not set")


def test_billing_does_not_need_the_provider(call, owner):
    CredentialFactory(team=owner.team)

    assert call(f"{REPLICATE}/billing").json()["account"] == {"username": None, "type": None}


# --- Removing the token -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [f"{REPLICATE}/token", f"{REPLICATE}/token/"])
def test_a_token_is_removed_once_and_leaves_its_line(call, owner, path):
    kept = CredentialFactory(team=owner.team)
    CredentialFactory(team=owner.team, user=owner.user)

    first, second = call(path, method="delete"), call(path, method="delete")

    assert (first.status_code, first.json()) == (200, {"success": True, "file_path": None, "error": None})
    assert (second.status_code, second.json()["detail"]) == (404, "The team has no Replicate token stored.")
    assert AuditLine.objects.get(event_type="credential.deleted").target_id == str(kept.pk)
    assert list(Credential.objects.in_use().values_list("user_id", flat=True)) == [owner.user.pk]


def test_only_those_who_manage_the_team_remove_its_token(call, owner):
    CredentialFactory(team=owner.team)
    _, lead = make_token(MembershipFactory(team=owner.team, role=Role.LEAD))
    _, stranger = make_token()

    assert call(f"{REPLICATE}/token", method="delete", key=lead).json()["details"] == {"required_permission": "admin.config"}
    assert call(f"{REPLICATE}/token", method="delete", key=stranger).status_code == 404
    assert Credential.objects.in_use().count() == 1


# --- Offers -------------------------------------------------------------------------------------------------


def test_the_providers_are_replicate_and_one_that_is_coming(call, owner):
    replicate, coming = call(f"{CLOUD}/providers").json()["providers"]

    assert sorted(replicate) == sorted(coming) == [
        "coming_soon", "configured", "cost_per_hour", "description", "hardware", "hardware_profile", "hardware_profiles", "id", "model",
        "name", "version",
    ]  # fmt: skip
    assert (replicate["id"], replicate["model"], replicate["cost_per_hour"]) == ("replicate", "simpletuner/advanced-trainer", 3.51)
    assert (replicate["configured"], replicate["coming_soon"], coming["id"], coming["coming_soon"]) == (
        False,
        False,
        "simpletuner_io",
        True,
    )
    profile = next(profile for profile in replicate["hardware_profiles"] if profile["id"] == "h100")
    assert profile == {
        "id": "h100", "model": "simpletuner/advanced-trainer-h100", "label": "1x H100", "hardware_type": "H100 (80GB)",
        "cost_per_hour": 5.49, "cost_per_second": 0.001525,
    }  # fmt: skip
    CredentialFactory(team=owner.team)
    call(REPLICATE, {"hardware_profile": "h100"}, method="put")
    again = call(f"{CLOUD}/providers").json()["providers"][0]
    assert (again["configured"], again["hardware_profile"], again["hardware"]) == (True, "h100", "H100 (80GB)")


def test_the_hardware_options_carry_todays_prices(call):
    said = call(f"{CLOUD}/hardware-options").json()

    h100 = next(option for option in said["hardware"] if option["id"] == "h100")
    assert (said["default_hardware"], said["message"], said["hardware"][0]["id"]) == ("advanced-trainer", None, "advanced-trainer")
    assert [h100[name] for name in ("name", "cost_per_second", "cost_per_hour", "available")] == ["1x H100", 0.001525, 5.49, True]


# --- Estimates ----------------------------------------------------------------------------------------------


def test_an_estimate_names_the_likely_cost_and_the_worst_case(call):
    said = call(f"{CLOUD}/cost-estimate", {"config": {**CONFIG, "max_train_steps": 1000}, "max_seconds": 3600}).json()

    assert (said["has_estimate"], said["estimated_cost_usd"], said["estimated_cost"]) == (True, 4.0, 4.0)
    assert (said["worst_case_usd"], said["worst_case_usd_micros"]) == (3.5685, 3_568_500)
    assert (said["hardware_cost_per_hour"], said["hardware_profile"], said["data_size_mb"]) == (3.51, "advanced-trainer", 0.0)
    assert (said["estimated_cost_low_usd"], said["estimated_cost_usd_micros"], said["estimated_from_runs"]) == (2.0, 4_000_000, 0)
    assert said["avg_duration_seconds"] == pytest.approx(3 / 0.000975, abs=0.1)
    assert (said["ceiling_seconds"], said["stop_after_seconds"]) == (3600, 3600)
    assert said["message"].startswith("From the table that ships: LoRA of Flux, 1000 steps")


def test_an_estimate_goes_by_the_hardware_that_is_named(call):
    cheap = call(f"{CLOUD}/cost-estimate", {"config": CONFIG}).json()
    dear = call(f"{CLOUD}/cost-estimate/", {"config": CONFIG, "hardware_profile": "1xH100"}).json()

    assert dear["estimated_cost"] > cheap["estimated_cost"]
    assert dear["hardware_cost_per_hour"] == 5.49


@pytest.mark.parametrize("body", ["", "{}", "[]", [{"id": "data", "type": "local", "instance_data_dir": "/etc"}]])
def test_without_steps_and_history_there_is_no_estimate_and_a_reason(call, body):
    answer = call(f"{CLOUD}/cost-estimate", body)

    said = answer.json()
    assert (answer.status_code, said["has_estimate"], said["estimated_cost_usd"], said["worst_case_usd"]) == (200, False, None, None)
    assert said["message"].startswith("No run of this team has completed on this hardware yet.")


def test_without_steps_the_teams_own_runs_are_the_measure(call, owner):
    for seconds in (600, 1200):
        completed(owner.team, seconds=seconds, price_line=PriceLine.objects.get(hardware="gpu-l40s"))

    said = call(f"{CLOUD}/cost-estimate", []).json()

    # Of so few, from half of the shortest to twice the longest.
    assert (said["has_estimate"], said["avg_duration_seconds"], said["estimated_from_runs"]) == (True, 900.0, 2)
    assert (said["estimated_cost_low_usd"], said["estimated_cost"]) == (0.2925, 2.34)
    assert said["message"].startswith("From 2 of your own runs on gpu-l40s, whatever they trained.")
    assert said["ceiling_seconds"] is None


def test_the_size_of_a_dataset_is_told_to_its_team_only(call, owner):
    datasets.create(caller_of(owner), name="houses", files=files({"a.jpg": picture(), "a.txt": b"red"}))
    _, stranger = make_token()

    own = call(f"{CLOUD}/cost-estimate", {"dataset": "houses"})
    foreign = call(f"{CLOUD}/cost-estimate", {"dataset": "houses"}, key=stranger)

    assert own.status_code == 200
    assert (foreign.status_code, foreign.json()["detail"]) == (404, "Dataset not found: houses")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"config": 5}, "config"),
        ({"config": {"lerning_rate": 1}}, "config.lerning_rate"),
        ({"hardware_profile": "moon"}, "hardware_profile"),
        ({"hardware_profile": 5}, "hardware_profile"),
        ({"max_train_steps": 0}, "max_train_steps"),
        ({"max_train_steps": "many"}, "max_train_steps"),
        ({"config": CONFIG, "max_seconds": 5}, "max_seconds"),
        (5, None),
    ],
)
def test_an_estimate_of_what_cannot_be_is_refused(call, body, field):
    answer = call(f"{CLOUD}/cost-estimate", body)

    assert (answer.status_code, answer.json()["field"]) == (400, field)


def test_only_those_who_submit_ask_for_estimates(call, owner):
    _, viewer = make_token(MembershipFactory(team=owner.team, role=Role.VIEWER))

    assert call(f"{CLOUD}/cost-estimate", {}, key=viewer).json()["details"] == {"required_permission": "job.submit"}


# --- The cost limit -----------------------------------------------------------------------------------------


def test_a_limit_that_is_off_says_what_was_spent(call, owner):
    hold(owner.team, 2, now=timezone.now())

    said = call(COST_LIMIT[0]).json()

    assert said | {"resets_at": None} == {
        "enabled": False, "limit_amount": 0.0, "limit_amount_micros": 0, "period": "monthly", "action": "warn",
        "current_spend": 2.0, "current_spend_micros": 2_000_000, "percent_used": 0.0, "is_exceeded": False, "is_warning": False,
        "message": None, "held": 2.0, "held_micros": 2_000_000, "resets_at": None, "top_up": 0.0, "top_up_micros": 0,
    }  # fmt: skip
    assert said["resets_at"].endswith("+00:00")


@pytest.mark.parametrize(
    ("spent", "percent", "warning", "exceeded", "message"),
    [
        (39, 78.0, False, False, None),
        (40, 80.0, True, False, "Approaching limit: $40.00 / $50.00 (monthly)"),
        (50, 100.0, True, True, "Spending limit exceeded: $50.00 / $50.00 (monthly)"),
    ],
)
def test_a_limit_tells_how_it_stands_on_every_path(call, owner, spent, percent, warning, exceeded, message):
    documented.save(owner.team, CostLimit(is_enabled=True, amount=50 * USD, action="block"))
    now = timezone.now()
    settle(hold(owner.team, spent, now=now).hold, spent - 1, now=now)
    hold(owner.team, 1, now=now)

    answers = [call(path, provider="replicate").json() for path in COST_LIMIT]

    assert answers == [answers[0]] * 4
    said = answers[0]
    assert (said["current_spend"], said["held"], said["percent_used"]) == (spent, 1.0, percent)
    assert (said["is_warning"], said["is_exceeded"], said["message"]) == (warning, exceeded, message)


def test_the_figures_are_those_that_refuse(call, owner):
    documented.save(owner.team, CostLimit(is_enabled=True, amount=5 * USD, action="block"))
    now = timezone.now()
    hold(owner.team, 3, now=now)

    said = call(COST_LIMIT[0]).json()

    period = Hold.objects.get().periods.get()
    assert (said["held_micros"], said["current_spend_micros"]) == (period.held, period.held + period.settled)
    assert said["resets_at"] == period.ends_at.isoformat()


def test_a_limit_of_nothing_is_exceeded(call, owner):
    documented.save(owner.team, CostLimit(is_enabled=True, amount=0))

    said = call(COST_LIMIT[0]).json()

    assert (said["is_exceeded"], said["percent_used"]) == (True, 100.0)


def test_another_provider_has_no_limit(call):
    assert call(COST_LIMIT[0], provider="other").status_code == 404


# --- The status page ----------------------------------------------------------------------------------------


def test_the_status_page_is_read_once_for_all_paths(call, at_sandbox, settings):
    answers = [call(path).json() for path in STATUS]

    assert answers == [answers[0]] * 3
    assert answers[0] == {
        "operational": True, "ongoing_incidents": [], "in_progress_maintenances": [], "scheduled_maintenances": [],
        "status_page_url": "https://www.replicatestatus.com", "error": None, "status": "operational",
    }  # fmt: skip
    assert ProviderStatus.objects.get().word == "operational"


def test_a_page_that_cannot_be_read_is_unknown_with_a_reason(call):
    said = call(STATUS[0]).json()

    reason = "The provider's status page cannot be read: 127.0.0.1 refused the connection: nothing answers there."
    assert (said["operational"], said["status"], said["error"]) == (True, "unknown", reason)
    assert said["ongoing_incidents"] == []


def test_no_page_is_asked_where_none_is_set(call, settings):
    settings.STATUS_PAGE_URL = ""

    said = call(STATUS[0]).json()

    assert (said["status"], said["status_page_url"]) == ("unknown", None)
    assert said["error"] == "No status page is set (TUNEHOUSE_STATUS_PAGE_URL)."
