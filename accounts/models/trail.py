"""The audit trail, and where it is pushed to."""

from typing import Any
from urllib.parse import urlsplit

from django.db import models
from django.utils.translation import gettext_lazy as _

from accounts.chain import Link
from accounts.encryption import EncryptedTextField
from accounts.models.teams import PLATFORM, Team


class AuditLine(models.Model):
    """One fact about who changed what. Never changed; never deleted but behind an anchor: the database itself refuses it."""

    team = models.ForeignKey(Team, models.PROTECT, null=True, related_name="audit_lines", help_text=_("Empty: the platform's own chain."))
    sequence = models.PositiveBigIntegerField()
    at = models.DateTimeField(_("at"))
    event_type = models.CharField(_("event"), max_length=50)
    # Text and numbers rather than keys: a line outlives the rows that it speaks of.
    actor_id = models.BigIntegerField(null=True)
    actor = models.CharField(_("actor"), max_length=150, blank=True)
    token_prefix = models.CharField(_("token"), max_length=11, blank=True)
    address = models.CharField(_("address"), max_length=45, blank=True)
    target_type = models.CharField(_("target type"), max_length=50, blank=True)
    target_id = models.CharField(_("target"), max_length=100, blank=True)
    action = models.CharField(_("action"), max_length=300)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    correlation_id = models.CharField(_("correlation id"), max_length=64, blank=True)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        verbose_name = _("audit line")
        verbose_name_plural = _("audit lines")
        ordering = ["-at", "-id"]
        constraints = [models.UniqueConstraint(fields=["team", "sequence"], nulls_distinct=False, name="audit_chain_has_no_forks")]
        indexes = [
            models.Index(fields=["team", "event_type", "-at"], name="audit_by_event"),
            models.Index(fields=["token_prefix", "-at"], condition=~models.Q(token_prefix=""), name="audit_by_token"),
        ]

    def __str__(self) -> str:
        return f"{self.event_type}: {self.action}"

    def chained_fields(self) -> dict[str, Any]:
        """Every field that the hash covers, as plain JSON values."""
        return {
            "team": self.team_id,
            "sequence": self.sequence,
            "at": self.at.isoformat(),
            "event_type": self.event_type,
            "actor_id": self.actor_id,
            "actor": self.actor,
            "token_prefix": self.token_prefix,
            "address": self.address,
            "target_type": self.target_type,
            "target_id": self.target_id,
            "action": self.action,
            "before": self.before,
            "after": self.after,
            "reason": self.reason,
            "correlation_id": self.correlation_id,
        }

    def as_link(self) -> Link:
        """The line as a walk along its chain looks at it."""
        return Link(id=self.pk, sequence=self.sequence, previous_hash=self.previous_hash, hash=self.hash, fields=self.chained_fields())


class AuditAnchor(models.Model):
    """Where a retention cut was made: the last line that was removed. Written before the removal, and never changed or deleted.

    The database lets go of the lines that an anchor covers, and of no others; a walk begins behind the newest one.
    """

    team = models.ForeignKey(Team, models.PROTECT, null=True, related_name="audit_anchors", help_text=_("Empty: the platform's own chain."))
    sequence = models.PositiveBigIntegerField(_("last line removed"))
    hash = models.CharField(_("its hash"), max_length=64)
    at = models.DateTimeField(_("at"))
    made_by = models.CharField(_("made by"), max_length=150, blank=True, help_text=_("Empty: the retention setting."))

    class Meta:
        verbose_name = _("audit anchor")
        verbose_name_plural = _("audit anchors")
        ordering = ["-at", "-id"]
        constraints = [models.UniqueConstraint(fields=["team", "sequence"], nulls_distinct=False, name="one_anchor_per_line")]

    def __str__(self) -> str:
        return f"{self.team or PLATFORM} #{self.sequence}"


class AuditFormat(models.TextChoices):
    JSON = "json", "JSON"
    CSV = "csv", "CSV"


class AuditForwarding(models.Model):
    """Where a chain's new lines are pushed to, and how far that has come."""

    team = models.OneToOneField(
        Team, models.PROTECT, null=True, blank=True, related_name="+", help_text=_("Empty: the platform's own chain.")
    )
    format = models.CharField(_("format"), max_length=4, choices=AuditFormat.choices, default=AuditFormat.JSON)
    webhook_url = models.CharField(_("address"), max_length=500, blank=True, help_text=_("Empty: nothing is pushed."))
    auth_token = EncryptedTextField(blank=True, editable=False)
    security_only = models.BooleanField(_("security events only"), default=False)
    # The last line that arrived, or that was there when pushing began.
    sent_sequence = models.PositiveBigIntegerField(_("pushed up to line"), default=0)
    sent_at = models.DateTimeField(_("last pushed at"), null=True, blank=True)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    last_error = models.CharField(_("last error"), max_length=300, blank=True)
    try_after = models.DateTimeField(_("tried again after"), null=True, blank=True)
    claimed_until = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("forwarding of an audit trail")
        verbose_name_plural = _("forwardings of audit trails")
        constraints = [models.UniqueConstraint(fields=["team"], nulls_distinct=False, name="one_forwarding_per_chain")]

    def __str__(self) -> str:
        return f"{self.team or PLATFORM} → {self.origin}"

    @property
    def origin(self) -> str:
        """Scheme and host: what of the address is told. The path of some hooks is their secret."""
        parts = urlsplit(self.webhook_url)
        return f"{parts.scheme}://{parts.netloc}" if self.webhook_url else ""


class AuditHead(models.Model):
    """The end of a chain of audit lines; its row lock puts writers in a row. Locked after everything but the ledger's."""

    team = models.OneToOneField(Team, models.PROTECT, null=True, related_name="+")
    sequence = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team"], nulls_distinct=False, name="one_audit_head_per_chain")]

    def __str__(self) -> str:
        return f"{self.team or 'platform'} #{self.sequence}"
