"""Where the provider delivers. The signature is the login: no sign-in, no CSRF."""

import hashlib
import json
import re
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from accounts import audit, pacing
from accounts.callers import address_of, is_within
from accounts.errors import NotFound, NotPermitted, Refusal
from accounts.models import Credential, Team
from accounts.pacing import Pace
from jobs import tasks as job_tasks
from jobs.models import Job, ProviderSettings
from jobs.models.catalogue import AddressMode
from jobs.services import provider
from webhooks import receiving, signatures, testing, trainer_events
from webhooks.models import Delivery, Proof
from webhooks.receiving import Arrival

log = structlog.get_logger(__name__)

LARGEST_BODY_BYTES = 32 * 1024 * 1024
# Ids of jobs and of predictions; nothing else is looked up.
PLAIN_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class JobNotFound(NotFound):
    code = "job_not_found"


class AddressNotAllowed(NotPermitted):
    code = "ip_not_allowed"


class InvalidSignature(Refusal):
    code = "invalid_signature"
    status = 401


class TooLarge(Refusal):
    code = "upload_too_large"
    status = 413


@login_not_required
@csrf_exempt
@require_POST
def replicate(request: HttpRequest) -> HttpResponse:
    """Take a delivery in: verify, keep, answer. What it means is worked out later.

    The job is named by our own `?job=` with its key, else by the prediction's id in the body.
    """
    body = request.read(LARGEST_BODY_BYTES + 1)
    if len(body) > LARGEST_BODY_BYTES:
        raise _too_large(request)
    try:
        said = _read(body)
        if "test" in request.GET:
            return _answer_test(request, body)
        job = _job_of(request, said) if _names_a_job(request, said) else None
    except (receiving.InvalidPayload, JobNotFound, testing.UnknownTest):
        _count_unproven(request)
        raise
    if job is None:
        _count_unproven(request)
        return _nameless(request)
    own = provider.settings_of(job.team)
    arrival = _arrival(request, job, own, body, is_trainers=trainer_events.is_one(said))
    delivery, is_new = _keep(request, job, said, body, arrival)
    if arrival.is_held:
        log.warning("delivery.held", team=job.team.slug, job=job.job_id, delivery=delivery.webhook_id)
        raise _not_allowed(arrival.address)
    if not is_new:
        return JsonResponse({"status": "ignored", "reason": "duplicate", "job_id": job.job_id})
    log.info("delivery.received", team=job.team.slug, job=job.job_id, delivery=delivery.webhook_id)
    return JsonResponse({"status": "received", "job_id": job.job_id, "updates": {}})


