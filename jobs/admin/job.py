"""Jobs: what runs and why not, to cancel, to prioritise and to ask the provider again."""

from dataclasses import replace

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.forms import ActionForm
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.admin.base import ReadOnlyAdmin, staff_caller
from accounts.callers import Caller, Staff, address_of
from accounts.errors import Refusal
from accounts.forms import in_words
from accounts.roles import Right
from billing.columns import money
from billing.prices import dollars
from jobs.admin.rows import ReadOnlyInline
from jobs.models import FaultRetry, IdempotencyKey, Job, JobEvent, JobProgress, LaunchIntent, ProviderEvent, ProviderUpload, ResultDelivery
from jobs.services import cancelling, polling, queue, queue_changes, stuck


class EventInline(ReadOnlyInline):
    model = JobEvent
    fields = ("at", "state", "cause", "detail")


class ProviderEventInline(ReadOnlyInline):
    model = ProviderEvent
    fields = ("event", "at", "last_at", "times", "deliveries", "cause")


class ProgressInline(ReadOnlyInline):
    model = JobProgress
    fields = ("stage", "step", "total_steps", "percent", "loss", "last_log", "length", "heard_at", "polled_at", "told_at", "grew_at")


class IntentInline(ReadOnlyInline):
    model = LaunchIntent
    fields = ("outcome", "is_settled", "first_call_at", "called_at", "given_up_at", "searches")


class FaultRetryInline(ReadOnlyInline):
    model = FaultRetry
    fk_name = "job"
    fields = ("decided_at", "retry", "number", "reason")


class UploadInline(ReadOnlyInline):
    model = ProviderUpload
    fields = ("file_id", "archive_sha256", "archive_bytes", "uploaded_at", "expires_at", "deleted_at")


class ResultDeliveryInline(ReadOnlyInline):
    model = ResultDelivery
    fields = ("destination", "target", "state", "attempts", "error", "delivered_at")


class PriorityForm(ActionForm):
    """Beside the choice of an action: the priority that it gives."""

    priority = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=queue.HIGHEST,
        label="",
        widget=UnfoldAdminTextInputWidget(
            attrs={"placeholder": _("priority, empty: its own"), "aria-label": _("priority, empty: its own")}
        ),
    )


