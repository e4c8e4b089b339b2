"""After the end: logs and output archived, the result received, the provider's copy of the data deleted, keys revoked."""

from datetime import datetime, timedelta

import structlog
from django.db.models import Sum
from django.utils import timezone

from accounts import audit
from jobs.models import Job, ProviderUpload, ResultDelivery
from jobs.models.job import Destination
from jobs.models.results import ArtifactKind, DeliveryState
from jobs.replicate.gateway import Gateway, ReplicateError
from jobs.services import accountwatch, dataflow, deliveries, polling, provider, rescuing, storage_quotas
from jobs.services.deliveries import LAST_FILES
from jobs.services.leases import lease
from jobs.states import TERMINAL, State
from jobs.storage import keys

log = structlog.get_logger(__name__)

TRY_AGAIN_AFTER = timedelta(seconds=30)
# What the provider will forget is not waited for longer than an account that failed must rest.
ASK_AGAIN_AFTER = timedelta(seconds=5)
MOST_AT_ONCE = 200


def archive(job: Job) -> None:
    """Bring home what the provider will forget, then clean up behind the job. Safe to repeat at any time."""
    if job.archived_at is None and job.provider_forgot_at is None and job.prediction_id and not _is_resting(job):
        polling.poll(job, cause="archive")
    with lease(job) as ours:
        if not ours:
            return
        job.refresh_from_db()
        if not job.is_terminal or job.cleaned_up_at is not None:
            return
        is_rescued = _rescue(job)
        now = timezone.now()
        if not _deliver(job, now=now):
            Job.objects.filter(pk=job.pk).update(try_after=now + LAST_FILES)
            return
        keys.revoke(job, now=now)
        dataflow.forget_packed(job)
        if not _delete_copy(job, now=now):
            Job.objects.filter(pk=job.pk).update(try_after=now + TRY_AGAIN_AFTER)
            return
        if not is_rescued:
            Job.objects.filter(pk=job.pk).update(try_after=now + ASK_AGAIN_AFTER)
            return
        Job.objects.filter(pk=job.pk).update(cleaned_up_at=now)
        log.info("job.cleaned_up", team=job.team.slug, job=job.job_id)


def uncleaned(*, now: datetime) -> list[Job]:
    """Ended jobs behind which nobody has cleaned up yet: first those of whom the provider has something that we have not.

    Longest ended first, since the provider forgets in that order, and not behind any number of others.
    """
    ended = Job.objects.filter(state__in=TERMINAL, cleaned_up_at=None).unleased(now=now).order_by("ended_at")
    unrescued = list(ended.unrescued()[: 5 * MOST_AT_ONCE])
    return unrescued + list(ended.exclude(pk__in=[job.pk for job in unrescued])[:MOST_AT_ONCE])


def _is_resting(job: Job) -> bool:
    return accountwatch.resting_until(team=job.team, credential=job.credential, now=timezone.now()) is not None


def _rescue(job: Job) -> bool:
    """Fetch what lies in files at the provider; True when nothing is left there that we have not."""
    rescuing.fetch_files(job)
    return not job.prediction_id or rescuing.conclude(job, now=timezone.now())


def _deliver(job: Job, *, now: datetime) -> bool:
    """Say of each delivery to us whether it arrived, and have the others looked at; True when there is nothing more to wait for."""
    is_over = True
    for delivery in job.result_deliveries.filter(state=DeliveryState.WAITING):
        if job.state != State.COMPLETED:
            _close(delivery, DeliveryState.FAILED, error="The run did not complete.")
        elif delivery.destination == Destination.LOCAL:
            is_over = _receive(job, delivery, now=now) and is_over
        else:
            # What lies in somebody else's storage may take hours to look at, and nothing here waits for that.
            deliveries.begin(delivery, now=now)
    return is_over


def _receive(job: Job, delivery: ResultDelivery, *, now: datetime) -> bool:
    """Whether the weights are in our storage; a little patience for the last file, then a clear failure."""
    weights = job.artifacts.filter(kind=ArtifactKind.WEIGHTS)
    if weights.exists():
        all_files = job.artifacts.aggregate(size=Sum("size_bytes"))
        delivery.target = f"outputs/{job.job_id}/"
        delivery.receipt = {
            "files": job.artifacts.count(),
            "size_bytes": all_files["size"],
            "weights": [{"key": item.key, "sha256": item.sha256, "size_bytes": item.size_bytes} for item in weights],
        }
        _close(delivery, DeliveryState.DELIVERED, now=now)
        storage_quotas.tell_of_result(job)
        return True
    if job.ended_at and now < job.ended_at + LAST_FILES:
        return False
    _close(
        delivery, DeliveryState.FAILED, error="The trainer reported success, but no weights arrived in our storage. See the end of the log."
    )
    return True


def _close(delivery: ResultDelivery, state: DeliveryState, *, error: str = "", now: datetime | None = None) -> None:
    delivery.state, delivery.error, delivery.delivered_at = state, error, now
    delivery.attempts += 1
    delivery.save()
    log.info("delivery.ended", team=delivery.job.team.slug, job=delivery.job.job_id, state=state.value)


def _delete_copy(job: Job, *, now: datetime) -> bool:
    """Delete the provider's copy of the data; True when it is gone or there was none.

    The provider itself removes a copy when it expires, which ends our tries where it does not let us in any more.
    """
    upload = ProviderUpload.objects.filter(job=job, deleted_at=None).first()
    if upload is None:
        return True
    if upload.expires_at and upload.expires_at <= now:
        upload.deleted_at = upload.expires_at
        upload.save(update_fields=["deleted_at"])
        return True
    try:
        with provider.gateway(team=job.team, credential=job.credential) as replicate:
            return _delete(job, upload, replicate)
    except ReplicateError as error:
        log.warning("data.not_deleted", team=job.team.slug, job=job.job_id, reason=str(error))
        return False


def _delete(job: Job, upload: ProviderUpload, replicate: Gateway) -> bool:
    copies = dataflow.uploaded_files(job, replicate)
    if not all(replicate.delete_file(file_id) for file_id in copies):
        return False
    upload.deleted_at = timezone.now()
    upload.save(update_fields=["deleted_at"])
    if copies:
        audit.record(
            team=job.team,
            event_type="job.data_deleted",
            action=f"Deleted the provider's copy of the data of {job.job_id}",
            target_type="job",
            target_id=job.job_id,
            after={"archive_sha256": upload.archive_sha256, "bytes": upload.archive_bytes},
        )
    return True
