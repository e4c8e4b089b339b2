"""Prices, spend limits, holds and the ledger. Knows teams, not jobs. Amounts are whole micro-dollars."""

from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import APIToken, Team, User


class BilledTime(models.TextChoices):
    """Replicate bills public models for active time and private ones for all instance time (docs, topics/billing)."""

    ACTIVE = "active", _("time that the model runs")
    INSTANCE = "instance", _("all time that the instance is up")


class PriceLineQuerySet(models.QuerySet["PriceLine"]):
    def in_force(self, *, hardware: str, on: datetime) -> "PriceLineQuerySet":
        return self.filter(hardware=hardware, effective_from__lte=on).order_by("-effective_from")


class PriceLine(models.Model):
    """The price of a hardware from a date on. A job is pinned to its line at submit."""

    hardware = models.CharField(_("hardware"), max_length=50, help_text=_("Replicate's SKU, for example gpu-l40s-2x."))
    name = models.CharField(_("name"), max_length=100)
    gpu_count = models.PositiveSmallIntegerField(_("GPUs"), default=1)
    usd_per_second = models.DecimalField(_("USD per second"), max_digits=14, decimal_places=9)
    billed_time = models.CharField(_("billed for"), max_length=10, choices=BilledTime.choices, default=BilledTime.ACTIVE)
    effective_from = models.DateTimeField(_("in force from"))
    source = models.CharField(_("source"), max_length=200, blank=True, help_text=_("Where the figure comes from."))

    objects = PriceLineQuerySet.as_manager()

    class Meta:
        verbose_name = _("price line")
        verbose_name_plural = _("price book")
        ordering = ["hardware", "-effective_from"]
        constraints = [
            models.UniqueConstraint(fields=["hardware", "effective_from"], name="one_price_per_hardware_and_time"),
            models.CheckConstraint(condition=Q(usd_per_second__gte=0), name="price_is_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.hardware}: {self.usd_per_second.normalize():f} USD/s"


class LimitScope(models.TextChoices):
    PLATFORM = "platform", _("Platform")
    TEAM = "team", _("Team")
    PERSON = "person", _("Person")
    TOKEN = "token", _("Token")


class LimitPeriodKind(models.TextChoices):
    DAILY = "daily", _("daily")
    WEEKLY = "weekly", _("weekly")
    MONTHLY = "monthly", _("monthly")


class LimitAction(models.TextChoices):
    WARN = "warn", _("warn")
    REQUIRE_APPROVAL = "require_approval", _("require approval")
    BLOCK = "block", _("block")


class SpendLimitQuerySet(models.QuerySet["SpendLimit"]):
    def applying_to(self, *, team: Team, user: User | None, token: APIToken | None) -> "SpendLimitQuerySet":
        """The limits that a job of this team, person and token counts against.

        A disabled limit decides nothing but is counted on, so that its figures are right once it is enabled.
        """
        person = Q(scope=LimitScope.PERSON, team=team, user=user) if user else Q(pk__in=[])
        bearer = Q(scope=LimitScope.TOKEN, team=team, token=token) if token else Q(pk__in=[])
        return self.filter(Q(scope=LimitScope.PLATFORM) | Q(scope=LimitScope.TEAM, team=team) | person | bearer)

    def enabled(self) -> "SpendLimitQuerySet":
        return self.filter(is_enabled=True)


class SpendLimit(models.Model):
    """An amount for each calendar period, and what happens when a job would pass it."""

    scope = models.CharField(_("applies to"), max_length=10, choices=LimitScope.choices)
    team = models.ForeignKey(Team, models.CASCADE, null=True, blank=True, related_name="spend_limits")
    user = models.ForeignKey(User, models.CASCADE, null=True, blank=True, related_name="spend_limits")
    token = models.ForeignKey(APIToken, models.CASCADE, null=True, blank=True, related_name="spend_limits")
    # The documented cost-limit settings of SimpleTuner's API are the team's limit named "documented".
    name = models.CharField(_("name"), max_length=50, default="limit")
    amount = models.PositiveBigIntegerField(_("amount"), help_text=_("Micro-dollars. 0 blocks everything."))
    period = models.CharField(_("period"), max_length=10, choices=LimitPeriodKind.choices, default=LimitPeriodKind.MONTHLY)
    action = models.CharField(_("when it is reached"), max_length=20, choices=LimitAction.choices, default=LimitAction.BLOCK)
    is_enabled = models.BooleanField(_("enabled"), default=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    objects = SpendLimitQuerySet.as_manager()

    class Meta:
        verbose_name = _("spend limit")
        verbose_name_plural = _("spend limits")
        constraints = [
            models.CheckConstraint(
                condition=(
                    Q(scope=LimitScope.PLATFORM, team=None, user=None, token=None)
                    | Q(scope=LimitScope.TEAM, team__isnull=False, user=None, token=None)
                    | Q(scope=LimitScope.PERSON, team__isnull=False, user__isnull=False, token=None)
                    | Q(scope=LimitScope.TOKEN, team__isnull=False, user=None, token__isnull=False)
                ),
                name="spend_limit_names_what_it_applies_to",
                violation_error_message=_("Name the team, and the person or token, that it applies to, and nothing else."),
            ),
            models.UniqueConstraint(
                fields=["scope", "team", "user", "token", "name", "period"],
                nulls_distinct=False,
                name="one_spend_limit_per_name_and_period",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_scope_display()} {self.get_period_display()}: {self.amount / 1_000_000:.2f} USD"

    @property
    def is_blocking(self) -> bool:
        """Whether it refuses: an amount of 0 does so whatever the action."""
        return self.is_enabled and (self.action == LimitAction.BLOCK or self.amount == 0)


class LimitPeriodQuerySet(models.QuerySet["LimitPeriod"]):
    def covering(self, moment: datetime) -> "LimitPeriodQuerySet":
        return self.filter(starts_at__lte=moment, ends_at__gt=moment)

    def locked(self) -> "LimitPeriodQuerySet":
        """Locked in key order, which is the order for everybody; rows that point here may still be added."""
        return self.order_by("pk").select_for_update(of=("self",), no_key=True)


class LimitPeriod(models.Model):
    """What was settled and is held in one calendar period of one limit.

    `ceiling` and `is_blocking` are copied from the limit, so that a conditional UPDATE looks at the row it
    locks. `overrun` is what a flagged charge or a lowered limit put above the ceiling of a blocking one: the
    two constraints together leave it no other value than that, so it can never make room for a hold.
    """

    limit = models.ForeignKey(SpendLimit, models.CASCADE, related_name="periods")
    starts_at = models.DateTimeField(_("starts at"))
    ends_at = models.DateTimeField(_("ends at"))
    ceiling = models.BigIntegerField(_("ceiling"))
    is_blocking = models.BooleanField(_("blocks"))
    settled = models.BigIntegerField(_("settled"), default=0)
    held = models.BigIntegerField(_("held"), default=0)
    overrun = models.BigIntegerField(_("overrun"), default=0)

    objects = LimitPeriodQuerySet.as_manager()

    class Meta:
        verbose_name = _("limit period")
        verbose_name_plural = _("limit periods")
        constraints = [
            models.UniqueConstraint(fields=["limit", "starts_at", "ends_at"], name="one_limit_period_per_limit_and_time"),
            models.CheckConstraint(condition=Q(starts_at__lt=F("ends_at")), name="limit_period_ends_after_it_starts"),
            models.CheckConstraint(condition=Q(settled__gte=0, held__gte=0, overrun__gte=0), name="limit_period_is_not_negative"),
            models.CheckConstraint(
                condition=Q(is_blocking=False) | Q(ceiling__gte=F("settled") + F("held") - F("overrun")), name="limit_period_under_ceiling"
            ),
            models.CheckConstraint(
                condition=Q(overrun=0) | Q(is_blocking=True, overrun__lte=F("settled") + F("held") - F("ceiling")),
                name="limit_period_overrun_makes_no_room",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.limit} from {self.starts_at:%Y-%m-%d}"

    @property
    def left(self) -> int:
        return max(0, self.ceiling - self.settled - self.held)

    @property
    def excess(self) -> int:
        """What `overrun` must be for the other figures."""
        return max(0, self.settled + self.held - self.ceiling) if self.is_blocking else 0

    def follow(self, limit: SpendLimit) -> None:
        """Take over the limit's amount and action as they are now. The caller has locked this row."""
        if (self.ceiling, self.is_blocking) == (limit.amount, limit.is_blocking):
            return
        self.ceiling, self.is_blocking = limit.amount, limit.is_blocking
        self.overrun = self.excess
        self.save(update_fields=["ceiling", "is_blocking", "overrun"])


class TopUp(models.Model):
    """A one-off addition to one period of a limit, with a reason."""

    period = models.ForeignKey(LimitPeriod, models.PROTECT, related_name="top_ups")
    amount = models.PositiveBigIntegerField(_("amount"))
    reason = models.CharField(_("reason"), max_length=500)
    made_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)

    class Meta:
        verbose_name = _("top-up")
        verbose_name_plural = _("top-ups")

    def __str__(self) -> str:
        return f"{self.amount / 1_000_000:.2f} USD: {self.reason}"


class SpendAlert(models.Model):
    """A threshold of a period that was reached; its unique key is why it is told once."""

    period = models.ForeignKey(LimitPeriod, models.CASCADE, related_name="alerts")
    threshold_percent = models.PositiveSmallIntegerField(_("threshold (%)"))
    reached_at = models.DateTimeField(_("reached at"), default=timezone.now)

    class Meta:
        verbose_name = _("spend alert")
        verbose_name_plural = _("spend alerts")
        constraints = [models.UniqueConstraint(fields=["period", "threshold_percent"], name="one_alert_per_period_and_threshold")]

    def __str__(self) -> str:
        return f"{self.period}: {self.threshold_percent} %"


class HoldQuerySet(models.QuerySet["Hold"]):
    def open(self) -> "HoldQuerySet":
        return self.filter(settled_at=None)

    def counting_against(self, limit: SpendLimit) -> "HoldQuerySet":
        """Those of whom the limit speaks, at any time; rehearsals count against none."""
        of_scope = {
            LimitScope.PLATFORM: Q(),
            LimitScope.TEAM: Q(team=limit.team_id),
            LimitScope.PERSON: Q(team=limit.team_id, user=limit.user_id),
            LimitScope.TOKEN: Q(team=limit.team_id, token=limit.token_id),
        }
        return self.filter(of_scope[LimitScope(limit.scope)], is_rehearsal=False)


class Hold(models.Model):
    """The worst-case cost of one piece of work, set aside until the real one is known."""

    team = models.ForeignKey(Team, models.PROTECT, related_name="holds")
    # Whose limits it counts against, beside the team's and the platform's.
    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    token = models.ForeignKey(APIToken, models.SET_NULL, null=True, related_name="+")
    reference = models.CharField(
        _("reference"), max_length=64, unique=True, help_text=_("What it is held for, for example job:j-ab12cd34ef.")
    )
    what_for = models.CharField(_("what for"), max_length=200)
    amount = models.PositiveBigIntegerField(_("amount"))
    price_line = models.ForeignKey(PriceLine, models.PROTECT, related_name="+")
    is_rehearsal = models.BooleanField(_("rehearsal"), default=False, help_text=_("On the sandbox: counts against no limit."))
    periods = models.ManyToManyField(LimitPeriod, related_name="holds")
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    settled_at = models.DateTimeField(_("settled at"), null=True, blank=True)
    charge = models.PositiveBigIntegerField(_("charge"), null=True, blank=True)
    flag = models.CharField(_("flagged for review"), max_length=200, blank=True)

    objects = HoldQuerySet.as_manager()

    class Meta:
        verbose_name = _("hold")
        verbose_name_plural = _("holds")
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(settled_at=None, charge=None) | Q(settled_at__isnull=False, charge__isnull=False),
                name="hold_is_settled_with_a_charge",
            ),
            models.CheckConstraint(
                condition=Q(charge=None) | Q(charge__lte=F("amount")) | ~Q(flag=""),
                name="charge_above_hold_is_flagged",
            ),
        ]
        indexes = [
            models.Index(fields=["team", "created_at"], name="holds_of_a_team_by_time"),
            models.Index(fields=["created_at"], name="holds_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.what_for}: {self.amount / 1_000_000:.2f} USD"


class LineKind(models.TextChoices):
    HOLD = "hold", _("hold")
    CHARGE = "charge", _("charge")
    RELEASE = "release", _("release")
    ADJUST = "adjust", _("adjustment")
    TOP_UP = "top_up", _("top-up")


class LedgerLine(models.Model):
    """One money fact of a team. Never changed or deleted: the database itself refuses it.

    A settled hold has exactly three lines, also where an amount is 0: hold = charge + release. What a flagged
    charge takes beyond its hold is an adjustment. So held = holds - charges - releases, and what was
    charged = charges + adjustments, for every team and period. Only an adjustment may be negative.
    """

    team = models.ForeignKey(Team, models.PROTECT, related_name="ledger_lines")
    sequence = models.PositiveBigIntegerField()
    at = models.DateTimeField(_("at"))
    kind = models.CharField(_("kind"), max_length=10, choices=LineKind.choices)
    amount = models.BigIntegerField(_("amount"))
    hold = models.ForeignKey(Hold, models.PROTECT, null=True, related_name="lines")
    price_line = models.ForeignKey(PriceLine, models.PROTECT, null=True, related_name="+")
    reference = models.CharField(_("reference"), max_length=64, blank=True)
    is_rehearsal = models.BooleanField(_("rehearsal"), default=False)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    made_by_id = models.BigIntegerField(null=True)
    correlation_id = models.CharField(_("correlation id"), max_length=64, blank=True)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        verbose_name = _("ledger line")
        verbose_name_plural = _("ledger")
        ordering = ["-at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["team", "sequence"], name="ledger_chain_has_no_forks"),
            models.UniqueConstraint(
                fields=["hold", "kind"], condition=Q(kind__in=["hold", "charge", "release"]), name="a_hold_is_charged_and_released_once"
            ),
            models.CheckConstraint(condition=Q(amount__gte=0) | Q(kind="adjust"), name="only_an_adjustment_is_negative"),
        ]
        indexes = [models.Index(fields=["reference"], name="ledger_by_reference")]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount / 1_000_000:.6f} USD"

    def chained_fields(self) -> dict[str, Any]:
        """Every field that the hash covers, as plain JSON values."""
        return {
            "team": self.team_id,
            "sequence": self.sequence,
            "at": self.at.isoformat(),
            "kind": self.kind,
            "amount": self.amount,
            "hold": self.hold_id,
            "price_line": self.price_line_id,
            "reference": self.reference,
            "is_rehearsal": self.is_rehearsal,
            "reason": self.reason,
            "made_by_id": self.made_by_id,
            "correlation_id": self.correlation_id,
        }


class LedgerHead(models.Model):
    """The end of a team's ledger and its running totals; its row lock puts writers in a row and is taken last."""

    team = models.OneToOneField(Team, models.PROTECT, related_name="ledger_head")
    sequence = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64)
    held = models.BigIntegerField(_("held"), default=0, help_text=_("Sum of open holds, without rehearsals."))
    charged = models.BigIntegerField(_("charged"), default=0, help_text=_("Sum of charges and adjustments, without rehearsals."))

    def __str__(self) -> str:
        return f"{self.team} #{self.sequence}"
