"""What is thrown away in time: old logs, used keys of submissions, secrets and bytes that nothing needs any more."""

from datetime import datetime, timedelta
from functools import partial

import structlog
from django.conf import settings
from django.core.files.storage import storages
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from accounts import credentials, pacing, retention
from jobs.models import Blob, DatasetFile, IdempotencyKey, Job, LogChunk, ResultDelivery
from jobs.models.results import DeliveryState
from jobs.services import dataflow
from jobs.services.repeats import KEY_LIFETIME
from jobs.states import ACTIVE, TERMINAL
from jobs.storage import multipart

log = structlog.get_logger(__name__)

BLOB_LIFETIME = timedelta(days=1)
PACKING_LIFETIME = timedelta(days=1)


def tidy() -> None:
    """Remove what has outlived its use. Money, events and artifacts are never touched, the audit trail only by its retention setting."""
    now = timezone.now()
    IdempotencyKey.objects.filter(created_at__lt=now - KEY_LIFETIME).delete()
    old = now - timedelta(days=settings.LOG_RETENTION_DAYS)
    chunks, _ = LogChunk.objects.filter(job__state__in=TERMINAL, job__ended_at__lt=old).delete()
    # A delivery elsewhere is looked at with the job's own keys, also after the job was cleaned up behind.
    looked_for = Exists(ResultDelivery.objects.filter(job=OuterRef("pk"), state=DeliveryState.DELIVERING))
    needed = Job.objects.filter(Q(state__in=ACTIVE) | Q(cleaned_up_at=None) | looked_for)
    wiped = credentials.wipe_removed(
        still_needed={pk for row in needed.values_list("credential", "hub_credential", "s3_credential") for pk in row if pk}
    )
    blobs = _drop_unused_blobs(now)
    uploads = multipart.tidy(now)
    archives = dataflow.forget_abandoned(before=now - PACKING_LIFETIME)
    counts = pacing.forget(before=now)
    lines = retention.cut_due(now=now)
    log.info(
        "tidied",
        log_chunks=chunks,
        credentials=wiped,
        blobs=blobs,
        uploads=uploads,
        archives=archives,
        pace_counts=counts,
        audit_lines=lines,
    )


def _drop_unused_blobs(now: datetime) -> int:
    """Throw away the bytes that no dataset has and that no upload of the last day brought or met again."""
    dropped = 0
    unused = Blob.objects.filter(created_at__lt=now - BLOB_LIFETIME).filter(~Exists(DatasetFile.objects.filter(blob=OuterRef("pk"))))
    for pk in list(unused.values_list("pk", flat=True)):
        with transaction.atomic():
            # Looked at again under its lock: an upload that meets the same bytes renews them first.
            blob = unused.select_for_update(of=("self",)).filter(pk=pk).first()
            if blob is not None:
                transaction.on_commit(partial(storages["datasets"].delete, blob.stored_as))
                blob.delete()
                dropped += 1
    return dropped
