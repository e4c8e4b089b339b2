"""The audit trail: its lines, where it was cut, and where it is pushed to."""

from django.contrib import admin, messages
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts import audit, exports, streaming, trail
from accounts.admin.base import ReadOnlyAdmin
from accounts.models import AuditAnchor, AuditForwarding, AuditLine, Team


@admin.register(AuditLine)
class AuditLineAdmin(ReadOnlyAdmin):
    list_display = ("at", "team", "event_type", "actor", "token_prefix", "action", "target_id")
    list_filter = ("event_type", "team")
    list_select_related = ("team",)
    search_fields = ("actor", "action", "target_id", "token_prefix", "correlation_id")
    date_hierarchy = "at"
    actions = ("verify", "export_csv")

    @admin.action(description=_("Verify the chains of the chosen lines"))
    def verify(self, request, queryset):
        chosen = queryset.order_by()
        teams: list[Team | None] = list(Team.objects.filter(pk__in=chosen.values("team")).order_by("slug"))
        if chosen.filter(team=None).exists():
            teams.append(None)
        for team in teams:
            found = audit.verify(team)
            name = trail.name_of(team)
            if found.valid:
                whole = ngettext("%(chain)s: %(count)d line, intact.", "%(chain)s: %(count)d lines, intact.", found.checked)
                self.message_user(request, whole % {"chain": name, "count": found.checked}, messages.SUCCESS)
            else:
                line, reason = found.broken[0]
                broken = _("%(chain)s is broken at line %(line)d: %(reason)s") % {"chain": name, "line": line, "reason": reason}
                self.message_user(request, broken, messages.ERROR)

    @admin.action(description=_("Download the chosen lines as CSV"))
    def export_csv(self, request, queryset):
        """What is shown, in its order. Whole chains that can be verified elsewhere come from the API and the portal."""
        records = (exports.line_record(line.as_link()) for line in queryset.iterator(chunk_size=2000))
        pieces = exports.write(records, "csv")
        return streaming.download(request, pieces, name="audit-lines.csv", content_type=exports.CONTENT_TYPES["csv"])


@admin.register(AuditAnchor)
class AuditAnchorAdmin(ReadOnlyAdmin):
    """Where old lines were removed, and up to which."""

    list_display = ("at", "team", "sequence", "hash", "made_by")
    list_filter = ("team",)
    list_select_related = ("team",)
    search_fields = ("team__name", "team__slug", "hash", "made_by")
    date_hierarchy = "at"


@admin.register(AuditForwarding)
class AuditForwardingAdmin(ReadOnlyAdmin):
    """Where new lines are pushed to, and whether they arrive. The token is no field of this page."""

    list_display = ("team", "format", "host", "security_only", "sent_sequence", "sent_at", "failures", "last_error")
    list_filter = ("format", "security_only", "team")
    list_select_related = ("team",)
    search_fields = ("team__name", "team__slug", "last_error")
    fields = ("team", "format", "host", "security_only", "sent_sequence", "sent_at", "failures", "last_error", "try_after")

    @admin.display(description=_("address"))
    def host(self, forwarding):
        # The path of some hooks is their secret.
        return forwarding.origin
