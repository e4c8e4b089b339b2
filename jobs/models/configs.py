"""A team's named SimpleTuner configurations, and presets."""

from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Team, User


class TrainingConfig(models.Model):
    """A named configuration. As a preset a lead publishes it with fields that are locked or bounded.

    `config` holds SimpleTuner's keys without the leading dashes. `dataloader` is a list of data backends,
    or empty when a dataset of ours is used.
    """

    team = models.ForeignKey(Team, models.CASCADE, related_name="configs")
    name = models.CharField(_("name"), max_length=128)
    description = models.CharField(_("description"), max_length=500, blank=True)
    config = models.JSONField(_("settings"), default=dict)
    dataloader = models.JSONField(_("dataloader"), default=list, blank=True)
    tags = models.JSONField(_("tags"), default=list, blank=True)
    is_preset = models.BooleanField(_("preset"), default=False)
    # {"max_train_steps": {"max": 3000}, "learning_rate": {"locked": true}}
    bounds = models.JSONField(_("bounds"), default=dict, blank=True)
    dataset = models.ForeignKey("jobs.Dataset", models.SET_NULL, null=True, blank=True, related_name="+")
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    modified_at = models.DateTimeField(_("modified at"), auto_now=True)

    class Meta:
        verbose_name = _("training config")
        verbose_name_plural = _("training configs")
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["team", "name"], name="one_config_per_team_and_name")]

    def __str__(self) -> str:
        return self.name

    def value(self, key: str) -> Any:
        return self.config.get(key)


class ActiveConfig(models.Model):
    """The config that a person's forms begin with in a team."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="active_configs")
    user = models.ForeignKey(User, models.CASCADE, related_name="+")
    config = models.ForeignKey(TrainingConfig, models.CASCADE, related_name="+")
    chosen_at = models.DateTimeField(_("chosen at"), auto_now=True)

    class Meta:
        verbose_name = _("active config")
        verbose_name_plural = _("active configs")
        constraints = [models.UniqueConstraint(fields=["team", "user"], name="one_active_config_per_person_and_team")]

    def __str__(self) -> str:
        return f"{self.user}: {self.config}"
