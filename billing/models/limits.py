"""Spend limits and their calendar periods. Amounts are whole micro-dollars."""

from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import APIToken, Letter, Team, User


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
        """The limits that a job of this team, person and token counts against; a token's are those of its origin.

        A disabled limit decides nothing but is counted on, so that its figures are right once it is enabled.
        """
        person = Q(scope=LimitScope.PERSON, team=team, user=user) if user else Q(pk__in=[])
        bearer = Q(scope=LimitScope.TOKEN, team=team, token=token.origin_key) if token else Q(pk__in=[])
        return self.filter(Q(scope=LimitScope.PLATFORM) | Q(scope=LimitScope.TEAM, team=team) | person | bearer)

    def enabled(self) -> "SpendLimitQuerySet":
        return self.filter(is_enabled=True)

    def put(self, *, amount: int, action: str, is_enabled: bool, **which: Any) -> None:
        """Make the limit that `which` names so, whether it is there or not; the caller sees to it that nobody else does at once.

        Not update_or_create, whose lock keeps others from pointing to the row: whoever opens a period of the limit meanwhile would
        wait for it as they commit, with the ends of ledger and audit trail locked, on which we wait in our turn.
        """
        chosen = {"amount": amount, "action": LimitAction(action), "is_enabled": is_enabled}
        limit, is_new = self.get_or_create(**which, defaults=chosen)
        if not is_new:
            for name, value in chosen.items():
                setattr(limit, name, value)
            limit.save(update_fields=[*chosen, "updated_at"])


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

    `ceiling` and `is_blocking` are copied from the limit and `topped_up` is the sum of the top-ups that count, so that
    a conditional UPDATE looks at the row it locks; ceiling and top-ups together are the room. `overrun` is what a
    flagged charge, a lowered limit or a top-up that ran out put above the room of a blocking one: the two constraints
    together leave it no other value than that, so it can never make room for a hold.
    """

    limit = models.ForeignKey(SpendLimit, models.CASCADE, related_name="periods")
    starts_at = models.DateTimeField(_("starts at"))
    ends_at = models.DateTimeField(_("ends at"))
    ceiling = models.BigIntegerField(_("ceiling"))
    is_blocking = models.BooleanField(_("blocks"))
    topped_up = models.BigIntegerField(_("topped up"), default=0)
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
            models.CheckConstraint(
                condition=Q(settled__gte=0, held__gte=0, overrun__gte=0, topped_up__gte=0), name="limit_period_is_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(is_blocking=False) | Q(ceiling__gte=F("settled") + F("held") - F("overrun") - F("topped_up")),
                name="limit_period_under_ceiling",
            ),
            models.CheckConstraint(
                condition=Q(overrun=0) | Q(is_blocking=True, overrun__lte=F("settled") + F("held") - F("ceiling") - F("topped_up")),
                name="limit_period_overrun_makes_no_room",
            ),
        ]
        indexes = [models.Index(fields=["ends_at"], name="limit_periods_by_end")]

    def __str__(self) -> str:
        return f"{self.limit} from {self.starts_at:%Y-%m-%d}"

    @property
    def room(self) -> int:
        """What may be settled and held together: the limit, and what it was topped up by."""
        return self.ceiling + self.topped_up

    @property
    def total(self) -> int:
        return self.settled + self.held

    @property
    def left(self) -> int:
        return max(0, self.room - self.total)

    @property
    def excess(self) -> int:
        """What `overrun` must be for the other figures."""
        return max(0, self.total - self.room) if self.is_blocking else 0

    def follow(self, limit: SpendLimit, *, run_out: int = 0) -> None:
        """Take over the limit's amount and action as they are now, less what of the top-ups has run out. The caller has locked this row."""
        if not run_out and (self.ceiling, self.is_blocking) == (limit.amount, limit.is_blocking):
            return
        self.ceiling, self.is_blocking = limit.amount, limit.is_blocking
        self.topped_up -= run_out
        self.overrun = self.excess
        self.save(update_fields=["ceiling", "is_blocking", "topped_up", "overrun"])

    def top_up(self, amount: int) -> None:
        """Make room for so much more. The caller has locked this row, and it follows its limit."""
        self.topped_up += amount
        self.overrun = self.excess
        self.save(update_fields=["topped_up", "overrun"])


