"""What the provider says about itself."""

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _


class StatusWord(models.TextChoices):
    OPERATIONAL = "operational", _("operational")
    MAINTENANCE = "maintenance", _("maintenance")
    DEGRADED = "degraded", _("degraded")
    UNKNOWN = "unknown", _("unknown")


# In the order of a reader's interest; the names are those of the status page.
LISTS = ("ongoing_incidents", "in_progress_maintenances", "scheduled_maintenances")


def no_lists() -> dict[str, list[dict[str, Any]]]:
    return {name: [] for name in LISTS}


class ProviderStatus(models.Model):
    """What the provider's status page said when it was last read: one row for each address that was ever set."""

    source = models.CharField(_("status page"), max_length=500, unique=True)
    word = models.CharField(_("state"), max_length=12, choices=StatusWord.choices, default=StatusWord.UNKNOWN)
    page_url = models.CharField(_("for people"), max_length=500, blank=True)
    lists = models.JSONField(_("what is going on"), default=no_lists)
    error = models.CharField(_("why it is unknown"), max_length=300, blank=True)
    # Whoever moves it asks, so that it is one at a time.
    asked_at = models.DateTimeField(_("asked at"), null=True, blank=True)
    read_at = models.DateTimeField(_("read at"), null=True, blank=True)

    class Meta:
        verbose_name = _("provider status")
        verbose_name_plural = _("provider status")

    def __str__(self) -> str:
        return f"{self.source}: {self.word}"

    @property
    def is_trouble(self) -> bool:
        """Whether people should be told of it by themselves."""
        return self.word in (StatusWord.DEGRADED, StatusWord.MAINTENANCE)

    @property
    def headline(self) -> str:
        """What the page calls the incident or the maintenance that is going on; "" where it gives it no name."""
        going_on = [*self.lists["ongoing_incidents"], *self.lists["in_progress_maintenances"]]
        return str(next((item["name"] for item in going_on if item.get("name")), ""))
