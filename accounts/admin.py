"""The administration of people, teams, tokens and credentials.

Staff see everything here, superusers change it. Each change leaves an audit line beside Django's own log entry.
"""

from typing import Any, cast

from allauth.account.decorators import secure_admin_login
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.admin import ModelAdmin, TabularInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminPasswordWidget

from accounts import audit, credentials, tokens
from accounts.callers import Caller, address_of
from accounts.models import APIToken, AuditLine, Credential, Invite, Membership, Team, User

# One way to sign in, with its rate limits and second factor, for the administration, too.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

# Roles are the only groups that mean anything; allauth's own pages would show a second factor's secret.
admin.site.unregister([Group, Authenticator, EmailAddress])


class StaffAdmin(ModelAdmin):
    """A page that staff may read. Changes need a superuser (or the very permission)."""

    # The total of a grown table costs more than it tells.
    show_full_result_count = False
    list_per_page = 50

    def has_module_permission(self, request):
        return request.user.is_active and request.user.is_staff

    def has_view_permission(self, request, obj=None):
        return self.has_module_permission(request)

    def has_act_permission(self, request):
        """What actions ask for: `@admin.action(permissions=["act"])`."""
        return request.user.is_active and request.user.is_superuser


class ReadOnlyAdmin(StaffAdmin):
    """For rows that services write: they can be looked at, and acted on by actions that call the same services."""

    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def has_delete_permission(self, request, obj=None):
        return False


def staff_caller(request: HttpRequest, team: Team) -> Caller:
    """Who the audit trail names when staff act in a team: a person without a role in it."""
    user = cast(User, request.user)  # the administration lets nobody else in
    return Caller(team=team, user=user, role="", rights=frozenset(), token=None, address=address_of(request))


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


@admin.register(User)
class UserAdmin(DjangoUserAdmin, AuditedAdmin):
    """People. Whoever leaves is made inactive, since jobs and audit lines name them."""

    audited_as = "user"
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "display_name", "is_active", "is_staff", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser", "memberships__team")
    search_fields = ("username", "email", "display_name")
    ordering = ("username",)
    date_hierarchy = "date_joined"
    filter_horizontal = ()
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "email", "display_name", "password")}),
        (_("Rights in the installation"), {"fields": ("is_active", "is_staff", "is_superuser")}),
        (_("Times"), {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("username", "email", "display_name", "password1", "password2")}),)

    def get_fieldsets(self, request, obj=None):
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        # Whoever may only look needs no password's hash.
        return [(title, {"fields": [name for name in shown["fields"] if name != "password"]}) for title, shown in fieldsets]

    def get_readonly_fields(self, request, obj=None):
        fields = super().get_readonly_fields(request, obj)
        # Nobody makes themselves more than they are.
        return fields if request.user.is_superuser else (*fields, "is_staff", "is_superuser")

    def log_change(self, request, obj, message):
        # Django changes a password past save_model, and says so only here.
        if request.resolver_match.url_name == "auth_user_password_change":
            audit.record(
                team=None, event_type="user.password.changed", action=f"Set the password of {obj} in the administration",
                by=request.user, address=address_of(request), target_type="user", target_id=str(obj.pk),
            )  # fmt: skip
        return super().log_change(request, obj, message)


class MembershipInline(TabularInline):
    model = Membership
    extra = 0
    autocomplete_fields = ("user",)
    readonly_fields = ("joined_at",)
    tab = True

    def has_view_permission(self, request, obj=None):
        return request.user.is_staff


@admin.register(Team)
class TeamAdmin(AuditedAdmin):
    audited_as = "team"
    list_display = ("name", "slug", "time_zone", "suspended_at", "created_at")
    list_filter = (("suspended_at", admin.EmptyFieldListFilter),)
    search_fields = ("name", "slug")
    prepopulated_fields = {"slug": ("name",)}
    date_hierarchy = "created_at"
    readonly_fields = ("created_at",)
    inlines = (MembershipInline,)

    def audited_team(self, obj):
        return obj

    def save_formset(self, request, form, formset, change):
        team = form.instance
        with transaction.atomic():
            before = self._roles(team)
            super().save_formset(request, form, formset, change)
            after = self._roles(team)
            for user in sorted({user for user, _role in before.items() ^ after.items()}, key=lambda user: user.pk):
                audit.record(
                    team=team,
                    event_type="user.level.changed",
                    action=f"Changed the role of {user.username} in the administration",
                    caller=staff_caller(request, team),
                    target_type="user",
                    target_id=str(user.pk),
                    before={"role": before.get(user)},
                    after={"role": after.get(user)},
                )

    def _roles(self, team: Team) -> dict[User, str]:
        return {membership.user: membership.role for membership in team.memberships.select_related("user")}


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    """To search across teams; a team's own page changes its members."""

    list_display = ("user", "team", "role", "joined_at")
    list_filter = ("role", "team")
    list_select_related = ("user", "team")
    search_fields = ("user__username", "user__email", "team__name", "team__slug")
    date_hierarchy = "joined_at"
    readonly_fields = ("joined_at",)


@admin.register(Invite)
class InviteAdmin(ReadOnlyAdmin):
    list_display = ("email", "team", "role", "invited_by", "created_at", "expires_at", "accepted_at", "revoked_at")
    list_filter = ("role", ("accepted_at", admin.EmptyFieldListFilter), "team")
    list_select_related = ("team", "invited_by")
    search_fields = ("email", "team__name", "team__slug")
    date_hierarchy = "created_at"
    readonly_fields = ("created_at",)


@admin.register(APIToken)
class APITokenAdmin(ReadOnlyAdmin):
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
class CredentialAdmin(ReadOnlyAdmin):
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


@admin.register(AuditLine)
class AuditLineAdmin(ReadOnlyAdmin):
    list_display = ("at", "team", "event_type", "actor", "token_prefix", "action", "target_id")
    list_filter = ("event_type", "team")
    list_select_related = ("team",)
    search_fields = ("actor", "action", "target_id", "token_prefix", "correlation_id")
    date_hierarchy = "at"


@admin.register(EmailAddress)
class EmailAddressAdmin(ReadOnlyAdmin):
    list_display = ("email", "user", "primary", "verified")
    list_filter = ("primary", "verified")
    list_select_related = ("user",)
    search_fields = ("email", "user__username")


@admin.register(Authenticator)
class AuthenticatorAdmin(ReadOnlyAdmin):
    """Second factors: that there is one, never what it is."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type",)
    list_select_related = ("user",)
    search_fields = ("user__username", "user__email")
    fields = ("user", "type", "created_at", "last_used_at")
