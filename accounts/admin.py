"""The administration of people, teams, tokens and credentials.

Staff see everything here, superusers change it. Each change leaves an audit line beside Django's own log entry.
"""

from typing import Any, cast

from allauth.account.decorators import secure_admin_login
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import transaction
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.shortcuts import redirect
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.admin import ModelAdmin, TabularInline
from unfold.forms import ActionForm, AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from accounts import audit, confirmation, credentials, emails, exports, streaming, teams, tokens, trail
from accounts.callers import Caller, address_of
from accounts.errors import InvalidInput
from accounts.forms import in_words
from accounts.models import (
    APIToken,
    AuditAnchor,
    AuditForwarding,
    AuditLine,
    Credential,
    FormerSlug,
    Invite,
    Letter,
    Membership,
    Organization,
    Registration,
    ResourceRule,
    Team,
    User,
)
from accounts.roles import Role

# One way to sign in, with its rate limits and second factor, for the administration, too.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

# Roles are the only groups that mean anything; allauth's own pages would show secrets of second factors and of providers,
# and the keys of sessions.
admin.site.unregister([Group, Authenticator, EmailAddress, SocialAccount, SocialApp, SocialToken, UserSession])


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
        (None, {"fields": ("username", "email", "display_name", "language", "password")}),
        (_("Rights in the installation"), {"fields": ("is_active", "is_staff", "is_superuser")}),
        (_("Times"), {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("username", "email", "display_name", "language", "password1", "password2")}),)

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

    def save_model(self, request, obj, form, change):
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            if "email" in form.changed_data:
                # Staff say whose it is; the former one opens nothing any more.
                emails.vouch(obj)

    def log_change(self, request, obj, message):
        # Django changes a password past save_model, and says so only here.
        if request.resolver_match.url_name == "auth_user_password_change":
            audit.record(
                team=None, event_type="user.password.changed", action=f"Set the password of {obj} in the administration",
                by=request.user, address=address_of(request), target_type="user", target_id=str(obj.pk),
            )  # fmt: skip
        return super().log_change(request, obj, message)


class MembershipFormSet(BaseInlineFormSet):
    """The members of one team, of whom one at least owns it."""

    def clean(self):
        super().clean()
        kept = [form.cleaned_data for form in self.forms if form.is_valid() and form not in self.deleted_forms]
        has_owner = any(said.get("role") == Role.OWNER and said.get("user") and said["user"].is_active for said in kept)
        if not has_owner and not self.instance.archived_at:
            raise ValidationError(_("A team needs an owner who can sign in."))


class MembershipInline(TabularInline):
    model = Membership
    formset = MembershipFormSet
    extra = 0
    autocomplete_fields = ("user",)
    readonly_fields = ("joined_at",)
    tab = True

    def has_view_permission(self, request, obj=None):
        return request.user.is_staff


class ReasonForm(ActionForm):
    """Beside the choice of an action: why it is done."""

    reason = forms.CharField(
        required=False,
        max_length=500,
        label="",
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": _("reason"), "aria-label": _("reason")}),
    )


@admin.register(Team)
class TeamAdmin(AuditedAdmin):
    audited_as = "team"
    action_form = ReasonForm
    actions = ("suspend", "release", "reopen")
    list_display = ("name", "slug", "time_zone", "suspended_at", "archived_at", "created_at")
    list_filter = (("suspended_at", admin.EmptyFieldListFilter), ("archived_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "slug", "former_slugs__slug")
    prepopulated_fields = {"slug": ("name",)}
    date_hierarchy = "created_at"
    readonly_fields = ("suspended_at", "suspension_reason", "archived_at", "created_at")
    inlines = (MembershipInline,)

    @admin.action(description=_("Suspend the chosen teams (say why)"), permissions=["act"])
    def suspend(self, request, queryset):
        self._set_suspended(request, queryset, teams.suspend)

    @admin.action(description=_("Release the chosen teams (say why)"), permissions=["act"])
    def release(self, request, queryset):
        self._set_suspended(request, queryset, teams.release)

    @admin.action(description=_("Open the chosen archived teams again, with yourself as their owner"), permissions=["act"])
    def reopen(self, request, queryset):
        count = sum(teams.reopen(team, owner=request.user, by=request.user, address=address_of(request)) for team in queryset)
        self.message_user(request, ngettext("%d team was opened.", "%d teams were opened.", count) % count, messages.SUCCESS)

    def _set_suspended(self, request, queryset, service):
        reason = request.POST.get("reason", "")
        try:
            count = sum(service(team, by=request.user, reason=reason, address=address_of(request)) for team in queryset)
        except InvalidInput as refusal:
            self.message_user(request, in_words(refusal), messages.ERROR)
        else:
            self.message_user(request, ngettext("%d team was changed.", "%d teams were changed.", count) % count, messages.SUCCESS)

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
    list_display = ("email", "team", "role", "invited_by", "created_at", "sent_at", "expires_at", "accepted_at", "revoked_at")
    list_filter = ("role", ("sent_at", admin.EmptyFieldListFilter), ("accepted_at", admin.EmptyFieldListFilter), "team")
    list_select_related = ("team", "invited_by")
    search_fields = ("email", "team__name", "team__slug")
    date_hierarchy = "created_at"
    readonly_fields = ("created_at", "asked_at")


@admin.register(Letter)
class LetterAdmin(ReadOnlyAdmin):
    """Mails to people: what was sent, and what still waits for the mail server."""

    list_display = ("event", "person", "team", "written_at", "sent_at")
    list_filter = ("event", ("sent_at", admin.EmptyFieldListFilter), "team")
    list_select_related = ("person", "team")
    search_fields = ("person__username", "person__email", "team__slug")
    date_hierarchy = "written_at"
    readonly_fields = ("written_at",)


@admin.register(FormerSlug)
class FormerSlugAdmin(ReadOnlyAdmin):
    list_display = ("slug", "team")
    list_filter = ("team",)
    list_select_related = ("team",)
    search_fields = ("slug", "team__slug")


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


@admin.register(Registration)
class RegistrationAdmin(AuditedAdmin):
    audited_as = "registration"
    list_display = ("__str__", "default_role")

    def has_add_permission(self, request):
        return super().has_add_permission(request) and not Registration.objects.exists()


@admin.register(Organization)
class OrganizationAdmin(AuditedAdmin):
    audited_as = "organization"
    list_display = ("__str__", "description")

    def has_add_permission(self, request):
        return super().has_add_permission(request) and not Organization.objects.exists()


@admin.register(ResourceRule)
class ResourceRuleAdmin(ReadOnlyAdmin):
    """Which roles of a team may use what; a team's owners make the rules."""

    list_display = ("name", "team", "resource_type", "pattern", "action", "priority", "roles")
    list_filter = ("resource_type", "action", "team")
    list_select_related = ("team",)
    search_fields = ("name", "pattern", "description", "team__name", "team__slug")
    date_hierarchy = "created_at"
    readonly_fields = ("created_at",)


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
