"""Teams with their members, invites, former names and rules, and the organization that they are of."""

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.forms.models import BaseInlineFormSet
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.admin import TabularInline

from accounts import members, teams
from accounts.admin.base import AuditedAdmin, ReadOnlyAdmin, ReasonForm, staff_caller
from accounts.callers import address_of
from accounts.errors import InvalidInput
from accounts.forms import in_words
from accounts.models import FormerSlug, Invite, Membership, Organization, ResourceRule, Team, User
from accounts.roles import Role


class MembershipForm(forms.ModelForm):
    """A member's role, and of a new one also who it is: one person does not become another."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        if self.instance.pk:
            self.fields["user"].disabled = True


class MembershipFormSet(BaseInlineFormSet):
    """The members of one team, of whom one at least owns it."""

    def clean(self):
        super().clean()
        if self.instance.pk:
            # Until the page is saved nobody shuts out, or takes out, one of the owners that it counts on.
            Team.objects.select_for_update(no_key=True).get(pk=self.instance.pk)
        kept = [form.cleaned_data for form in self.forms if form.is_valid() and form not in self.deleted_forms]
        owners = [said["user"].pk for said in kept if said.get("role") == Role.OWNER and said.get("user")]
        if not User.objects.filter(pk__in=owners, is_active=True).exists() and not self.instance.archived_at:
            raise ValidationError(_("A team needs an owner who can sign in."))


class MembershipInline(TabularInline):
    model = Membership
    form = MembershipForm
    formset = MembershipFormSet
    extra = 0
    autocomplete_fields = ("user",)
    readonly_fields = ("joined_at",)
    tab = True

    def has_view_permission(self, request, obj=None):
        return request.user.is_staff


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
        """Members come, change and go with all that hangs on it, and whoever becomes an owner ahead of whoever is none any more."""
        formset.save(commit=False)
        staff = staff_caller(request, form.instance)
        with transaction.atomic():
            before = {membership.pk: membership for membership in form.instance.memberships.select_related("team", "user")}
            for new in formset.new_objects:
                members.put_in(staff, new.user, role=new.role)
            for changed, _fields in sorted(formset.changed_objects, key=lambda pair: pair[0].role != Role.OWNER):
                members.give(staff, before[changed.pk], role=changed.role)
            for gone in formset.deleted_objects:
                members.take_out(staff, before[gone.pk], action=f"Removed {gone.user.username} in the administration")


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


@admin.register(FormerSlug)
class FormerSlugAdmin(ReadOnlyAdmin):
    list_display = ("slug", "team")
    list_filter = ("team",)
    list_select_related = ("team",)
    search_fields = ("slug", "team__slug")


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
