"""What decides whether and when a job may go: repeats, approvals, consent and the queue's settings."""

from datetime import datetime
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Team, User
from accounts.roles import Right, Role, rights_of
from jobs.models.catalogue import Provider

APPROVING_ROLES = [role for role in Role if Right.APPROVE in rights_of(role)]


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
    COST_EXCEEDS = "cost_exceeds", _("it can cost more than (USD)")
    HARDWARE_TYPE = "hardware_type", _("its hardware is like")
    PROVIDER = "provider", _("its provider is")
    USER_LEVEL = "user_level", _("whoever submits it is less than")
    DAILY_JOBS_EXCEED = "daily_jobs_exceed", _("the person submits more jobs a day than")
    FIRST_JOB = "first_job", _("it is the person's first")
    CONFIG_PATTERN = "config_pattern", _("its config is named like")


class ApprovalRuleQuerySet(models.QuerySet["ApprovalRule"]):
    def active(self) -> "ApprovalRuleQuerySet":
        return self.filter(is_active=True)

    def speaking_to(self, team: Team) -> "ApprovalRuleQuerySet":
        """The team's rules and the platform's, in the order in which they decide."""
        return self.filter(Q(team=team) | Q(team=None)).order_by("-priority", "pk")


class ApprovalRule(models.Model):
    """When a job must be approved, and by whom. The highest priority that matches decides, and of equals the oldest.

    `threshold` is what the condition compares with, as `approval_rules.checked` writes it; empty for the first job.
    """

    team = models.ForeignKey(Team, models.CASCADE, null=True, blank=True, related_name="approval_rules", help_text=_("Empty: all teams."))
    name = models.CharField(_("name"), max_length=100)
    description = models.CharField(_("description"), max_length=500, blank=True)
    condition = models.CharField(_("a job must be approved if"), max_length=20, choices=ApprovalCondition.choices)
    threshold = models.CharField(_("threshold"), max_length=200, blank=True)
    priority = models.IntegerField(_("priority"), default=0, help_text=_("Of the rules that fit a job the one with the highest decides."))
    is_active = models.BooleanField(_("in force"), default=True)
    # Whom it is about: everything, unless one is named here.
    applies_to_provider = models.CharField(_("only jobs of the provider"), max_length=10, choices=Provider.choices, blank=True)
    applies_to_role = models.CharField(_("only jobs of"), max_length=10, choices=Role.choices, blank=True)
    exempt_roles = models.JSONField(_("exempt roles"), default=list, blank=True)
    required_role = models.CharField(
        _("approved by at least"), max_length=10, choices=[(role.value, role.label) for role in APPROVING_ROLES], default=Role.LEAD
    )
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, editable=False, related_name="+")
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)

    objects = ApprovalRuleQuerySet.as_manager()

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


class ApprovalRequestQuerySet(models.QuerySet["ApprovalRequest"]):
    def of(self, team: Team) -> "ApprovalRequestQuerySet":
        return self.filter(job__team=team)

    def pending(self) -> "ApprovalRequestQuerySet":
        return self.filter(state=ApprovalState.PENDING)

    def overdue(self, *, now: datetime) -> "ApprovalRequestQuerySet":
        return self.pending().filter(expires_at__lte=now)


