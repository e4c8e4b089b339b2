"""How many jobs go at the same time, and whether any go."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action

from accounts.admin.base import AuditedAdmin, ReasonForm
from accounts.callers import Staff, address_of
from jobs.models import QueueSettings
from jobs.models.admission import QueueMode
from jobs.services import queue_modes


@admin.register(QueueSettings)
class QueueSettingsAdmin(AuditedAdmin):
    """How many jobs go at the same time, and whether any go. The row that names neither team nor provider is the platform's.

    Who pauses, drains or resumes here writes the reason beside the action; it is shown to everybody whose jobs it concerns.
    """

    audited_as = "queue_settings"
    action_form = ReasonForm
    actions = ("pause", "drain", "resume")
    actions_list = ("whole_queue",)
    list_display = ("whose", "mode", "reason", "max_concurrent", "team_max_concurrent", "user_max_concurrent", "enable_fair_share")
    list_filter = ("mode", "provider")
    list_select_related = ("team",)
    search_fields = ("team__name", "team__slug", "provider")
    autocomplete_fields = ("team",)
    ordering = ("-team", "provider")

    @admin.display(description=_("queue"), ordering="team")
    def whose(self, obj: QueueSettings) -> str:
        return str(obj.team or obj.get_provider_display() or _("the whole platform"))

    def audited_team(self, obj):
        return obj.team

    def get_fields(self, request, obj=None):
        """What means something in this row: only the platform's has all numbers, and a provider's has none."""
        whose, mode, numbers = ("team", "provider"), ("mode", "reason"), ("team_max_concurrent", "user_max_concurrent")
        if obj is None or not (obj.team_id or obj.provider):
            return (*whose, *mode, "max_concurrent", *numbers, "enable_fair_share")
        return (*whose, *mode, *(numbers if obj.team_id else ()), *(("own_team_max", "own_user_max") if obj.team_id else ()))

    def get_readonly_fields(self, request, obj=None):
        return ("team", "provider", "own_team_max", "own_user_max") if obj else ()

    def save_model(self, request, obj, form, change):
        if {"mode", "reason"} & {*form.changed_data}:
            obj.is_staffs = True
        super().save_model(request, obj, form, change)

    @admin.action(description=_("Pause: nothing goes to the provider"), permissions=["act"])
    def pause(self, request: HttpRequest, queryset: QuerySet[QueueSettings]) -> None:
        self._set(request, queryset, QueueMode.PAUSED)

    @admin.action(description=_("Drain: what waits goes, nothing new is taken"), permissions=["act"])
    def drain(self, request: HttpRequest, queryset: QuerySet[QueueSettings]) -> None:
        self._set(request, queryset, QueueMode.DRAINING)

    @admin.action(description=_("Resume"), permissions=["act"])
    def resume(self, request: HttpRequest, queryset: QuerySet[QueueSettings]) -> None:
        self._set(request, queryset, QueueMode.RUNNING)

    @action(description=_("What waits now"), url_path="waiting")
    def whole_queue(self, request: HttpRequest) -> HttpResponse:
        """The jobs of all teams that wait."""
        return redirect(reverse("admin:jobs_job_changelist") + "?state__exact=pending")

    def _set(self, request: HttpRequest, queryset: QuerySet[QueueSettings], mode: QueueMode) -> None:
        by = Staff(user=request.user, address=address_of(request))  # type: ignore[arg-type]  # the administration lets nobody else in
        reason = request.POST.get("reason", "")
        for row in queryset.select_related("team"):
            queue_modes.set_as_staff(by, mode=mode, reason=reason, team=row.team, provider=row.provider)
        self.message_user(request, mode.label, messages.SUCCESS)
