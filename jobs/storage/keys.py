"""The key pairs of the storage endpoint: made for one job and one purpose, short-lived, revoked when the job is cleaned up."""

import secrets
import string
from datetime import datetime

from jobs.models import Job, StorageKey
from jobs.models.results import KeyPurpose

OUTPUTS = "outputs"
DATASETS = "datasets"
BUCKET_OF = {KeyPurpose.RESULTS: OUTPUTS, KeyPurpose.DATASET: DATASETS}

_ACCESS_LETTERS = string.ascii_uppercase + string.digits
_SECRET_LETTERS = string.ascii_letters + string.digits


def issue(*, job: Job, purpose: str, expires_at: datetime) -> StorageKey:
    """The job's key pair for a purpose, made at the first call.

    Later calls return the same pair; they may lengthen its life but never bring a revoked one back.
    """
    pair, made = StorageKey.objects.get_or_create(
        job=job,
        purpose=purpose,
        defaults={
            "access_key": "TH" + "".join(secrets.choice(_ACCESS_LETTERS) for _ in range(18)),
            "secret": "".join(secrets.choice(_SECRET_LETTERS) for _ in range(40)),
            "bucket": BUCKET_OF[KeyPurpose(purpose)],
            "prefix": f"{job.job_id}/",
            "expires_at": expires_at,
        },
    )
    if not made and StorageKey.objects.filter(pk=pair.pk, revoked_at=None, expires_at__lt=expires_at).update(expires_at=expires_at):
        pair.expires_at = expires_at
    return pair


def revoke(job: Job, *, now: datetime) -> int:
    """End all key pairs of a job and say how many there were. Once this is committed, nothing more comes in for the job."""
    return job.storage_keys.filter(revoked_at=None).update(revoked_at=now)
