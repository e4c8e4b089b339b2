"""The inbox in the admin: to read, and to apply what was not applied."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.admin import ReadOnlyAdmin
from webhooks import services
from webhooks.models import Delivery


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = ["webhook_id", "job", "state", "received_at", "applied_at", "repeats", "body_bytes"]
    list_filter = ["state", "received_at"]
    list_select_related = ["job"]
    search_fields = ["webhook_id", "job__job_id", "job__prediction_id"]
    date_hierarchy = "received_at"
    actions = ["apply_again"]

    @admin.action(description=_("Apply again"))
    def apply_again(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        for delivery in queryset.select_related("job__team"):
            services.replay(delivery)
        messages.success(request, _("Applied. A delivery that says nothing new changes nothing."))
