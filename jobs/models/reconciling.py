"""How asking the provider goes: one row for each account that is asked, and the runs that nobody should be paying for."""

from datetime import datetime

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Credential, Team
from jobs.models.job import Job


class AccountWatch(models.Model):
    """How the provider answers when one team's jobs are asked about with one credential; a failure lets both rest for a while."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="+")
    credential = models.ForeignKey(Credential, models.CASCADE, related_name="+")
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    error = models.CharField(_("error"), max_length=500, blank=True)
    failed_at = models.DateTimeField(_("failed at"), null=True)
    try_after = models.DateTimeField(_("rests until"), null=True)
    # When the list of the account's runs was last read to its end.
    listed_at = models.DateTimeField(_("listed at"), null=True)

    class Meta:
        verbose_name = _("account that is asked")
        verbose_name_plural = _("accounts that are asked")
        constraints = [models.UniqueConstraint(fields=["team", "credential"], name="one_watch_per_team_and_credential")]

    def __str__(self) -> str:
        return f"{self.team}, {self.credential}"

    def is_resting(self, *, now: datetime) -> bool:
        return self.try_after is not None and self.try_after > now


class StrayRun(models.Model):
    """A run that carries the mark of one of our jobs and is not the job's: it is cancelled, and what it cost is booked.

    The job ended without a run, or it has another one.
    """

    job = models.ForeignKey(Job, models.PROTECT, related_name="stray_runs")
    credential = models.ForeignKey(Credential, models.PROTECT, related_name="+")
    prediction_id = models.CharField(_("prediction"), max_length=64, unique=True)
    found_at = models.DateTimeField(_("found at"), default=timezone.now)
    cancel_sent_at = models.DateTimeField(_("cancel sent at"), null=True)
    provider_status = models.CharField(_("provider's word"), max_length=50, blank=True)
    try_after = models.DateTimeField(null=True, editable=False)
    settled_at = models.DateTimeField(_("settled at"), null=True)
    charge = models.PositiveBigIntegerField(_("charge"), null=True)

    class Meta:
        verbose_name = _("stray run")
        verbose_name_plural = _("stray runs")
        ordering = ["-found_at", "-id"]
        indexes = [models.Index(fields=["try_after"], condition=Q(settled_at=None), name="stray_run_to_follow")]

    def __str__(self) -> str:
        return self.prediction_id