def _read(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise receiving.InvalidPayload("Invalid JSON payload") from None
    if not isinstance(said, dict):
        raise receiving.InvalidPayload("Invalid webhook payload: it is not an object.")
    return said


def _names_a_job(request: HttpRequest, said: dict[str, Any]) -> bool:
    return bool(request.GET.get("job") or _run_named_by(said))


def _run_named_by(said: dict[str, Any]) -> Any:
    """The prediction that a body speaks of, whoever wrote it."""
    return trainer_events.prediction_named_by(said) if trainer_events.is_one(said) else said.get("id")


def _nameless(request: HttpRequest) -> HttpResponse:
    """Answer somebody's hand test, which proves that the address is reachable and says what is missing."""
    takes_unsigned = ProviderSettings.objects.filter(webhook_require_signature=False).exists()
    if takes_unsigned and not Team.objects.exclude(provider_settings__webhook_require_signature=False).exists():
        return JsonResponse({"status": "ignored", "reason": "no job_id"})
    if "webhook-signature" not in request.headers:
        raise InvalidSignature(
            "Webhook signature required but not provided.",
            hint="The address is reachable. A delivery needs the headers webhook-id, webhook-timestamp and webhook-signature, "
            "and names its job by ?job= or by the prediction's id.",
        )
    raise JobNotFound("The delivery names no job, neither by ?job= nor by a prediction's id.")


def _job_of(request: HttpRequest, said: dict[str, Any]) -> Job:
    """The job that the callback's address names with its key, or that has this prediction. Raises JobNotFound."""
    job = _called_back(request) if request.GET.get("job") else _of_prediction(_run_named_by(said))
    if job is None:
        raise JobNotFound("No job of this installation belongs to this delivery.")
    return job


def _called_back(request: HttpRequest) -> Job | None:
    """The job that the callback's address names, if it knows the job's key."""
    named = request.GET.get("job", "")
    job = Job.objects.select_related("team", "credential").filter(job_id=named).first() if PLAIN_ID.fullmatch(named) else None
    known = job is not None and constant_time_compare(request.GET.get("callback", ""), job.callback_key)
    return job if known else None


def _of_prediction(named: Any) -> Job | None:
    if not isinstance(named, str) or not PLAIN_ID.fullmatch(named):
        return None
    return Job.objects.select_related("team", "credential").filter(prediction_id=named).first()


def _answer_test(request: HttpRequest, body: bytes) -> HttpResponse:
    """Check one of our own tests as a delivery is checked, keep nothing of it, and say how it fared.

    The nonce in the address is the proof that this installation asked; another one's is not found.
    """
    tested = testing.tested(request.GET["test"])
    own = provider.settings_of(tested.team)
    address = address_of(request)
    if own.webhook_address_mode == AddressMode.BLOCK and not _lets_in(address, own):
        raise _not_allowed(address)
    signature = "not_tried"
    if tested.credential is not None:
        try:
            is_signed = _is_signed(request, tested.team, tested.credential, body, must_be=own.webhook_require_signature)
            signature = "valid" if is_signed else "not_required"
        except signatures.BadSignature as error:
            raise InvalidSignature(str(error)) from error
    return JsonResponse({"status": "ignored", "reason": "test", "team": tested.team.slug, "signature": signature})


def _lets_in(address: str, own: ProviderSettings) -> bool:
    return not own.webhook_allowed_ips or is_within(address, own.webhook_allowed_ips)


def _not_allowed(address: str) -> AddressNotAllowed:
    return AddressNotAllowed("IP address not in allowlist", details={"address": address})


def _arrival(request: HttpRequest, job: Job, own: ProviderSettings, body: bytes, *, is_trainers: bool) -> Arrival:
    """Check who sent this and from where. The proof comes first: from outside the list nothing is kept that has no right signature.

    A trainer that signs nothing is believed by the key in the job's own address, whatever the team's settings; all that it
    can tell is progress. A wrong signature is never taken, from nobody. Raises InvalidSignature and AddressNotAllowed.
    """
    address = address_of(request)
    # The list speaks of Replicate; our own sandbox calls from somewhere else, and signs as well.
    is_outside = not job.is_rehearsal and not _lets_in(address, own)
    has_key = is_trainers and bool(request.GET.get("job"))
    unsigned = Proof.KEY if has_key else Proof.NONE
    try:
        must_be = own.webhook_require_signature and not has_key
        proof = Proof.SIGNATURE if _is_signed(request, job.team, job.credential, body, must_be=must_be) else unsigned
    except signatures.BadSignature as error:
        _count_unproven(request, own, team=job.team)
        _reject(job, "address" if is_outside else str(error), address)
        raise (_not_allowed(address) if is_outside else InvalidSignature(str(error))) from error
    if proof != Proof.SIGNATURE:
        _count_unproven(request, own, team=job.team)
        if is_outside:
            _reject(job, "address", address)
            raise _not_allowed(address)
    is_held = is_outside and own.webhook_address_mode == AddressMode.BLOCK
    return Arrival(address=address, headers=request.headers, proof=proof, is_outside=is_outside, is_held=is_held)


def _keep(request: HttpRequest, job: Job, said: dict[str, Any], body: bytes, arrival: Arrival) -> tuple[Delivery, bool]:
    """Keep it under its id. One that no signature vouches for is not believed, and the content stands for it."""
    webhook_id = request.headers["webhook-id"][:200] if arrival.proof == Proof.SIGNATURE else ""
    digest = hashlib.sha256(body).hexdigest()
    if trainer_events.is_one(said):
        webhook_id = webhook_id or f"trainer-{job.job_id}-{digest}"
        return receiving.receive_event(webhook_id=webhook_id, job=job, body=body, said=said, arrival=arrival)
    return receiving.receive(webhook_id=webhook_id or f"unsigned-{digest}", job=job, body=body, arrival=arrival)


def _is_signed(request: HttpRequest, team: Team, credential: Credential, body: bytes, *, must_be: bool) -> bool:
    """Whether there is a signature and it is right; False where there is none and none must be. Raises BadSignature.

    After a mismatch the secret is fetched anew once, since the account may have changed it.
    """
    if "webhook-signature" not in request.headers and not must_be:
        return False
    try:
        _verify(request, team, credential, body, refetch=False)
    except (signatures.WrongSignature, signatures.NoSigningSecret):
        _verify(request, team, credential, body, refetch=True)
    return True


def _verify(request: HttpRequest, team: Team, credential: Credential, body: bytes, *, refetch: bool) -> None:
    is_signed = "webhook-signature" in request.headers
    secrets = provider.signing_keys(team=team, credential=credential, refetch=refetch) if is_signed else ()
    tolerance = settings.WEBHOOK_TOLERANCE_SECONDS
    signatures.verify(request.headers, body, secrets=secrets, now=timezone.now(), tolerance_seconds=tolerance)


def _count_unproven(request: HttpRequest, own: ProviderSettings | None = None, *, team: Team | None = None) -> None:
    """Count a delivery that nothing proves to be the provider's, by its address; without a team by the settings' defaults.

    What is signed well is never counted, however much of it comes. Raises TooManyRequests.
    """
    own = own or ProviderSettings()
    pace = Pace(own.webhook_rate_limit_max, own.webhook_rate_limit_window)
    key = f"webhook {team.pk if team else ''} {pacing.stranger(request)}"
    pacing.spend(request, key, pace, now=timezone.now(), what="webhook", team=team)


def _reject(job: Job, reason: str, address: str) -> None:
    log.warning("delivery.rejected", team=job.team.slug, job=job.job_id, reason=reason)
    audit.record(
        team=job.team,
        event_type="webhook.rejected",
        action=f"Rejected a delivery for {job.job_id}: {reason}"[:300],
        target_type="job",
        target_id=job.job_id,
        after={"address": address},
    )


def _too_large(request: HttpRequest) -> TooLarge:
    """The refusal of such a body; the provider itself is asked at once."""
    job = _called_back(request)
    if job is None:
        _count_unproven(request)
    else:
        job_tasks.poll_job.delay(job_pk=job.pk)
    return TooLarge("The delivery is larger than 32 MiB. The provider is asked instead.")
