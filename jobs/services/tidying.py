"""What is thrown away in time: old logs, used keys of submissions, uploads that nobody finished."""

from datetime import timedelta

import structlog
from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from accounts import credentials
from jobs.models import IdempotencyKey, Job, LogChunk
from jobs.services.submission import KEY_LIFETIME
from jobs.states import ACTIVE, TERMINAL

log = structlog.get_logger(__name__)


def tidy() -> None:
    """Remove what has outlived its use. Money, audit, events and artifacts are never touched."""
    now = timezone.now()
    IdempotencyKey.objects.filter(created_at__lt=now - KEY_LIFETIME).delete()
    old = now - timedelta(days=settings.LOG_RETENTION_DAYS)
    chunks, _ = LogChunk.objects.filter(job__state__in=TERMINAL, job__ended_at__lt=old).delete()
    needed = Job.objects.filter(Q(state__in=ACTIVE) | Q(cleaned_up_at=None))
    wiped = credentials.wipe_removed(
        still_needed={pk for row in needed.values_list("credential", "hub_credential", "s3_credential") for pk in row if pk}
    )
    log.info("tidied", log_chunks=chunks, credentials=wiped)
