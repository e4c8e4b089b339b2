"""The administration of jobs: to see what runs and why not, to cancel and to look again.

What services write is only shown. Edited here are the trainer catalogue and the queue's settings.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.admin import TabularInline

from accounts.admin import AuditedAdmin, ReadOnlyAdmin, staff_caller
from accounts.callers import Caller
from accounts.errors import Refusal
from accounts.roles import Right
from billing.admin import money
from jobs.models import (
    ApprovalRequest,
    ApprovalRule,
    Artifact,
    Consent,
    Dataset,
    DatasetVersion,
    IdempotencyKey,
    Job,
    JobEvent,
    JobProgress,
    JobQuota,
    LaunchIntent,
    ProviderSettings,
    ProviderUpload,
    QueueSettings,
    ResultDelivery,
    StorageKey,
    Trainer,
    TrainerVersion,
    TrainingConfig,
)
from jobs.services import cancelling, polling

BY_JOB = ("job__job_id", "job__prediction_id", "job__team__slug")


class ReadOnlyInline(TabularInline):
    """Rows that belong to another's page, to read."""

    extra = 0
    can_delete = False
    show_change_link = False
    tab = True

    def has_view_permission(self, request, obj=None):
        return request.user.is_staff

    def has_add_permission(self, request, obj=None):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def get_readonly_fields(self, request, obj=None):
        return self.fields


class EventInline(ReadOnlyInline):
    model = JobEvent
    fields = ("at", "state", "cause", "detail")


class ProgressInline(ReadOnlyInline):
    model = JobProgress
    fields = ("stage", "step", "total_steps", "percent", "loss", "last_log", "length", "heard_at", "polled_at")


class IntentInline(ReadOnlyInline):
    model = LaunchIntent
    fields = ("outcome", "is_settled", "first_call_at", "called_at", "given_up_at", "searches")


class UploadInline(ReadOnlyInline):
    model = ProviderUpload
    fields = ("file_id", "archive_sha256", "archive_bytes", "uploaded_at", "expires_at", "deleted_at")


class ResultDeliveryInline(ReadOnlyInline):
    model = ResultDelivery
    fields = ("destination", "target", "state", "attempts", "error", "delivered_at")


