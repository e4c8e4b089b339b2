"""Money that is set aside. Amounts are whole micro-dollars."""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import APIToken, Team, User
from billing.models.limits import LimitPeriod, LimitScope, SpendLimit
from billing.models.prices import PriceLine


class HoldQuerySet(models.QuerySet["Hold"]):
    def open(self) -> "HoldQuerySet":
        return self.filter(settled_at=None)

    def needing_a_look(self) -> "HoldQuerySet":
        """Those whose charge was flagged and that nobody has looked at yet."""
        return self.exclude(flag="").filter(settled_at__isnull=False, reviewed_at=None)

    def counting_against(self, limit: SpendLimit) -> "HoldQuerySet":
        """Those of whom the limit speaks, at any time; rehearsals count against none."""
        return self.filter(self.spoken_of_by(limit), is_rehearsal=False)

    @staticmethod
    def spoken_of_by(limit: SpendLimit) -> Q:
        """Whose holds count against a limit; a token's are those of all that descend from it, too."""
        of_scope = {
            LimitScope.PLATFORM: Q(),
            LimitScope.TEAM: Q(team=limit.team_id),
            LimitScope.PERSON: Q(team=limit.team_id, user=limit.user_id),
            LimitScope.TOKEN: Q(team=limit.team_id) & (Q(token=limit.token_id) | Q(token__origin=limit.token_id)),
        }
        return of_scope[LimitScope(limit.scope)]


class Hold(models.Model):
    """The worst-case cost of one piece of work, set aside until the real one is known."""

    team = models.ForeignKey(Team, models.PROTECT, related_name="holds")
    # Whose limits it counts against, beside the team's and the platform's.
    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    token = models.ForeignKey(APIToken, models.SET_NULL, null=True, related_name="+")
    reference = models.CharField(_("reference"), max_length=64, help_text=_("What it is held for, for example job:j-ab12cd34ef."))
    # A hold that took the place of another, at another price or in another period, has the same reference.
    replaces = models.OneToOneField("self", models.PROTECT, null=True, editable=False, related_name="replaced_by")
    what_for = models.CharField(_("what for"), max_length=200)
    amount = models.PositiveBigIntegerField(_("amount"))
    price_line = models.ForeignKey(PriceLine, models.PROTECT, related_name="+")
    is_rehearsal = models.BooleanField(_("rehearsal"), default=False, help_text=_("On the sandbox: counts against no limit."))
    periods = models.ManyToManyField(LimitPeriod, related_name="holds")
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    settled_at = models.DateTimeField(_("settled at"), null=True, blank=True)
    # What it cost, with all that was adjusted since.
    charge = models.PositiveBigIntegerField(_("charge"), null=True, blank=True)
    billed_seconds = models.DecimalField(_("billed seconds"), max_digits=14, decimal_places=6, null=True, blank=True)
    # By these an invoice of the provider finds it.
    provider_reference = models.CharField(
        _("provider's name for it"), max_length=64, blank=True, help_text=_("As it stands on the provider's invoice.")
    )
    provider_account = models.CharField(_("paid by"), max_length=200, blank=True, help_text=_("The account at the provider."))
    # Why somebody must look at the charge. It stays when somebody has.
    flag = models.CharField(_("flagged for review"), max_length=200, blank=True)
    reviewed_at = models.DateTimeField(_("looked at"), null=True, blank=True)
    reviewed_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("looked at by"))
    review = models.CharField(_("what came of it"), max_length=500, blank=True)

    objects = HoldQuerySet.as_manager()

    class Meta:
        verbose_name = _("hold")
        verbose_name_plural = _("holds")
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["reference"], condition=Q(replaces=None), name="one_first_hold_per_reference"),
            models.CheckConstraint(
                condition=Q(settled_at=None, charge=None) | Q(settled_at__isnull=False, charge__isnull=False),
                name="hold_is_settled_with_a_charge",
            ),
            models.CheckConstraint(
                condition=Q(charge=None) | Q(charge__lte=F("amount")) | ~Q(flag=""),
                name="charge_above_hold_is_flagged",
            ),
            models.UniqueConstraint(fields=["provider_reference"], condition=~Q(provider_reference=""), name="one_hold_per_run"),
            models.CheckConstraint(condition=Q(reviewed_at=None) | ~Q(flag=""), name="only_a_flagged_hold_is_reviewed"),
        ]
        indexes = [
            models.Index(fields=["team", "created_at"], name="holds_of_a_team_by_time"),
            models.Index(fields=["created_at"], name="holds_by_time"),
            models.Index(fields=["reference"], name="holds_by_reference"),
            models.Index(fields=["team"], condition=~Q(flag="") & Q(reviewed_at=None), name="holds_that_need_a_look"),
            models.Index(fields=["provider_account", "settled_at"], name="holds_of_an_account"),
        ]

    def __str__(self) -> str:
        return f"{self.what_for}: {self.amount / 1_000_000:.2f} USD"

    @property
    def needs_a_look(self) -> bool:
        return bool(self.flag) and self.settled_at is not None and self.reviewed_at is None
