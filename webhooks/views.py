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

from accounts import audit
from accounts.callers import address_of, is_within
from accounts.errors import NotFound, NotPermitted, Refusal
from accounts.models import Team
from jobs import tasks as job_tasks
from jobs.models import Job, ProviderSettings
from jobs.services import provider
from webhooks import services, signatures

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
    said = _read(body)
    if not _names_a_job(request, said):
        return _nameless(request)
    job = _job_of(request, said)
    own = provider.settings_of(job.team)
    address = address_of(request)
    if own.webhook_allowed_ips and not is_within(address, own.webhook_allowed_ips):
        _reject(job, "address", address)
        raise AddressNotAllowed("IP address not in allowlist", details={"address": address})
    webhook_id = _verified_id(request, job, own, body, address)
    delivery, is_new = services.receive(webhook_id=webhook_id, job=job, body=body, headers=request.headers, address=address)
    if not is_new:
        return JsonResponse({"status": "ignored", "reason": "duplicate", "job_id": job.job_id})
    log.info("delivery.received", team=job.team.slug, job=job.job_id, delivery=delivery.webhook_id)
    return JsonResponse({"status": "received", "job_id": job.job_id, "updates": {}})


def _read(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise services.InvalidPayload("Invalid JSON payload") from None
    if not isinstance(said, dict):
        raise services.InvalidPayload("Invalid webhook payload: it is not an object.")
    return said


def _names_a_job(request: HttpRequest, said: dict[str, Any]) -> bool:
    return bool(request.GET.get("job") or said.get("id"))


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
    job = _called_back(request) if request.GET.get("job") else _of_prediction(said.get("id"))
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


def _verified_id(request: HttpRequest, job: Job, own: ProviderSettings, body: bytes, address: str) -> str:
    """Check the signature with the secrets of the job's own account and return the delivery's id.

    After a mismatch the secret is fetched anew once, since the account may have changed it.
    """
    is_signed = "webhook-signature" in request.headers
    if not is_signed and not own.webhook_require_signature:
        return f"unsigned-{hashlib.sha256(body).hexdigest()}"
    try:
        try:
            _verify(request, job, body, refetch=False)
        except (signatures.WrongSignature, signatures.NoSigningSecret):
            _verify(request, job, body, refetch=True)
    except signatures.BadSignature as error:
        _reject(job, str(error), address)
        raise InvalidSignature(str(error)) from error
    return request.headers["webhook-id"][:200]


def _verify(request: HttpRequest, job: Job, body: bytes, *, refetch: bool) -> None:
    secrets = (
        provider.signing_keys(team=job.team, credential=job.credential, refetch=refetch) if "webhook-signature" in request.headers else ()
    )
    tolerance = settings.WEBHOOK_TOLERANCE_SECONDS
    signatures.verify(request.headers, body, secrets=secrets, now=timezone.now(), tolerance_seconds=tolerance)


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
    if job is not None:
        job_tasks.poll_job.delay(job_pk=job.pk)
    return TooLarge("The delivery is larger than 32 MiB. The provider is asked instead.")