def of_team(path: str) -> Callable[[Any, Any], Any]:
    """A column with the team of the row that `path` leads to."""

    @admin.display(description=_("team"), ordering=f"{path}__team")
    def column(self: Any, row: Any) -> Any:
        for name in path.split("__"):
            row = getattr(row, name)
        return row.team

    return column


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """Jobs of all teams. The callback's key and a dataloader, which may hold keys of its own, are not shown."""

    list_display = (
        "job_id",
        "team",
        "submitted_by",
        "state",
        "waiting_reason",
        "trainer",
        "cost_shown",
        "hold_shown",
        "submitted_at",
        "ended_at",
    )
    list_filter = (
        "state",
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
    inlines = (EventInline, ProgressInline, IntentInline, UploadInline, ResultDeliveryInline)
    actions = ("cancel", "poll_now")
    fieldsets = (
        (None, {"fields": ("job_id", "team", "submitted_by", "token", "state", "waiting_reason", "error", "see_also")}),
        (
            _("What was asked"),
            {"fields": ("config_name", "run_name", "config", "dataset_version", "trainer", "destination", "hub_model_id")},
        ),
        (
            _("Money"),
            {"fields": ("hold_shown", "cost_shown", "hold", "price_line", "billed_seconds", "ceiling_seconds", "stop_after_seconds")},
        ),
        (
            _("Provider"),
            {"fields": ("provider", "prediction_id", "provider_status", "version", "packing_path", "credential", "output_url")},
        ),
        (_("Queue"), {"fields": ("priority", "priority_override", "not_before", "leased_until", "try_after")}),
        (
            _("Times"),
            {
                "fields": (
                    *("submitted_at", "dispatched_at", "created_at_provider", "queued_at", "started_at", "ended_at"),
                    *("cancel_requested_at", "cancel_requested_by", "cancel_sent_at"),
                    *("archived_at", "provider_forgot_at", "cleaned_up_at", "correlation_id"),
                )
            },
        ),
    )

    cost_shown = money("cost", _("cost"))

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

    @admin.action(description=_("Ask the provider about the chosen jobs now"), permissions=["act"])
    def poll_now(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        asked = sum(polling.poll_soon(job, caller=_for_all_jobs(request, job)) for job in queryset.select_related("team"))
        self.message_user(request, ngettext("%d job is asked about.", "%d jobs are asked about.", asked) % asked, messages.SUCCESS)


def _for_all_jobs(request: HttpRequest, job: Job) -> Caller:
    """Staff act in a team without a role in it; on jobs they may do what its leads may."""
    return replace(staff_caller(request, job.team), rights=frozenset({Right.CANCEL_ALL}))


@admin.register(LaunchIntent)
class LaunchIntentAdmin(ReadOnlyAdmin):
    """Calls of which a prediction may exist. One that is open for long is a job that somebody should look at."""

    list_display = ("job", "team", "outcome", "is_settled", "called_at", "given_up_at", "searches")
    list_filter = ("outcome", "is_settled", "job__team")
    list_select_related = ("job__team",)
    search_fields = BY_JOB
    date_hierarchy = "called_at"

    team = of_team("job")


@admin.register(Artifact)
class ArtifactAdmin(ReadOnlyAdmin):
    list_display = ("key", "job", "team", "kind", "size_bytes", "sha256", "stored_at")
    list_filter = ("kind", "job__team")
    list_select_related = ("job__team",)
    search_fields = (*BY_JOB, "key", "sha256")
    date_hierarchy = "stored_at"
    fields = ("job", "key", "kind", "size_bytes", "sha256", "etag", "content_type", "stored_as", "stored_at")

    team = of_team("job")


@admin.register(ResultDelivery)
class ResultDeliveryAdmin(ReadOnlyAdmin):
    list_display = ("job", "team", "destination", "state", "attempts", "error", "created_at", "delivered_at")
    list_filter = ("state", "destination", "job__team")
    list_select_related = ("job__team",)
    search_fields = (*BY_JOB, "target")
    date_hierarchy = "created_at"
    readonly_fields = ("created_at",)

    team = of_team("job")


@admin.register(StorageKey)
class StorageKeyAdmin(ReadOnlyAdmin):
    """Key pairs of the storage endpoint; the secret half is shown to nobody."""

    list_display = ("access_key", "job", "team", "purpose", "created_at", "expires_at", "revoked_at")
    list_filter = ("purpose", ("revoked_at", admin.EmptyFieldListFilter), "job__team")
    list_select_related = ("job__team",)
    search_fields = (*BY_JOB, "access_key")
    date_hierarchy = "created_at"
    fields = ("job", "purpose", "access_key", "bucket", "prefix", "created_at", "expires_at", "revoked_at")

    team = of_team("job")


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnlyAdmin):
    list_display = ("key", "team", "job", "created_at")
    list_filter = ("team",)
    list_select_related = ("team", "job")
    search_fields = ("key", "job__job_id", "team__slug")
    date_hierarchy = "created_at"
    fields = ("team", "key", "job", "created_at")


# --- What can be trained ----------------------------------------------------------------------------------


class TrainerVersionInline(ReadOnlyInline):
    model = TrainerVersion
    fields = ("version", "published_at", "fetched_at", "unpacks_archives")


@admin.register(Trainer)
class TrainerAdmin(AuditedAdmin):
    """The catalogue. A trainer that is offered no more stays, since jobs name it."""

    audited_as = "trainer"
    list_display = ("profile", "label", "model", "hardware", "gpu_count", "is_default", "is_offered")
    list_filter = ("is_offered", "hardware_type", "gpu_count")
    search_fields = ("profile", "label", "model", "hardware")
    inlines = (TrainerVersionInline,)


@admin.register(TrainerVersion)
class TrainerVersionAdmin(AuditedAdmin):
    """Versions come from the provider; what a run has shown of one is noted here."""

    audited_as = "trainer_version"
    list_display = ("version", "trainer", "provider", "unpacks_archives", "published_at", "fetched_at")
    list_filter = ("unpacks_archives", "provider", "trainer")
    list_select_related = ("trainer",)
    search_fields = ("version", "trainer__model", "trainer__profile")
    date_hierarchy = "fetched_at"
    fields = ("trainer", "provider", "version", "unpacks_archives", "published_at", "fetched_at", "input_schema")
    readonly_fields = ("trainer", "provider", "version", "published_at", "fetched_at", "input_schema")

    def has_add_permission(self, request):
        return False


@admin.register(TrainingConfig)
class TrainingConfigAdmin(ReadOnlyAdmin):
    list_display = ("name", "team", "is_preset", "dataset", "created_by", "modified_at")
    list_filter = ("is_preset", "team")
    list_select_related = ("team", "dataset", "created_by")
    search_fields = ("name", "description", "team__slug")
    date_hierarchy = "modified_at"
    # A dataloader may hold keys of its own.
    fields = ("team", "name", "description", "config", "tags", "is_preset", "bounds", "dataset", "created_by", "created_at", "modified_at")


class DatasetVersionInline(ReadOnlyInline):
    model = DatasetVersion
    fields = ("number", "image_count", "size_bytes", "manifest_sha256", "created_by", "created_at")

    def get_queryset(self, request):
        return super().get_queryset(request).select_related("created_by", "dataset")


@admin.register(Dataset)
class DatasetAdmin(ReadOnlyAdmin):
    list_display = ("name", "team", "created_by", "created_at", "removed_at")
    list_filter = (("removed_at", admin.EmptyFieldListFilter), "team")
    list_select_related = ("team", "created_by")
    search_fields = ("name", "description", "team__slug")
    date_hierarchy = "created_at"
    inlines = (DatasetVersionInline,)


@admin.register(DatasetVersion)
class DatasetVersionAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "team", "image_count", "size_bytes", "manifest_sha256", "created_by", "created_at")
    list_filter = ("dataset__team",)
    list_select_related = ("dataset__team", "created_by")
    search_fields = ("dataset__name", "manifest_sha256", "dataset__team__slug")
    date_hierarchy = "created_at"

    team = of_team("dataset")


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