class ApprovalRequest(models.Model):
    """A blocked job that waits for somebody's word. Its money is held meanwhile.

    It keeps the role and the reason that it was made with, whatever becomes of the rule; no rule means that a spend limit
    asked. It changes under the lock of its job only. `reviewed_at` is when it ended, however that came about;
    `reviewed_by` is who approved or rejected it.
    """

    job = models.OneToOneField("jobs.Job", models.CASCADE, related_name="approval")
    rule = models.ForeignKey(ApprovalRule, models.SET_NULL, null=True, blank=True, related_name="+")
    required_role = models.CharField(_("approved by at least"), max_length=10, choices=Role.choices, default=Role.LEAD)
    state = models.CharField(_("state"), max_length=10, choices=ApprovalState.choices, default=ApprovalState.PENDING)
    # In English, for the API; the grounds are what it is made of, for people who read another language.
    reason = models.CharField(_("why it must be approved"), max_length=500)
    grounds = models.JSONField(default=list, editable=False)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("expires at"))
    reviewed_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    reviewed_at = models.DateTimeField(_("reviewed at"), null=True, blank=True)
    review_notes = models.CharField(_("notes"), max_length=500, blank=True)

    objects = ApprovalRequestQuerySet.as_manager()

    class Meta:
        verbose_name = _("approval request")
        verbose_name_plural = _("approval requests")
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(state=ApprovalState.PENDING, reviewed_at=None) | ~Q(state=ApprovalState.PENDING) & Q(reviewed_at__isnull=False),
                name="approval_request_ends_at_a_time",
            )
        ]
        indexes = [models.Index(fields=["expires_at"], condition=Q(state=ApprovalState.PENDING), name="approval_request_pending")]

    def __str__(self) -> str:
        return f"{self.job_id}: {self.state}"

    @property
    def is_pending(self) -> bool:
        return self.state == ApprovalState.PENDING

    @property
    def is_against_it(self) -> bool:
        """Whether the job ended for want of an approval."""
        return self.state in (ApprovalState.REJECTED, ApprovalState.EXPIRED)


class QueueMode(models.TextChoices):
    RUNNING = "running", _("running")
    DRAINING = "draining", _("draining: what is admitted goes, nothing new is admitted")
    PAUSED = "paused", _("paused: nothing goes to the provider")


def _number(label: Any, most: int) -> models.PositiveSmallIntegerField:
    return models.PositiveSmallIntegerField(label, null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(most)])


class QueueSettings(models.Model):
    """How many jobs go at the same time, and whether any go: one row for the platform, one for a provider, one for a team.

    An empty number means the platform's, and the platform's own have a default. `own_…` is how far a team's owners have
    lowered it for themselves.
    """

    team = models.ForeignKey(Team, models.CASCADE, null=True, blank=True, related_name="queue_settings")
    provider = models.CharField(_("provider"), max_length=10, choices=Provider.choices, blank=True)
    mode = models.CharField(_("mode"), max_length=10, choices=QueueMode.choices, default=QueueMode.RUNNING)
    reason = models.CharField(_("reason"), max_length=300, blank=True, help_text=_("Shown to everybody whose jobs it concerns."))
    # Then a team's own people cannot take it back.
    is_staffs = models.BooleanField(default=False, editable=False)
    max_concurrent = _number(_("jobs of the platform"), 100)
    team_max_concurrent = _number(_("jobs of a team"), 50)
    user_max_concurrent = _number(_("jobs of a person"), 20)
    enable_fair_share = models.BooleanField(
        _("fair share"), default=True, help_text=_("The next place goes to the team that has the fewest jobs running.")
    )
    own_team_max = _number(_("jobs of a team, as its owners lowered it"), 50)
    own_user_max = _number(_("jobs of a person, as its owners lowered it"), 20)
    # SimpleTuner's numbers for GPUs of its own: kept for its clients, and nothing here runs on them.
    local_gpu_max_concurrent = _number(_("local GPUs"), 1000)
    local_job_max_concurrent = _number(_("local jobs"), 1000)
    # Jobs that were over by then are not in the queue's list any more.
    cleaned_until = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = _("queue settings")
        verbose_name_plural = _("queue settings")
        constraints = [
            models.UniqueConstraint(fields=["team", "provider"], nulls_distinct=False, name="one_queue_settings_row_per_team"),
            models.CheckConstraint(condition=Q(team=None) | Q(provider=""), name="queue_settings_of_a_team_or_a_provider"),
        ]

    def __str__(self) -> str:
        return f"{self.team or self.provider or 'platform'}: {self.mode}"


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
