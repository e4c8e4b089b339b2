"""Which jobs must be approved, and what was decided."""

from django import forms
from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from accounts.admin.base import AuditedAdmin, ReadOnlyAdmin
from accounts.errors import Refusal
from accounts.forms import in_words
from accounts.roles import Role
from jobs.admin.rows import BY_JOB, of_team
from jobs.models import ApprovalRequest, ApprovalRule
from jobs.services import rule_changes


class ApprovalRuleForm(forms.ModelForm):
    """A rule of the platform's, checked as a team's is."""

    exempt_roles = forms.MultipleChoiceField(
        label=_("exempt roles"), choices=Role.choices, required=False, widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = ApprovalRule
        fields = (
            *("name", "description", "condition", "threshold", "exempt_roles", "applies_to_role", "applies_to_provider"),
            *("required_role", "priority", "is_active"),
        )

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # the hook that Django documents for what the instance says
        if self.errors:
            return
        try:
            rule_changes.check(self.instance)
        except Refusal as refusal:
            self.add_error(refusal.field if refusal.field in self.fields else None, in_words(refusal))


@admin.register(ApprovalRule)
class ApprovalRuleAdmin(AuditedAdmin):
    """The platform's rules speak to all teams and are set here. A team's own are its owners', and only shown."""

    audited_as = "approval_rule"
    form = ApprovalRuleForm
    list_display = ("name", "team", "condition", "threshold", "priority", "required_role", "is_active")
    list_filter = ("is_active", "condition", "required_role", "team")
    list_select_related = ("team",)
    search_fields = ("name", "description", "team__slug")
    date_hierarchy = "created_at"

    def has_change_permission(self, request, obj=None):
        return super().has_change_permission(request, obj) and (obj is None or obj.team_id is None)

    def save_model(self, request, obj, form, change):
        if not change:
            obj.created_by = request.user
        super().save_model(request, obj, form, change)


@admin.register(ApprovalRequest)
class ApprovalRequestAdmin(ReadOnlyAdmin):
    list_display = ("job", "team", "state", "reason", "required_role", "created_at", "expires_at", "reviewed_by", "reviewed_at")
    list_filter = ("state", "required_role", "job__team")
    list_select_related = ("job__team", "reviewed_by")
    search_fields = (*BY_JOB, "reason", "reviewed_by__username")
    date_hierarchy = "created_at"

    team = of_team("job")