class TopUpQuerySet(models.QuerySet["TopUp"]):
    def counted(self) -> "TopUpQuerySet":
        """Those that are in their period's `topped_up`."""
        return self.filter(taken_out_at=None)

    def in_force(self, moment: datetime) -> "TopUpQuerySet":
        """Those that give room at this moment, whether or not somebody has taken the others out yet."""
        return self.counted().filter(Q(expires_at=None) | Q(expires_at__gt=moment))


class TopUp(models.Model):
    """A one-off addition to one period of a limit, with a reason. It lasts until it expires, at the latest with its period."""

    period = models.ForeignKey(LimitPeriod, models.PROTECT, related_name="top_ups")
    amount = models.PositiveBigIntegerField(_("amount"))
    reason = models.CharField(_("reason"), max_length=500)
    made_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    # When it left its period's `topped_up`: the first time that somebody locked the period after the expiry.
    taken_out_at = models.DateTimeField(_("taken out at"), null=True, blank=True)
    # Ties all sendings of one form or call to one top-up.
    key = models.CharField(max_length=100, blank=True, editable=False)

    objects = TopUpQuerySet.as_manager()

    class Meta:
        verbose_name = _("top-up")
        verbose_name_plural = _("top-ups")
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["period", "key"], condition=~Q(key=""), name="one_top_up_per_period_and_key"),
            models.CheckConstraint(condition=Q(amount__gt=0), name="top_up_adds_something"),
            models.CheckConstraint(condition=~Q(reason=""), name="top_up_has_a_reason"),
            models.CheckConstraint(
                condition=Q(taken_out_at=None) | Q(expires_at__isnull=False, taken_out_at__gte=F("expires_at")),
                name="top_up_is_taken_out_once_expired",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount / 1_000_000:.2f} USD: {self.reason}"

    @property
    def ends_at(self) -> datetime:
        """When it ends: with its period, unless it expires sooner."""
        return self.expires_at or self.period.ends_at

    def is_in_force(self, moment: datetime) -> bool:
        """Whether it gives room at this moment."""
        return self.taken_out_at is None and moment < self.ends_at


class SpendAlert(models.Model):
    """A threshold of a period that was reached; its unique key is why it is told once.

    `total` and `room` are the money and the limit as they were then, so that it stays true whatever changes later. It is
    told by the mails that it names: to `recipients` people at `told_at`; each mail keeps when it was sent.
    """

    period = models.ForeignKey(LimitPeriod, models.CASCADE, related_name="alerts")
    threshold_percent = models.PositiveSmallIntegerField(_("threshold (%)"))
    total = models.BigIntegerField(_("used and held then"), default=0)
    room = models.BigIntegerField(_("limit then"), default=0)
    reached_at = models.DateTimeField(_("reached at"), default=timezone.now)
    told_at = models.DateTimeField(_("told at"), null=True, blank=True)
    recipients = models.PositiveIntegerField(_("told to"), default=0, help_text=_("So many people."))
    letters = models.ManyToManyField(Letter, related_name="+", blank=True, verbose_name=_("mails"))

    class Meta:
        verbose_name = _("spend alert")
        verbose_name_plural = _("spend alerts")
        constraints = [models.UniqueConstraint(fields=["period", "threshold_percent"], name="one_alert_per_period_and_threshold")]
        indexes = [models.Index(fields=["reached_at"], condition=Q(told_at=None), name="spend_alert_untold")]

    def __str__(self) -> str:
        return f"{self.period}: {self.threshold_percent} %"
