"""Quotas of jobs and storage."""

from django.contrib import admin

from accounts.admin.base import AuditedAdmin
from accounts.callers import Staff, address_of
from jobs.models import JobQuota
from jobs.services import quota_changes


@admin.register(JobQuota)
class JobQuotaAdmin(AuditedAdmin):
    """Quotas of jobs and storage; those without a team are the platform's. Quotas of money are spend limits, in billing."""

    audited_as = "job_quota"
    fields = ("scope", "team", "user", "role", "kind", "limit_value", "action")
    list_display = ("kind", "limit_value", "action", "scope", "team", "user", "role", "updated_at")
    list_filter = ("scope", "kind", "action", "team")
    list_select_related = ("team", "user")
    search_fields = ("team__slug", "user__username", "user__email")
    autocomplete_fields = ("team", "user")
    date_hierarchy = "updated_at"

    def audited_team(self, obj):
        return obj.team

    def get_readonly_fields(self, request, obj=None):
        # Another kind, or for others, is another quota.
        return ("scope", "team", "user", "role", "kind") if obj else ()

    def has_delete_permission(self, request, obj=None):
        return self.has_act_permission(request)

    def delete_model(self, request, obj):
        quota_changes.remove_as_staff(obj, by=Staff(user=request.user, address=address_of(request)))

    def delete_queryset(self, request, queryset):
        for row in queryset:
            self.delete_model(request, row)
