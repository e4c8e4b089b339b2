"""People, and the mails to them."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db import transaction
from django.shortcuts import redirect
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts import audit, confirmation, emails, users
from accounts.admin.base import AuditedAdmin, ReadOnlyAdmin
from accounts.callers import address_of
from accounts.errors import Refusal
from accounts.forms import refuse
from accounts.models import Letter, User


class PersonForm(UserChangeForm):
    """A person as they are changed: never so that a team is left without an owner, or the platform without an administrator."""

    def clean(self):
        said = super().clean()
        kept = User.objects.select_for_update(no_key=True).get(pk=self.instance.pk)
        # Whoever may not change a right is not asked for it.
        taken = {name for name in ("is_active", "is_staff", "is_superuser") if getattr(kept, name) and not said.get(name, True)}
        if taken:
            try:
                users.require_dispensable(kept, is_leaving="is_active" in taken)
            except Refusal as refusal:
                refuse(self, refusal)
        return said


@admin.register(User)
class UserAdmin(DjangoUserAdmin, AuditedAdmin):
    """People. Whoever leaves is made inactive, since jobs and audit lines name them."""

    audited_as = "user"
    form = PersonForm
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

    @method_decorator(sensitive_post_parameters())
    def user_change_password(self, request, id, form_url=""):
        if not confirmation.is_recent(request):
            return redirect(confirmation.address(request))
        return super().user_change_password(request, id, form_url)

    def log_change(self, request, obj, message):
        # Django changes a password past save_model, and says so only here.
        if request.resolver_match.url_name == "auth_user_password_change":
            audit.record(
                team=None, event_type="user.password.changed", action=f"Set the password of {obj} in the administration",
                by=request.user, address=address_of(request), target_type="user", target_id=str(obj.pk),
            )  # fmt: skip
        return super().log_change(request, obj, message)


@admin.register(Letter)
class LetterAdmin(ReadOnlyAdmin):
    """Mails to people: what was sent, and what still waits for the mail server."""

    list_display = ("event", "person", "team", "written_at", "sent_at")
    list_filter = ("event", ("sent_at", admin.EmptyFieldListFilter), "team")
    list_select_related = ("person", "team")
    search_fields = ("person__username", "person__email", "team__slug")
    date_hierarchy = "written_at"
    readonly_fields = ("written_at",)
