"""The inbox: every webhook request that named a job of ours and was signed by its account."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from jobs.models import Job


class DeliveryState(models.TextChoices):
    RECEIVED = "received", _("received")
    APPLIED = "applied", _("applied")
    DEAD = "dead", _("could not be applied")
    QUARANTINED = "quarantined", _("same id, other content")


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def unapplied(self) -> "DeliveryQuerySet":
        return self.filter(state=DeliveryState.RECEIVED)


class Delivery(models.Model):
    """One inbound webhook request. Committed before it is answered, applied later, once.

    `content` is the body without `input` (which may hold secrets) and without `logs` (kept once, as the job's
    log); `logs_length` and `logs_sha256` say what the body's logs were.
    """

    webhook_id = models.CharField(_("webhook id"), max_length=200)
    job = models.ForeignKey(Job, models.CASCADE, related_name="deliveries")
    received_at = models.DateTimeField(_("received at"), default=timezone.now)
    address = models.GenericIPAddressField(_("from"), null=True)
    headers = models.JSONField(default=dict)
    body_sha256 = models.CharField("SHA-256", max_length=64)
    body_bytes = models.PositiveIntegerField(_("size"))
    content = models.JSONField(default=dict)
    logs_length = models.PositiveIntegerField(null=True)
    logs_sha256 = models.CharField(max_length=64, blank=True)
    repeats = models.PositiveIntegerField(_("repeats"), default=0)
    state = models.CharField(_("state"), max_length=12, choices=DeliveryState.choices, default=DeliveryState.RECEIVED)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    applied_at = models.DateTimeField(_("applied at"), null=True, blank=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        ordering = ["-received_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["webhook_id"], condition=~Q(state="quarantined"), name="one_delivery_per_webhook_id"),
            models.UniqueConstraint(fields=["webhook_id", "body_sha256"], name="one_delivery_per_webhook_id_and_content"),
        ]
        indexes = [models.Index(fields=["received_at"], condition=Q(state="received"), name="delivery_unapplied")]

    def __str__(self) -> str:
        return self.webhook_id
