"""The inbox in the admin: to read, and to apply what was not applied."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts import audit
from accounts.admin import ReadOnlyAdmin, staff_caller
from webhooks import services
from webhooks.models import Delivery


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = ("webhook_id", "job", "team", "state", "received_at", "applied_at", "repeats", "attempts", "body_bytes")
    list_filter = ("state", "job__team")
    list_select_related = ("job__team",)
    search_fields = ("webhook_id", "job__job_id", "job__prediction_id", "job__team__slug", "body_sha256")
    date_hierarchy = "received_at"
    fields = (
        *("webhook_id", "job", "state", "reason", "received_at", "applied_at", "attempts", "repeats", "address"),
        *("body_bytes", "body_sha256", "logs_length", "logs_sha256", "headers", "content"),
    )
    actions = ("apply_again",)

    @admin.display(description=_("team"), ordering="job__team")
    def team(self, delivery: Delivery) -> str:
        return str(delivery.job.team)

    @admin.action(description=_("Apply again"), permissions=["act"])
    def apply_again(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        """What says nothing new changes nothing; what is in quarantine stays there."""
        applied = 0
        for delivery in queryset.select_related("job__team"):
            if not services.replay(delivery):
                continue
            applied += 1
            audit.record(
                team=delivery.job.team,
                caller=staff_caller(request, delivery.job.team),
                event_type="webhook.replayed",
                action=f"Applied the delivery {delivery.webhook_id} again",
                target_type="job",
                target_id=delivery.job.job_id,
            )
        self.message_user(request, ngettext("%d delivery was applied.", "%d deliveries were applied.", applied) % applied, messages.SUCCESS)
