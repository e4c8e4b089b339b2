"""What can be trained: the trainers with their versions, and the teams' configs."""

from typing import Any

from django import forms
from django.contrib import admin
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.admin.base import AuditedAdmin, ReadOnlyAdmin
from billing.models import PriceLine
from jobs.admin.rows import ReadOnlyInline
from jobs.models import Trainer, TrainerVersion, TrainingConfig


class TrainerVersionInline(ReadOnlyInline):
    model = TrainerVersion
    fields = ("version", "published_at", "fetched_at", "unpacks_archives")


class TrainerForm(forms.ModelForm):
    def clean(self) -> dict[str, Any]:
        """Two GPUs at the price of one would bill half of what is paid."""
        cleaned = super().clean() or self.cleaned_data
        line = PriceLine.objects.in_force(hardware=cleaned.get("hardware", ""), on=timezone.now()).first()
        if line and line.gpu_count != cleaned.get("gpu_count"):
            said = {"hardware": line.hardware, "count": line.gpu_count}
            self.add_error("gpu_count", _("In the price book, %(hardware)s has %(count)s GPUs.") % said)
        return cleaned


@admin.register(Trainer)
class TrainerAdmin(AuditedAdmin):
    """The catalogue. A trainer that is offered no more stays, since jobs name it."""

    audited_as = "trainer"
    form = TrainerForm
    list_display = ("profile", "label", "model", "hardware", "gpu_count", "is_default", "is_offered")
    list_filter = ("is_offered", "hardware_type", "gpu_count")
    search_fields = ("profile", "label", "model", "hardware")
    inlines = (TrainerVersionInline,)


@admin.register(TrainerVersion)
class TrainerVersionAdmin(AuditedAdmin):
    """Versions come from the provider; what a run has shown of one is noted here."""

    audited_as = "trainer_version"
    list_display = ("version", "trainer", "provider", "unpacks_archives", "published_at", "fetched_at")
    list_filter = ("unpacks_archives", "provider", "trainer")
    list_select_related = ("trainer",)
    search_fields = ("version", "trainer__model", "trainer__profile")
    date_hierarchy = "fetched_at"
    fields = ("trainer", "provider", "version", "unpacks_archives", "published_at", "fetched_at", "input_schema")
    readonly_fields = ("trainer", "provider", "version", "published_at", "fetched_at", "input_schema")

    def has_add_permission(self, request):
        return False


@admin.register(TrainingConfig)
class TrainingConfigAdmin(ReadOnlyAdmin):
    list_display = ("name", "team", "is_preset", "dataset", "created_by", "modified_at")
    list_filter = ("is_preset", "team")
    list_select_related = ("team", "dataset", "created_by")
    search_fields = ("name", "description", "team__slug")
    date_hierarchy = "modified_at"
    # A dataloader may hold keys of its own.
    fields = ("team", "name", "description", "config", "tags", "is_preset", "bounds", "dataset", "created_by", "created_at", "modified_at")
