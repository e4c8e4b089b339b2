"""What decides whether and when a job may go: repeats, approvals, quotas, consent and the queue's settings."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Team, User
from accounts.roles import Role


class IdempotencyKey(models.Model):
    """A client's key for one submission, in one key space per team. A refused submission leaves none."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="idempotency_keys")
    key = models.CharField(max_length=256)
    body = models.JSONField(help_text=_("What was asked, to name the fields in which a repeat differs."))
    job = models.ForeignKey("jobs.Job", models.CASCADE, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "key"], name="one_submission_per_team_and_key")]

    def __str__(self) -> str:
        return self.key


class ApprovalCondition(models.TextChoices):
    COST_EXCEEDS = "cost_exceeds", _("worst case above an amount (USD)")
    HARDWARE_TYPE = "hardware_type", _("hardware matches a pattern")
    PROVIDER = "provider", _("provider is")
    USER_LEVEL = "user_level", _("submitted by less than a role")
    DAILY_JOBS_EXCEED = "daily_jobs_exceed", _("more jobs a day than")
    FIRST_JOB = "first_job", _("first job")
    CONFIG_PATTERN = "config_pattern", _("config matches a pattern")


class ApprovalRule(models.Model):
    """When a job must be approved, and by whom. The highest priority that matches decides."""

    team = models.ForeignKey(Team, models.CASCADE, null=True, blank=True, related_name="approval_rules", help_text=_("Empty: all teams."))
    name = models.CharField(_("name"), max_length=100)
    description = models.CharField(_("description"), max_length=500, blank=True)
    condition = models.CharField(_("condition"), max_length=20, choices=ApprovalCondition.choices)
    threshold = models.CharField(_("threshold"), max_length=200, blank=True)
    priority = models.IntegerField(_("priority"), default=0)
    is_active = models.BooleanField(_("active"), default=True)
    exempt_roles = models.JSONField(_("exempt roles"), default=list, blank=True)
    required_role = models.CharField(_("approved by at least"), max_length=10, choices=Role.choices, default=Role.LEAD)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("approval rule")
        verbose_name_plural = _("approval rules")
        ordering = ["-priority", "id"]

    def __str__(self) -> str:
        return self.name


class ApprovalState(models.TextChoices):
    PENDING = "pending", _("pending")
    APPROVED = "approved", _("approved")
    REJECTED = "rejected", _("rejected")
    EXPIRED = "expired", _("expired")
    CANCELLED = "cancelled", _("cancelled")


class ApprovalRequest(models.Model):
    """A blocked job that waits for somebody's word. Its money is held meanwhile."""

    job = models.OneToOneField("jobs.Job", models.CASCADE, related_name="approval")
    rule = models.ForeignKey(ApprovalRule, models.SET_NULL, null=True, blank=True, related_name="+")
    required_role = models.CharField(max_length=10, choices=Role.choices, default=Role.LEAD)
    state = models.CharField(_("state"), max_length=10, choices=ApprovalState.choices, default=ApprovalState.PENDING)
    reason = models.CharField(_("why it must be approved"), max_length=500)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("expires at"))
    reviewed_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    reviewed_at = models.DateTimeField(_("reviewed at"), null=True, blank=True)
    review_notes = models.CharField(_("notes"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("approval request")
        verbose_name_plural = _("approval requests")
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.job_id}: {self.state}"


class QuotaKind(models.TextChoices):
    CONCURRENT_JOBS = "concurrent_jobs", _("jobs at the same time")
    JOBS_PER_HOUR = "jobs_per_hour", _("jobs an hour")
    JOBS_PER_DAY = "jobs_per_day", _("jobs a day")
    JOBS_PER_MONTH = "jobs_per_month", _("jobs a month")
    QUEUED_JOBS = "queued_jobs", _("jobs waiting")
    STORAGE_BYTES = "storage_bytes", _("bytes kept")


class JobQuota(models.Model):
    """A count that a team, or each person in it when `user` is set, may not pass."""

    team = models.ForeignKey(Team, models.CASCADE, null=True, blank=True, related_name="job_quotas")
    user = models.ForeignKey(User, models.CASCADE, null=True, blank=True, related_name="+")
    kind = models.CharField(_("kind"), max_length=20, choices=QuotaKind.choices)
    limit_value = models.PositiveBigIntegerField(_("limit"))
    action = models.CharField(_("when it is reached"), max_length=20, default="block")

    class Meta:
        verbose_name = _("job quota")
        verbose_name_plural = _("job quotas")
        constraints = [models.UniqueConstraint(fields=["team", "user", "kind"], nulls_distinct=False, name="one_quota_per_owner_and_kind")]

    def __str__(self) -> str:
        return f"{self.kind} ≤ {self.limit_value}"


class QueueMode(models.TextChoices):
    RUNNING = "running", _("running")
    DRAINING = "draining", _("draining: what is admitted goes, nothing new is admitted")
    PAUSED = "paused", _("paused: nothing goes to the provider")


class QueueSettings(models.Model):
    """How many jobs go at the same time, and whether any go: one row for the platform, one for a team.

    An empty number means the platform's, and the platform's own have a default.
    """

    team = models.OneToOneField(Team, models.CASCADE, null=True, blank=True, related_name="queue_settings")
    mode = models.CharField(_("mode"), max_length=10, choices=QueueMode.choices, default=QueueMode.RUNNING)
    max_concurrent = models.PositiveSmallIntegerField(_("jobs of the platform"), null=True, blank=True)
    team_max_concurrent = models.PositiveSmallIntegerField(_("jobs of a team"), null=True, blank=True)
    user_max_concurrent = models.PositiveSmallIntegerField(_("jobs of a person"), null=True, blank=True)

    class Meta:
        verbose_name = _("queue settings")
        verbose_name_plural = _("queue settings")
        constraints = [models.UniqueConstraint(fields=["team"], nulls_distinct=False, name="one_queue_settings_row_per_team")]

    def __str__(self) -> str:
        return f"{self.team or 'platform'}: {self.mode}"


class Consent(models.Model):
    """That a person agreed to where the team's data goes, and to which words."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="consents")
    user = models.ForeignKey(User, models.PROTECT, related_name="+")
    given_at = models.DateTimeField(_("given at"), default=timezone.now)
    statement_sha256 = models.CharField(max_length=64)
    withdrawn_at = models.DateTimeField(_("withdrawn at"), null=True, blank=True)

    class Meta:
        verbose_name = _("consent")
        verbose_name_plural = _("consents")
        constraints = [
            models.UniqueConstraint(
                fields=["team", "statement_sha256"], condition=Q(withdrawn_at=None), name="one_consent_per_team_and_statement"
            )
        ]

    def __str__(self) -> str:
        return f"{self.user}, {self.given_at:%Y-%m-%d}"
