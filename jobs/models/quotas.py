"""Job quotas: how many jobs, and how many bytes, for whom, and what happens at the limit."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Team, User
from accounts.roles import Role


class QuotaKind(models.TextChoices):
    CONCURRENT_JOBS = "concurrent_jobs", _("jobs at the same time")
    JOBS_PER_HOUR = "jobs_per_hour", _("jobs in an hour")
    JOBS_PER_DAY = "jobs_per_day", _("jobs in 24 hours")
    JOBS_PER_MONTH = "jobs_per_month", _("jobs in a calendar month")
    QUEUED_JOBS = "queued_jobs", _("jobs that wait")
    COST_DAILY = "cost_daily", _("money in a calendar day")
    COST_MONTHLY = "cost_monthly", _("money in a calendar month")
    STORAGE_BYTES = "storage_bytes", _("storage")
    # SimpleTuner's, for training on the server's own GPUs, which there is not here: kept and never reached.
    LOCAL_GPUS = "local_gpus", _("GPUs of this server")


# Micro-dollars, settled and held.
MONEY = (QuotaKind.COST_DAILY, QuotaKind.COST_MONTHLY)


class QuotaScope(models.TextChoices):
    """Whom a quota is for. The first three count a person's jobs in a team, and of these the nearest decides."""

    PERSON = "person", _("one person")
    ROLE = "role", _("each person of a role")
    EACH = "each", _("each person")
    TEAM = "team", _("the team together")
    PLATFORM = "platform", _("all teams together")


class QuotaAction(models.TextChoices):
    BLOCK = "block", _("block")
    WARN = "warn", _("warn")
    REQUIRE_APPROVAL = "require_approval", _("require approval")
    NOTIFY = "notify", _("tell the owners")


class JobQuotaQuerySet(models.QuerySet["JobQuota"]):
    def applying_to(self, *, team: Team, user: User, role: str) -> "JobQuotaQuerySet":
        """Those that may have a say in what this person does in this team: of several bases only the nearest has."""
        of_the_role = Q(scope=QuotaScope.ROLE, role=role)
        own = Q(scope=QuotaScope.PERSON, user=user) | of_the_role | Q(scope__in=[QuotaScope.EACH, QuotaScope.TEAM])
        shared = of_the_role | Q(scope__in=[QuotaScope.EACH, QuotaScope.PLATFORM])
        return self.filter((Q(team=team) & own) | (Q(team=None) & shared))

    def locked(self) -> "JobQuotaQuerySet":
        """Locked in key order, which is the order for everybody."""
        return self.order_by("pk").select_for_update(of=("self",), no_key=True)


class JobQuota(models.Model):
    """A count that a person, a team or the platform may not pass.

    A quota of money has a row here only where it is for each of several persons: else it is a spend limit.
    Without a team it is the platform's: for each person or role in every team, or for all teams together.
    """

    scope = models.CharField(_("applies to"), max_length=10, choices=QuotaScope.choices)
    team = models.ForeignKey(
        Team, models.CASCADE, null=True, blank=True, related_name="job_quotas", help_text=_("Empty: the platform's, in every team.")
    )
    user = models.ForeignKey(User, models.CASCADE, null=True, blank=True, related_name="+")
    role = models.CharField(_("role"), max_length=10, choices=Role.choices, blank=True)
    kind = models.CharField(_("kind"), max_length=20, choices=QuotaKind.choices)
    limit_value = models.PositiveBigIntegerField(_("limit"), help_text=_("Jobs, bytes, or of money micro-dollars."))
    action = models.CharField(_("when it is reached"), max_length=20, choices=QuotaAction.choices, default=QuotaAction.BLOCK)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    objects = JobQuotaQuerySet.as_manager()

    class Meta:
        verbose_name = _("job quota")
        verbose_name_plural = _("job quotas")
        ordering = ["kind", "pk"]
        constraints = [
            models.CheckConstraint(
                condition=(
                    Q(scope=QuotaScope.PERSON, team__isnull=False, user__isnull=False, role="")
                    | (Q(scope=QuotaScope.ROLE, user=None) & ~Q(role=""))
                    | Q(scope=QuotaScope.EACH, user=None, role="")
                    | Q(scope=QuotaScope.TEAM, team__isnull=False, user=None, role="")
                    | Q(scope=QuotaScope.PLATFORM, team=None, user=None, role="")
                ),
                name="job_quota_names_what_it_applies_to",
                violation_error_message=_("Name the team, person or role that it applies to, and nothing else."),
            ),
            models.CheckConstraint(
                condition=Q(limit_value__gte=1), name="job_quota_allows_something", violation_error_message=_("A quota is at least 1.")
            ),
            models.CheckConstraint(
                condition=~Q(kind=QuotaKind.STORAGE_BYTES, action=QuotaAction.REQUIRE_APPROVAL),
                name="job_quota_of_storage_needs_no_approval",
                violation_error_message=_("An upload cannot wait for approval: a quota of storage blocks, warns or tells the owners."),
            ),
            models.CheckConstraint(
                condition=~Q(kind__in=MONEY) | Q(scope__in=[QuotaScope.ROLE, QuotaScope.EACH]),
                name="job_quota_of_money_is_for_each_person",
                violation_error_message=_("What one person, the team or the platform may spend is a spend limit."),
            ),
            models.UniqueConstraint(
                fields=["team", "scope", "user", "role", "kind"], nulls_distinct=False, name="one_job_quota_per_scope_and_kind"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} ≤ {self.limit_value}"
