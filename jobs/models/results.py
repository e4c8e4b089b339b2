"""What a job brought: artifacts, the keys by which they come in, and deliveries elsewhere."""

from datetime import datetime
from typing import Any
from urllib.parse import quote

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.encryption import EncryptedTextField
from jobs.models.job import Destination, Job


class StorageKeyQuerySet(models.QuerySet["StorageKey"]):
    def usable(self, *, now: object) -> "StorageKeyQuerySet":
        return self.filter(revoked_at=None, expires_at__gt=now)


class KeyPurpose(models.TextChoices):
    RESULTS = "results", _("write results")
    DATASET = "dataset", _("read the dataset")


class StorageKey(models.Model):
    """An S3 key pair made for one job, for one prefix and a short life. The secret signs, so it is encrypted, not hashed."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="storage_keys")
    purpose = models.CharField(_("purpose"), max_length=10, choices=KeyPurpose.choices)
    access_key = models.CharField(_("access key"), max_length=32, unique=True)
    secret = EncryptedTextField(editable=False)
    bucket = models.CharField(_("bucket"), max_length=63)
    prefix = models.CharField(_("prefix"), max_length=300)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("expires at"))
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)

    objects = StorageKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("storage key")
        verbose_name_plural = _("storage keys")
        constraints = [models.UniqueConstraint(fields=["job", "purpose"], name="one_storage_key_per_job_and_purpose")]

    def __str__(self) -> str:
        return self.access_key


class ArtifactKind(models.TextChoices):
    WEIGHTS = "weights", _("weights")
    CHECKPOINT = "checkpoint", _("checkpoint")
    SAMPLE = "sample", _("sample")
    OTHER = "other", _("other")


class Artifact(models.Model):
    """One stored file of a job's result. A row exists only for a file that came in whole."""

    job = models.ForeignKey(Job, models.PROTECT, related_name="artifacts")
    # Below the job's prefix, as the trainer named it.
    key = models.CharField(_("name"), max_length=900)
    kind = models.CharField(_("kind"), max_length=10, choices=ArtifactKind.choices, default=ArtifactKind.OTHER)
    size_bytes = models.PositiveBigIntegerField(_("size"))
    sha256 = models.CharField("SHA-256", max_length=64)
    etag = models.CharField(max_length=80)
    content_type = models.CharField(_("type"), max_length=200, default="application/octet-stream")
    # What the uploader said about it (x-amz-meta-*); rclone keeps the file's time there.
    metadata = models.JSONField(default=dict, blank=True)
    stored_as = models.CharField(max_length=1100)
    stored_at = models.DateTimeField(_("stored at"), default=timezone.now)

    class Meta:
        verbose_name = _("artifact")
        verbose_name_plural = _("artifacts")
        ordering = ["key"]
        constraints = [models.UniqueConstraint(fields=["job", "key"], name="one_artifact_per_job_and_key")]

    def __str__(self) -> str:
        return self.key


class MultipartUpload(models.Model):
    """An S3 multipart upload that has begun and not ended."""

    storage_key = models.ForeignKey(StorageKey, models.CASCADE, related_name="multipart_uploads")
    upload_id = models.CharField(max_length=64, unique=True)
    key = models.CharField(max_length=900)
    content_type = models.CharField(max_length=200, default="application/octet-stream")
    metadata = models.JSONField(default=dict, blank=True)
    started_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.upload_id


class MultipartPart(models.Model):
    upload = models.ForeignKey(MultipartUpload, models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField()
    size_bytes = models.PositiveBigIntegerField()
    etag = models.CharField(max_length=80)
    stored_as = models.CharField(max_length=200)

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["upload", "number"], name="one_part_per_number")]

    def __str__(self) -> str:
        return str(self.number)


class DeliveryState(models.TextChoices):
    WAITING = "waiting", _("waiting")
    DELIVERING = "delivering", _("delivering")
    REPORTED = "reported", _("reported by the trainer, not checked by us")
    DELIVERED = "delivered", _("delivered")
    FAILED = "failed", _("failed")


OPEN_DELIVERIES = frozenset({DeliveryState.WAITING, DeliveryState.DELIVERING})


class ResultDeliveryQuerySet(models.QuerySet["ResultDelivery"]):
    def unleased(self, *, now: datetime) -> "ResultDeliveryQuerySet":
        """Those that no worker has in hand, and whose time to be tried again has come."""
        return self.filter(Q(leased_until=None) | Q(leased_until__lt=now), Q(try_after=None) | Q(try_after__lte=now))


class ResultDelivery(models.Model):
    """Bringing a job's result to one destination: a state of its own, apart from training.

    `receipt` holds `files`, `size_bytes`, `weights`, `url`; of a delivery elsewhere also `files_url`, below which each
    file has its address, and `listing`, every file with `key`, `kind`, `size_bytes`, `sha256` and the destination's `tag`.
    """

    job = models.ForeignKey(Job, models.CASCADE, related_name="result_deliveries")
    destination = models.CharField(_("destination"), max_length=5, choices=Destination.choices)
    target = models.CharField(_("target"), max_length=500, blank=True)
    state = models.CharField(_("state"), max_length=10, choices=DeliveryState.choices, default=DeliveryState.WAITING)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    error = models.CharField(_("error"), max_length=500, blank=True)
    receipt = models.JSONField(_("receipt"), default=dict, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    # When the check that is open, or was last made, was asked for: by the job's end or by a person. Tries count from here.
    asked_at = models.DateTimeField(_("check asked for at"), null=True, blank=True)
    delivered_at = models.DateTimeField(_("delivered at"), null=True, blank=True)
    leased_until = models.DateTimeField(null=True, editable=False)
    try_after = models.DateTimeField(null=True, editable=False)

    objects = ResultDeliveryQuerySet.as_manager()

    class Meta:
        verbose_name = _("result delivery")
        verbose_name_plural = _("result deliveries")
        constraints = [
            models.UniqueConstraint(fields=["job", "destination", "target"], name="one_delivery_per_job_and_target"),
            models.CheckConstraint(
                condition=~Q(state="delivered") | Q(delivered_at__isnull=False), name="a_delivery_that_arrived_says_when"
            ),
        ]
        indexes = [models.Index(fields=["try_after"], condition=Q(state="delivering"), name="delivery_to_check")]

    def __str__(self) -> str:
        return f"{self.get_destination_display()}: {self.state}"

    @property
    def is_elsewhere(self) -> bool:
        """Whether its files lie where we can only look."""
        return self.destination != Destination.LOCAL

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_DELIVERIES

    @property
    def may_be_checked(self) -> bool:
        """Whether a person may ask for another look: it lies elsewhere, somebody said that it arrived, and nobody looks now."""
        return self.is_elsewhere and not self.is_open and bool(self.receipt)

    @property
    def listing(self) -> list[dict[str, Any]]:
        """The files that were seen elsewhere, each with its address."""
        base = self.receipt.get("files_url", "")
        return [{**file, "url": f"{base}{quote(file['key'])}"} for file in self.receipt.get("listing", ())]