class StuckFilter(admin.SimpleListFilter):
    """Jobs that do not get on, whatever the cause; each job's page in the portal names it."""

    title = _("stuck")
    parameter_name = "stuck"

    def lookups(self, request, model_admin):
        return [("yes", _("Yes"))]

    def queryset(self, request, queryset):
        if self.value() != "yes":
            return queryset
        return queryset.filter(pk__in=[job.pk for job, _code in stuck.find(now=timezone.now())])


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """Jobs of all teams. The callback's key and a dataloader, which may hold keys of its own, are not shown."""

    list_display = (
        "job_id",
        "team",
        "submitted_by",
        "state",
        "waiting_reason",
        "priority_shown",
        "trainer",
        "cost_shown",
        "hold_shown",
        "submitted_at",
        "ended_at",
    )
    list_filter = (
        "state",
        StuckFilter,
        "waiting_reason",
        "provider",
        "destination",
        "packing_path",
        ("cancel_requested_at", admin.EmptyFieldListFilter),
        ("cleaned_up_at", admin.EmptyFieldListFilter),
        "team",
    )
    list_select_related = ("team", "submitted_by", "trainer", "hold")
    search_fields = ("job_id", "prediction_id", "run_name", "correlation_id", "submitted_by__username", "submitted_by__email", "team__slug")
    date_hierarchy = "submitted_at"
    inlines = (EventInline, ProviderEventInline, ProgressInline, IntentInline, FaultRetryInline, UploadInline, ResultDeliveryInline)
    action_form = PriorityForm
    actions = ("cancel", "prioritise", "poll_now")
    fieldsets = (
        (None, {"fields": ("job_id", "team", "submitted_by", "token", "state", "waiting_reason", "error", "see_also")}),
        (
            _("What was asked"),
            {"fields": ("config_name", "run_name", "config", "dataset_version", "trainer", "destination", "hub_model_id")},
        ),
        (
            _("Money"),
            {
                "fields": (
                    *("hold_shown", "cost_shown", "hold", "price_line", "billed_seconds"),
                    *("estimate_low_shown", "estimate_high_shown", "estimate_source"),
                    *("ceiling_seconds", "stop_after_seconds", "stop_warned_at"),
                )
            },
        ),
        (
            _("Provider"),
            {"fields": ("provider", "prediction_id", "provider_status", "version", "packing_path", "credential", "output_url", "metrics")},
        ),
        (_("Queue"), {"fields": ("priority", "priority_override", "not_before", "leased_until", "try_after")}),
        (
            _("Times"),
            {
                "fields": (
                    *("submitted_at", "dispatched_at", "created_at_provider", "queued_at", "started_at", "ended_at"),
                    *("cancel_requested_at", "cancel_requested_by", "cancel_sent_at"),
                    *("archived_at", "provider_forgot_at", "archive_alarm_at", "rescued_at", "cleaned_up_at", "correlation_id"),
                )
            },
        ),
    )

    @admin.display(description=_("cost"), ordering="hold__charge")
    def cost_shown(self, job: Job) -> str:
        cost = job.hold.charge if job.hold else job.cost
        return "" if cost is None else dollars(cost)

    @admin.display(description=_("priority"), ordering=Coalesce("priority_override", "priority"))
    def priority_shown(self, job: Job) -> int:
        return queue.asked_priority(job)

    estimate_low_shown = money("estimate_low", _("likely at least"))
    estimate_high_shown = money("estimate_high", _("likely at most"))

    @admin.display(description=_("hold"), ordering="hold__amount")
    def hold_shown(self, job: Job) -> str:
        return str(money("amount", "")(self, job.hold)) if job.hold else ""

    @admin.display(description=_("see also"))
    def see_also(self, job: Job) -> SafeString:
        """Links to what other pages know of this job."""
        pages = [
            (reverse("admin:webhooks_delivery_changelist"), job.job_id, _("deliveries")),
            (reverse("admin:jobs_artifact_changelist"), job.job_id, _("artifacts")),
            (reverse("admin:billing_ledgerline_changelist"), job.reference, _("ledger lines")),
            (reverse("admin:accounts_auditline_changelist"), job.job_id, _("audit lines")),
        ]
        return format_html_join(" · ", '<a href="{}?q={}">{}</a>', pages)

    @admin.action(description=_("Cancel the chosen jobs"), permissions=["act"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        asked = 0
        for job in queryset.select_related("team"):
            try:
                cancelling.cancel(job, caller=_for_all_jobs(request, job))
                asked += 1
            except Refusal as refusal:
                self.message_user(request, refusal.detail, messages.WARNING)
        self.message_user(request, ngettext("%d job is being cancelled.", "%d jobs are being cancelled.", asked) % asked, messages.SUCCESS)

    @admin.action(description=_("Give the chosen jobs this priority"), permissions=["act"])
    def prioritise(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        said = request.POST.get("priority", "")
        by = Staff(user=request.user, address=address_of(request))  # type: ignore[arg-type]  # the administration lets nobody else in
        for job in queryset.select_related("team"):
            try:
                queue_changes.set_priority(job, by=by, priority=int(said) if said.isdecimal() else None)
            except Refusal as refusal:
                self.message_user(request, in_words(refusal), messages.WARNING)

    @admin.action(description=_("Ask the provider about the chosen jobs now"), permissions=["act"])
    def poll_now(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        asked = sum(polling.poll_soon(job, caller=_for_all_jobs(request, job)) for job in queryset.select_related("team"))
        self.message_user(request, ngettext("%d job is asked about.", "%d jobs are asked about.", asked) % asked, messages.SUCCESS)


def _for_all_jobs(request: HttpRequest, job: Job) -> Caller:
    """Staff act in a team without a role in it; on jobs they may do what its leads may."""
    return replace(staff_caller(request, job.team), rights=frozenset({Right.CANCEL_ALL}))


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnlyAdmin):
    list_display = ("key", "team", "job", "created_at")
    list_filter = ("team",)
    list_select_related = ("team", "job")
    search_fields = ("key", "job__job_id", "team__slug")
    date_hierarchy = "created_at"
    fields = ("team", "key", "job", "created_at")
