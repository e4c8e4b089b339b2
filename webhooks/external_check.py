"""Asking the provider's helper model to call our webhook address: the only test that comes from where deliveries come from.

It costs cents, so its worst case is held first. One prediction is made for it, once; what became of it after any doubt
is charged in full and flagged.

Source: SimpleTuner's `simpletuner/webhook-check` (runs on CPU; inputs webhook_url, timeout_seconds).
"""

import json
import secrets
import time
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_noop

from accounts import audit
from accounts.callers import Caller
from accounts.errors import Conflict, InvalidInput
from accounts.models import Credential, Team
from accounts.roles import Right
from billing import pricebook, prices
from billing import services as billing
from billing.models import BilledTime, Hold
from jobs.replicate.gateway import Gateway, NotFound, Rejected, ReplicateError, Unavailable
from jobs.replicate.predictions import Prediction
from jobs.services import provider
from webhooks import testing
from webhooks.testing import Outcome

log = structlog.get_logger(__name__)

MODEL = "simpletuner/webhook-check"
HARDWARE = "cpu"
CEILING_SECONDS = 60
# The answer comes within a minute: so long we ask how it goes, and no single call takes longer than the rest allows.
WATCH_SECONDS = 45
CALL_SECONDS = 6.0
PAUSE_SECONDS = 1.0
# Who holds a check and is gone by then has died.
LOST_AFTER = timedelta(minutes=3)
PREFIX = "check:"
UNKNOWN = "It is not known how the webhook check ended; it is charged in full."
BEYOND = "The provider billed more time than the ceiling allows."

REACHED = gettext_noop("A machine of Replicate reached the address.")
NOT_REACHED = gettext_noop("A machine of Replicate did not get through to the address: %(said)s")
NO_MODEL = gettext_noop("Replicate has no model %(said)s, or not for this account. Nothing was charged.")
NOT_STARTED = gettext_noop("Replicate did not take the check, and nothing was charged: %(said)s")
NOT_IN_TIME = gettext_noop("Replicate had no machine for the check within %(said)s seconds. Try again later.")
DID_NOT_RUN = gettext_noop("The check did not run to its end: %(said)s")
IN_DOUBT = gettext_noop("It is not known how the check ended, since Replicate could not be asked: %(said)s")


class CheckUnderWay(Conflict):
    """The team's last check is not over."""


def check(caller: Caller, *, url: str = "", timeout_seconds: float = testing.LONGEST_TIMEOUT_SECONDS) -> Outcome:
    """Let a machine of the provider call the team's webhook address, or `url`, and say whether it got through.

    Takes up to a minute, holds the price of a minute of CPU and charges what was billed. Raises NotPermitted,
    MissingToken, InvalidInput for a `url` that must not be called, CheckUnderWay, UnknownHardware and LimitReached.
    """
    caller.require(Right.MANAGE, permission="admin.config")
    address = testing.address_for(caller.team, url)
    # What the name means from here is no matter: it is not we who call.
    if (found := testing.obstacle(address, from_here=False)) is not None:
        if url:
            raise InvalidInput(found.message, field="webhook_url")
        return found
    credential = provider.credential_for(caller)
    hold = _hold(caller, now=timezone.now())
    charge, flag = hold.amount, UNKNOWN
    nonce_address = testing.marked(address, team=caller.team, credential=None)
    patience = max(1, min(int(timeout_seconds), int(testing.LONGEST_TIMEOUT_SECONDS)))
    try:
        outcome, charge, flag = _run(caller.team, credential, hold, input={"webhook_url": nonce_address, "timeout_seconds": patience})
    finally:
        # Whatever went wrong: as long as nobody knows that it cost less, it cost what was held.
        billing.settle(hold, charge=charge, now=timezone.now(), flag=flag)
    log.info("webhook.checked", team=caller.team.slug, reason=outcome.reason, charge=charge)
    return outcome


def settle_lost(*, now: datetime) -> int:
    """Charge the checks whose process died in the middle, in full and flagged; says how many."""
    lost = Hold.objects.open().filter(reference__startswith=PREFIX, created_at__lt=now - LOST_AFTER)
    return sum(billing.settle(hold, charge=hold.amount, now=now, flag=UNKNOWN) for hold in lost)


def _hold(caller: Caller, *, now: datetime) -> Hold:
    line = pricebook.line_for(hardware=HARDWARE, on=now)
    reference = f"{PREFIX}{secrets.token_hex(8)}"
    with transaction.atomic():
        # Two who press the button at once take turns, and the second is told.
        Team.objects.select_for_update(no_key=True).get(pk=caller.team.pk)
        if Hold.objects.open().filter(team=caller.team, reference__startswith=PREFIX).exists():
            raise CheckUnderWay("A webhook check of this team is under way.", hint="Wait a minute, then try again.")
        held = billing.hold(
            team=caller.team,
            amount=prices.worst_case(usd_per_second=line.usd_per_second, seconds=CEILING_SECONDS),
            reference=reference,
            what_for="A webhook check",
            price_line=line,
            user=caller.user,
            token=caller.token,
            now=now,
        )
        audit.record(
            team=caller.team,
            caller=caller,
            event_type="webhook.check_started",
            action="Had Replicate call the webhook address",
            target_type="check",
            target_id=reference,
            after={"held": held.hold.amount},
        )
    return held.hold


