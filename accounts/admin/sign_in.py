"""How people sign in: one door for the administration too, their addresses and second factors, and who makes accounts."""

from allauth.account.decorators import secure_admin_login
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.contrib.auth.models import Group

from accounts.admin.base import AuditedAdmin, ReadOnlyAdmin
from accounts.models import Registration

# One way to sign in, with its rate limits and second factor, for the administration, too.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

# Roles are the only groups that mean anything; allauth's own pages would show secrets of second factors and of providers,
# and the keys of sessions.
admin.site.unregister([Group, Authenticator, EmailAddress, SocialAccount, SocialApp, SocialToken, UserSession])


@admin.register(Registration)
class RegistrationAdmin(AuditedAdmin):
    audited_as = "registration"
    list_display = ("__str__", "default_role")

    def has_add_permission(self, request):
        return super().has_add_permission(request) and not Registration.objects.exists()


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
