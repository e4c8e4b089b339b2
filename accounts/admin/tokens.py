"""API tokens."""

from django.contrib import admin, messages
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts import tokens
from accounts.admin.base import ConfirmedAdmin, staff_caller
from accounts.models import APIToken


@admin.register(APIToken)
class APITokenAdmin(ConfirmedAdmin):
    list_display = ("name", "key_prefix", "team", "made_by", "role", "expires_at", "revoked_at", "last_used_at")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter), "role", "team")
    list_select_related = ("team", "made_by")
    search_fields = ("name", "key_id", "team__slug", "made_by__username", "made_by__email")
    date_hierarchy = "created_at"
    readonly_fields = ("key_prefix", "created_at")
    actions = ("revoke",)

    @admin.action(description=_("Revoke the chosen tokens"), permissions=["act"])
    def revoke(self, request, queryset):
        count = sum(
            tokens.revoke(token, by=request.user, caller=staff_caller(request, token.team)) for token in queryset.select_related("team")
        )
        self.message_user(request, ngettext("%d token was revoked.", "%d tokens were revoked.", count) % count, messages.SUCCESS)
