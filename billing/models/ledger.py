"""The ledger: money facts that stay as they are. Amounts are whole micro-dollars."""

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts.chain import Link
from accounts.models import Team
from billing.models.holds import Hold
from billing.models.prices import PriceLine


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
        verbose_name_plural = _("ledger lines")
        ordering = ["-at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["team", "sequence"], name="ledger_chain_has_no_forks"),
            models.UniqueConstraint(
                fields=["hold", "kind"], condition=Q(kind__in=["hold", "charge", "release"]), name="a_hold_is_charged_and_released_once"
            ),
            models.CheckConstraint(condition=Q(amount__gte=0) | Q(kind="adjust"), name="only_an_adjustment_is_negative"),
        ]
        indexes = [
            models.Index(fields=["reference"], name="ledger_by_reference"),
            models.Index(fields=["team", "at"], name="ledger_of_a_team_by_time"),
        ]

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

    def as_link(self) -> Link:
        """The line as a walk along its chain looks at it; its number in the chain is its handle."""
        return Link(
            id=self.sequence, sequence=self.sequence, previous_hash=self.previous_hash, hash=self.hash, fields=self.chained_fields()
        )


class LedgerHead(models.Model):
    """The end of a team's ledger and its running totals; its row lock puts writers in a row and is taken last."""

    team = models.OneToOneField(Team, models.PROTECT, related_name="ledger_head")
    sequence = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64)
    held = models.BigIntegerField(_("held"), default=0, help_text=_("Sum of open holds, without rehearsals."))
    charged = models.BigIntegerField(_("charged"), default=0, help_text=_("Sum of charges and adjustments, without rehearsals."))

    def __str__(self) -> str:
        return f"{self.team} #{self.sequence}"
