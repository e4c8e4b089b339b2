"""What goes on between the jobs and the provider: launches in doubt, stray runs, breakers, and the teams' settings."""

from typing import cast

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts.admin.base import ReadOnlyAdmin
from accounts.callers import Staff, address_of
from accounts.models import User
from billing.columns import money
from jobs.admin.rows import BY_JOB, of_team
from jobs.models import AccountWatch, Breaker, LaunchIntent, ProviderSettings, ProviderStatus, StrayRun
from jobs.services import breakers


@admin.register(StrayRun)
class StrayRunAdmin(ReadOnlyAdmin):
    """Runs that carried the mark of a job and were not the job's: what became of them, and what they cost."""

    list_display = ("prediction_id", "job", "team", "found_at", "cancel_sent_at", "provider_status", "settled_at", "charge_shown")
    list_filter = (("settled_at", admin.EmptyFieldListFilter), "job__team")
    list_select_related = ("job__team",)
    search_fields = ("prediction_id", *BY_JOB)
    date_hierarchy = "found_at"

    charge_shown = money("charge", _("charge"))
    team = of_team("job")


@admin.register(AccountWatch)
class AccountWatchAdmin(ReadOnlyAdmin):
    """How asking goes with each team's credential: one that fails rests, and the jobs of all others go on."""

    list_display = ("team", "credential", "failures", "error", "failed_at", "try_after", "listed_at")
    list_filter = (("try_after", admin.EmptyFieldListFilter), "team")
    list_select_related = ("team", "credential")
    search_fields = ("team__slug", "error")


@admin.register(LaunchIntent)
class LaunchIntentAdmin(ReadOnlyAdmin):
    """Calls of which a prediction may exist. One that is open for long is a job that somebody should look at."""

    list_display = ("job", "team", "outcome", "is_settled", "called_at", "given_up_at", "searches")
    list_filter = ("outcome", "is_settled", "job__team")
    list_select_related = ("job__team",)
    search_fields = BY_JOB
    date_hierarchy = "called_at"

    team = of_team("job")


@admin.register(ProviderSettings)
class ProviderSettingsAdmin(ReadOnlyAdmin):
    """Changed by the team's owners, in the portal and by API. A proxy's address may hold a password: only that there is one is shown."""

    list_display = (
        "team",
        "webhook_url",
        "webhook_require_signature",
        "s3_endpoint_enabled",
        "hardware_profile",
        "data_consent",
        "updated_at",
    )
    list_filter = ("webhook_require_signature", "s3_endpoint_enabled", "data_consent")
    list_select_related = ("team",)
    search_fields = ("team__name", "team__slug", "webhook_url")
    date_hierarchy = "updated_at"
    exclude = ("proxy_url", "preferences")
    readonly_fields = ("has_proxy", "updated_at")

    @admin.display(description=_("outbound proxy"), boolean=True)
    def has_proxy(self, own: ProviderSettings) -> bool:
        return bool(own.proxy_url)


@admin.register(ProviderStatus)
class ProviderStatusAdmin(ReadOnlyAdmin):
    list_display = ("source", "word", "headline", "error", "read_at")
    list_filter = ("word",)
    search_fields = ("source", "error")
    date_hierarchy = "read_at"


@admin.register(Breaker)
class BreakerAdmin(ReadOnlyAdmin):
    """Which credentials the provider does not answer. One that was mended need not wait for its trial."""

    list_display = ("name", "team", "credential", "address", "state", "failures", "opened_at", "last_failure_at", "last_failure")
    list_filter = ("state", "credential__team")
    list_select_related = ("credential__team",)
    search_fields = ("address", "credential__team__slug")
    date_hierarchy = "last_failure_at"
    actions = ("close_now",)

    team = of_team("credential")

    @admin.action(description=_("Close the chosen circuit breakers now"), permissions=["act"])
    def close_now(self, request: HttpRequest, queryset: QuerySet[Breaker]) -> None:
        staff = Staff(user=cast(User, request.user), address=address_of(request))
        closed = sum(breakers.close(row, by=staff) for row in queryset.select_related("credential__team"))
        self.message_user(
            request, ngettext("%d circuit breaker was closed.", "%d circuit breakers were closed.", closed) % closed, messages.SUCCESS
        )
