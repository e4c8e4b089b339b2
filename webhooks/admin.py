"""The inbox in the admin: to read, to apply again, and to let go what is held."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts import audit
from accounts.admin.base import ReadOnlyAdmin, staff_caller
from webhooks import releasing, replaying
from webhooks.models import Delivery, DeliveryQuerySet, OutsideAddress


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = ("webhook_id", "job", "team", "event", "state", "received_at", "applied_at", "repeats", "attempts", "body_bytes")
    list_filter = ("event", "state", "source", "is_outside", "job__team")
    list_select_related = ("job__team",)
    search_fields = ("webhook_id", "job__job_id", "job__prediction_id", "job__team__slug", "body_sha256")
    date_hierarchy = "received_at"
    fields = (
        *("webhook_id", "job", "source", "event", "state", "reason", "received_at", "applied_at", "moved_to", "attempts", "try_after"),
        *("repeats", "address", "is_outside", "proof", "body_bytes", "body_sha256", "logs_length", "logs_sha256", "headers", "content"),
    )
    actions = ("apply_again", "release")

    def get_queryset(self, request: HttpRequest) -> DeliveryQuerySet:
        return super().get_queryset(request).defer("held_log")

    @admin.display(description=_("team"), ordering="job__team")
    def team(self, delivery: Delivery) -> str:
        return str(delivery.job.team)

    @admin.action(description=_("Apply again"), permissions=["act"])
    def apply_again(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        """What says nothing new changes nothing; what is in quarantine stays there."""
        applied = 0
        for delivery in queryset.select_related("job__team"):
            if not replaying.replay(delivery):
                continue
            applied += 1
            self._audit(request, delivery, "webhook.replayed", f"Applied the delivery {delivery.webhook_id} again")
        self.message_user(request, ngettext("%d delivery was applied.", "%d deliveries were applied.", applied) % applied, messages.SUCCESS)

    @admin.action(description=_("Release what is held"), permissions=["act"])
    def release(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        """Let it go, to be applied like any; the team's list stays as it is."""
        released = 0
        for delivery in queryset.select_related("job__team"):
            if releasing.let_go(delivery):
                released += 1
                self._audit(request, delivery, "webhook.released", f"Released the delivery {delivery.webhook_id} for {delivery.job.job_id}")
        self.message_user(
            request, ngettext("%d delivery was released.", "%d deliveries were released.", released) % released, messages.SUCCESS
        )

    def _audit(self, request: HttpRequest, delivery: Delivery, event_type: str, action: str) -> None:
        audit.record(
            team=delivery.job.team,
            caller=staff_caller(request, delivery.job.team),
            event_type=event_type,
            action=action[:300],
            target_type="job",
            target_id=delivery.job.job_id,
        )


@admin.register(OutsideAddress)
class OutsideAddressAdmin(ReadOnlyAdmin):
    list_display = ("address", "team", "first_seen_at", "last_seen_at", "held", "passed", "told_at")
    list_filter = ("team",)
    list_select_related = ("team",)
    search_fields = ("address", "team__slug")
