"""The price book. Rates are US dollars a second."""

from datetime import datetime
from decimal import Decimal

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


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
        verbose_name_plural = _("price lines")
        ordering = ["hardware", "-effective_from"]
        constraints = [
            models.UniqueConstraint(fields=["hardware", "effective_from"], name="one_price_per_hardware_and_time"),
            models.CheckConstraint(condition=Q(usd_per_second__gte=0), name="price_is_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.hardware}: {self.usd_per_second.normalize():f} USD/s"

    @property
    def usd_per_hour(self) -> Decimal:
        return self.usd_per_second * 3600
