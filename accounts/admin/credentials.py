"""The teams' secrets for the provider, the Hub and buckets."""

from django import forms
from django.contrib import admin, messages
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.widgets import UnfoldAdminPasswordWidget

from accounts import credentials
from accounts.admin.base import ConfirmedAdmin, staff_caller
from accounts.models import Credential


class CredentialForm(forms.ModelForm):
    """A new credential. The secret goes in and never comes out."""

    # Not the name of the model's field, which is closed to forms.
    new_secret = forms.CharField(label=_("secret"), strip=False, widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}))

    class Meta:
        model = Credential
        fields = ("team", "user", "kind", "name")

    def clean(self):
        super().clean()
        said = self.cleaned_data
        if not said.get("team"):
            # The installation's own come from its environment.
            self.add_error("team", _("Choose a team."))
        elif said.get("user") and not said["team"].memberships.filter(user=said["user"]).exists():
            self.add_error("user", _("This person is not in the team."))
        if said.get("kind") and (problem := credentials.problem_with_secret(said["kind"], said.get("new_secret", ""))):
            self.add_error("new_secret", problem)
        return said


@admin.register(Credential)
class CredentialAdmin(ConfirmedAdmin):
    list_display = ("__str__", "team", "user", "name", "health", "checked_at", "last_used_at", "removed_at")
    list_filter = ("kind", "health", "is_from_environment", ("removed_at", admin.EmptyFieldListFilter), "team")
    list_select_related = ("team", "user")
    search_fields = ("name", "last_four", "team__name", "team__slug", "account_username")
    date_hierarchy = "created_at"
    readonly_fields = ("last_four", "is_from_environment", "signing_keys_fetched_at", "created_at", "updated_at")
    autocomplete_fields = ("team", "user")
    actions = ("remove",)

    def has_add_permission(self, request):
        return self.has_act_permission(request)

    def get_form(self, request, obj=None, change=False, **kwargs):
        return super().get_form(request, obj, change=change, **(kwargs if obj else kwargs | {"form": CredentialForm}))

    def get_fieldsets(self, request, obj=None):
        return super().get_fieldsets(request, obj) if obj else [(None, {"fields": (*CredentialForm.Meta.fields, "new_secret")})]

    def save_model(self, request, obj, form, change):
        said = form.cleaned_data
        saved = credentials.save(
            team=said["team"],
            user=said["user"],
            kind=said["kind"],
            name=said["name"],
            secret=said["new_secret"],
            by=request.user,
            caller=staff_caller(request, said["team"]),
        )
        obj.__dict__.update(saved.__dict__)

    @admin.action(description=_("Offer the chosen credentials no more"), permissions=["act"])
    def remove(self, request, queryset):
        chosen = queryset.filter(team__isnull=False).select_related("team", "user")
        count = sum(credentials.remove(one, by=request.user, caller=staff_caller(request, one.team)) for one in chosen)
        self.message_user(request, ngettext("%d credential was removed.", "%d credentials were removed.", count) % count, messages.SUCCESS)