def _run(team: Team, credential: Credential, hold: Hold, *, input: dict[str, Any]) -> tuple[Outcome, int, str]:
    """Make the one prediction and follow it to its end: the outcome, its charge in micro-dollars, and why somebody must look."""
    try:
        replicate = provider.gateway(
            team=team, credential=credential, retries=provider.AWAITED, patience_seconds=CALL_SECONDS, is_urgent=True
        )
    except Unavailable as error:
        return _failed("not_started", NOT_STARTED, said=str(error)), 0, ""
    with replicate:
        until = time.monotonic() + WATCH_SECONDS
        try:
            version = replicate.latest_version(MODEL)
            prediction = replicate.create(version=version.id, input=input, webhook=None, cancel_after_seconds=CEILING_SECONDS)
        except NotFound:
            return _failed("no_model", NO_MODEL, said=MODEL), 0, ""
        except (Unavailable, Rejected) as error:
            # Certainly nothing was created.
            return _failed("not_started", NOT_STARTED, said=str(error)), 0, ""
        except ReplicateError as error:
            return _failed("in_doubt", IN_DOUBT, said=str(error)), hold.amount, UNKNOWN
        billing.identify(hold, provider_reference=prediction.id, provider_account=credential.account_username)
        try:
            prediction = _followed(replicate, prediction, until=until)
        except ReplicateError as error:
            return _failed("in_doubt", IN_DOUBT, said=str(error), prediction=prediction), hold.amount, UNKNOWN
    if not prediction.is_terminal:
        return _failed("in_doubt", IN_DOUBT, said=prediction.status, prediction=prediction), hold.amount, UNKNOWN
    charge, flag = _charge(prediction, hold)
    return _understood(prediction), charge, flag


def _followed(replicate: Gateway, prediction: Prediction, *, until: float) -> Prediction:
    """The prediction at its end; one that takes too long is cancelled."""
    while not prediction.is_terminal and time.monotonic() < until:
        time.sleep(PAUSE_SECONDS)
        prediction = replicate.prediction(prediction.id)
    if not prediction.is_terminal:
        prediction = replicate.cancel(prediction.id)
    if not prediction.is_terminal:  # a running one may end a little later
        time.sleep(PAUSE_SECONDS)
        prediction = replicate.prediction(prediction.id)
    return prediction


def _charge(prediction: Prediction, hold: Hold) -> tuple[int, str]:
    """What was billed, and why somebody must look at it ("" if nobody need). One that never ran is free."""
    line = hold.price_line
    seconds = prediction.total_seconds if line.billed_time == BilledTime.INSTANCE else prediction.seconds
    if prediction.is_aborted or (seconds is None and prediction.started_at is None):
        return 0, ""
    if seconds is None:
        return hold.amount, UNKNOWN
    charge = prices.charge(usd_per_second=line.usd_per_second, seconds=seconds)
    return charge, BEYOND if charge > hold.amount else ""


def _understood(prediction: Prediction) -> Outcome:
    if prediction.status != "succeeded":
        if prediction.status in ("canceled", "aborted") and not prediction.seconds:
            return _failed("not_in_time", NOT_IN_TIME, said=str(WATCH_SECONDS), prediction=prediction)
        return _failed("did_not_run", DID_NOT_RUN, said=prediction.error or prediction.status, prediction=prediction)
    said = _output(prediction)
    facts: dict[str, Any] = {
        "success": said.get("success") is True,
        "status_code": _number(said, "status_code"),
        "latency_ms": _number(said, "latency_ms"),
        "error": said["error"][:300] if isinstance(said.get("error"), str) else None,
    }
    status = int(facts["status_code"]) if facts["status_code"] is not None else None
    if facts["success"]:
        return Outcome(
            success=True,
            reason="reached",
            sentence=REACHED,
            latency_ms=facts["latency_ms"],
            status_code=status,
            prediction_id=prediction.id,
            details=facts,
        )
    reason = facts["error"] or (f"HTTP {status}." if status else "it did not say why.")
    return _failed("not_reached", NOT_REACHED, said=reason, prediction=prediction, status_code=status, details=facts)


def _output(prediction: Prediction) -> dict[str, Any]:
    """What the helper says, which is an object or its text."""
    said = prediction.output
    if isinstance(said, str):
        try:
            said = json.loads(said)
        except (ValueError, RecursionError):
            return {}
    return said if isinstance(said, dict) else {}


def _number(said: dict[str, Any], name: str) -> float | None:
    value = said.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9 else None


def _failed(reason: str, sentence: str, *, said: str, prediction: Prediction | None = None, **more: Any) -> Outcome:
    return Outcome(
        success=False,
        reason=reason,
        sentence=sentence,
        names={"said": said[:300]},
        prediction_id=prediction.id if prediction else None,
        **more,
    )