# --- What may go ------------------------------------------------------------------------------------------


@admin.register(QueueSettings)
class QueueSettingsAdmin(AuditedAdmin):
    """How many jobs go at the same time, and whether any go; the row without a team is the platform's."""

    audited_as = "queue_settings"
    list_display = ("__str__", "team", "mode", "max_concurrent", "team_max_concurrent", "user_max_concurrent")
    list_filter = ("mode",)
    list_select_related = ("team",)
    search_fields = ("team__name", "team__slug")
    autocomplete_fields = ("team",)

    def audited_team(self, obj):
        return obj.team

    def get_readonly_fields(self, request, obj=None):
        return ("team",) if obj else ()


@admin.register(ApprovalRule)
class ApprovalRuleAdmin(ReadOnlyAdmin):
    list_display = ("name", "team", "condition", "threshold", "priority", "required_role", "is_active")
    list_filter = ("is_active", "condition", "required_role", "team")
    list_select_related = ("team",)
    search_fields = ("name", "description", "team__slug")
    date_hierarchy = "created_at"


@admin.register(ApprovalRequest)
class ApprovalRequestAdmin(ReadOnlyAdmin):
    list_display = ("job", "team", "state", "reason", "required_role", "created_at", "expires_at", "reviewed_by", "reviewed_at")
    list_filter = ("state", "required_role", "job__team")
    list_select_related = ("job__team", "reviewed_by")
    search_fields = (*BY_JOB, "reason", "reviewed_by__username")
    date_hierarchy = "created_at"

    team = of_team("job")


@admin.register(JobQuota)
class JobQuotaAdmin(ReadOnlyAdmin):
    list_display = ("team", "user", "kind", "limit_value", "action")
    list_filter = ("kind", "action", "team")
    list_select_related = ("team", "user")
    search_fields = ("team__slug", "user__username", "user__email")


@admin.register(Consent)
class ConsentAdmin(ReadOnlyAdmin):
    list_display = ("team", "user", "given_at", "withdrawn_at")
    list_filter = (("withdrawn_at", admin.EmptyFieldListFilter), "team")
    list_select_related = ("team", "user")
    search_fields = ("team__slug", "user__username", "user__email")
    date_hierarchy = "given_at"
