"""What the pages of all apps are made of: who may read, who may change, and what leaves an audit line."""

from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.shortcuts import redirect
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.forms import ActionForm
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts import audit, confirmation
from accounts.callers import Caller, address_of
from accounts.models import Team, User


class StaffAdmin(ModelAdmin):
    """A page that staff may read. Changes need a superuser (or the very permission)."""

    # The total of a grown table costs more than it tells.
    show_full_result_count = False
    list_per_page = 50

    def has_module_permission(self, request):
        return request.user.is_active and request.user.is_staff

    def has_view_permission(self, request, obj=None):
        return self.has_module_permission(request)

    def has_act_permission(self, request, obj=None):
        """What actions ask for: `@admin.action(permissions=["act"])`."""
        return request.user.is_active and request.user.is_superuser

    def response_action(self, request, queryset):
        try:
            for chosen in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.model._meta.pk.to_python(chosen)
        except ValidationError:
            # Nobody chose this in the list: somebody wrote the form themselves.
            self.message_user(request, _("Choose rows of the list."), messages.ERROR)
            return None
        return super().response_action(request, queryset)


class ReadOnlyAdmin(StaffAdmin):
    """For rows that services write: they can be looked at, and acted on by actions that call the same services."""

    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def has_delete_permission(self, request, obj=None):
        return False


class ConfirmedAdmin(ReadOnlyAdmin):
    """For rows that are secrets: whoever signed in some time ago confirms it before one is added, and before an action."""

    def add_view(self, request, form_url="", extra_context=None):
        if self.has_add_permission(request) and not confirmation.is_recent(request):
            return redirect(confirmation.address(request))
        return super().add_view(request, form_url, extra_context)

    def changelist_view(self, request, extra_context=None):
        if request.method == "POST" and self.has_act_permission(request) and not confirmation.is_recent(request):
            return redirect(confirmation.address(request))
        return super().changelist_view(request, extra_context)


class AuditedAdmin(StaffAdmin):
    """A page with a form: what it saves is told to the audit trail. Nothing is deleted here, since work hangs on it."""

    audited_as = ""

    def audited_team(self, obj: Any) -> Team | None:
        return None

    def has_delete_permission(self, request, obj=None):
        return False

    def save_model(self, request, obj, form, change):
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            changed = [name for name in form.changed_data if name in form.cleaned_data]
            audit.record(
                team=self.audited_team(obj),
                event_type=f"{self.audited_as}.{'updated' if change else 'created'}",
                action=f"{'Changed' if change else 'Made'} {obj._meta.verbose_name} {obj} in the administration",
                by=request.user,
                address=address_of(request),
                target_type=self.audited_as,
                target_id=str(obj.pk),
                before={name: form.initial.get(name) for name in changed} if change else {},
                after={name: form.cleaned_data[name] for name in changed},
            )


class ReasonForm(ActionForm):
    """Beside the choice of an action: why it is done."""

    reason = forms.CharField(
        required=False,
        max_length=500,
        label="",
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": _("reason"), "aria-label": _("reason")}),
    )


def staff_caller(request: HttpRequest, team: Team) -> Caller:
    """Who the audit trail names when staff act in a team: a person without a role in it."""
    user = cast(User, request.user)  # the administration lets nobody else in
    return Caller(team=team, user=user, role="", rights=frozenset(), token=None, address=address_of(request))
