"""The test from outside: one prediction of the provider's helper, held for first and charged as billed."""

from datetime import timedelta

import httpx
import pytest
from django.utils import timezone

from accounts.errors import Conflict
from accounts.models import AuditLine
from accounts.roles import Role
from billing import ledger
from billing.models import Hold
from billing.services import LimitReached
from jobs.replicate.gateway import Gateway, OutcomeUnknown
from jobs.services.provider import MissingToken
from tests.billing.factories import PriceLineFactory, SpendLimitFactory
from tests.factories import CredentialFactory, MembershipFactory, make_token
from tests.jobs.ready import caller_of, post
from tests.jobs.sandbox.servers import free_port
from webhooks import external_check, tasks
from webhooks.models import Delivery

pytestmark = pytest.mark.django_db(transaction=True)

OUTSIDE = "/api/cloud/providers/replicate/test-webhook-external"
# A minute of CPU at 0.0001 USD a second.
MOST = 6_000


@pytest.fixture
def owner(settings, account, live_server, monkeypatch):
    """A team whose token is good at the sandbox, which reaches us at our public address."""
    settings.REPLICATE_BASE_URL, settings.PUBLIC_URL = account.sandbox.url, live_server.url
    monkeypatch.setattr(external_check, "PAUSE_SECONDS", 0.05)
    if not external_check.pricebook.in_force(on=timezone.now()).get("cpu"):
        PriceLineFactory(hardware="cpu", usd_per_second="0.0001")
    member = MembershipFactory(role=Role.OWNER)
    CredentialFactory(team=member.team, secret=account.token)
    return member


def check(owner, **options):
    return external_check.check(caller_of(owner), **options)


def test_a_machine_of_the_provider_calls_us_and_what_it_billed_is_charged(owner, account):
    outcome = check(owner)

    hold = Hold.objects.get()
    prediction = account.http.get(f"/v1/predictions/{outcome.prediction_id}").json()
    billed = round(prediction["metrics"]["predict_time"] * 100)
    assert (outcome.success, outcome.reason, outcome.status_code) == (True, "reached", 200)
    assert (prediction["model"], prediction["output"]["success"]) == ("simpletuner/webhook-check", True)
    assert (hold.amount, hold.reference[:6], hold.charge, hold.flag) == (MOST, "check:", billed, "")
    assert ledger.verify(owner.team).valid
    assert (Delivery.objects.count(), AuditLine.objects.filter(event_type="webhook.check_started").count()) == (0, 1)


def test_a_check_has_its_machine_in_time_with_the_sandboxs_own_waiting_times(owner, account):
    account.rule(queue_seconds=None, boot_seconds=None)

    assert check(owner).reason == "reached"


def test_the_api_answers_with_the_prediction_and_what_the_helper_saw(owner):
    _, key = make_token(owner)

    said = post(OUTSIDE, {}, key=key).json()
    other = post("/api/webhooks/test", {"webhook_url": "http://localhost:1", "method": "replicate_cog"}, key=key).json()

    assert (said["success"], said["status_code"], said["details"]["success"], len(said["prediction_id"])) == (True, 200, True, 26)
    assert (other["success"], other["method"], other["status_code"]) == (False, "replicate_cog", None)
    assert other["error"] == "A machine of Replicate did not get through to the address: ConnectError"


def test_without_a_token_or_without_room_in_a_limit_nothing_is_asked(owner, account, predictions):
    SpendLimitFactory(team=owner.team, amount=MOST - 1)
    with pytest.raises(LimitReached):
        check(owner)
    owner.team.credentials.update(removed_at=timezone.now())

    with pytest.raises(MissingToken):
        check(owner)

    assert (predictions(), Hold.objects.count()) == ([], 0)


@pytest.mark.parametrize("status", [402, 429])
def test_a_refusal_of_the_provider_costs_nothing(owner, account, status):
    account.rule(create_status=status)

    outcome = check(owner)

    assert (outcome.success, outcome.reason, Hold.objects.get().charge) == (False, "not_started", 0)
    assert outcome.message.startswith("Replicate did not take the check, and nothing was charged: Replicate answered")


def test_a_provider_that_is_away_costs_nothing(owner, settings):
    settings.REPLICATE_BASE_URL = f"http://127.0.0.1:{free_port()}"

    assert (check(owner).reason, Hold.objects.get().charge) == ("not_started", 0)


def test_a_provider_without_the_helper_is_told(owner, monkeypatch):
    monkeypatch.setattr(external_check, "MODEL", "simpletuner/other-check")

    assert (check(owner).reason, Hold.objects.get().charge) == ("no_model", 0)


@pytest.mark.parametrize("status", [500, 504])
def test_an_unknown_outcome_is_charged_in_full_and_flagged_and_never_asked_twice(owner, account, status):
    account.rule(create_status=status)

    outcome = check(owner)

    hold = Hold.objects.get()
    assert (outcome.reason, hold.charge, hold.flag) == ("in_doubt", MOST, external_check.UNKNOWN)
    assert ledger.verify(owner.team).valid


def test_a_fault_in_the_middle_leaves_no_hold_open(owner, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(external_check, "_followed", broken)

    with pytest.raises(RuntimeError):
        check(owner)

    assert (Hold.objects.get().charge, Hold.objects.get().flag) == (MOST, external_check.UNKNOWN)


def test_a_check_that_waits_too_long_is_cancelled_and_free(owner, account, monkeypatch, predictions):
    account.rule(queue_seconds=3000)
    monkeypatch.setattr(external_check, "WATCH_SECONDS", 0.3)

    outcome = check(owner)

    assert (outcome.reason, Hold.objects.get().charge, predictions()[0]["status"]) == ("not_in_time", 0, "canceled")


def test_a_lost_connection_while_it_is_watched_leaves_it_in_doubt(owner, monkeypatch):
    def lost(*_, **__):
        raise OutcomeUnknown("gone")

    monkeypatch.setattr(Gateway, "prediction", lost)

    outcome = check(owner)

    assert (outcome.reason, len(outcome.prediction_id), Hold.objects.get().charge) == ("in_doubt", 26, MOST)


def test_a_second_check_waits_for_the_first(owner):
    external_check._hold(caller_of(owner), now=timezone.now())

    with pytest.raises(Conflict, match="under way"):
        check(owner)


def test_the_check_of_a_process_that_died_is_charged_in_full_later(owner):
    young = external_check._hold(caller_of(owner), now=timezone.now())
    tasks.settle_lost_checks()
    before = Hold.objects.get(pk=young.pk).settled_at
    Hold.objects.update(created_at=timezone.now() - timedelta(minutes=4))

    tasks.settle_lost_checks()
    tasks.settle_lost_checks()

    hold = Hold.objects.get()
    assert (before, hold.charge, hold.flag) == (None, MOST, external_check.UNKNOWN)


def test_the_helper_declares_its_inputs_and_needs_an_address(owner, account):
    version = account.http.get("/v1/models/simpletuner/webhook-check").json()["latest_version"]

    refused: httpx.Response = account.http.post("/v1/predictions", json={"version": version["id"], "input": {}})

    schema = version["openapi_schema"]["components"]["schemas"]["Input"]
    assert (sorted(schema["properties"]), schema["required"]) == (["timeout_seconds", "webhook_url"], ["webhook_url"])
    assert refused.status_code == 422
