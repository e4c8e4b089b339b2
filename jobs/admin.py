"""The administration of jobs: to see what runs and why not, to cancel and to look again.

What services write is only shown. Edited here are the trainer catalogue and the queue's settings.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.admin import TabularInline
from unfold.decorators import action
from unfold.forms import ActionForm
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.admin import AuditedAdmin, ReadOnlyAdmin, ReasonForm, staff_caller
from accounts.callers import Caller, Staff, address_of
from accounts.errors import Refusal
from accounts.forms import in_words
from accounts.models import User
from accounts.roles import Right, Role
from billing.columns import money
from billing.models import PriceLine
from billing.prices import dollars
from jobs.models import (
    AccountWatch,
    ApprovalRequest,
    ApprovalRule,
    Artifact,
    Breaker,
    Consent,
    Dataset,
    DatasetVersion,
    FaultRetry,
    IdempotencyKey,
    Job,
    JobEvent,
    JobProgress,
    JobQuota,
    LaunchIntent,
    ProviderEvent,
    ProviderSettings,
    ProviderStatus,
    ProviderUpload,
    QueueSettings,
    ResultDelivery,
    StorageKey,
    StrayRun,
    Trainer,
    TrainerVersion,
    TrainingConfig,
)
from jobs.models.admission import QueueMode
from jobs.services import breakers, cancelling, polling, queue, queue_changes, queue_modes, quota_changes, rule_changes, stuck

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


def of_team(path: str) -> Callable[[Any, Any], Any]:
    """A column with the team of the row that `path` leads to."""

    @admin.display(description=_("team"), ordering=f"{path}__team")
    def column(self: Any, row: Any) -> Any:
        for name in path.split("__"):
            row = getattr(row, name)
        return row.team

    return column


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
    list_display = ("job", "team", "destination", "state", "attempts", "error", "asked_at", "delivered_at")
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


class TrainerForm(forms.ModelForm):
    def clean(self) -> dict[str, Any]:
        """Two GPUs at the price of one would bill half of what is paid."""
        cleaned = super().clean() or self.cleaned_data
        line = PriceLine.objects.in_force(hardware=cleaned.get("hardware", ""), on=timezone.now()).first()
        if line and line.gpu_count != cleaned.get("gpu_count"):
            said = {"hardware": line.hardware, "count": line.gpu_count}
            self.add_error("gpu_count", _("In the price book, %(hardware)s has %(count)s GPUs.") % said)
        return cleaned


@admin.register(Trainer)
class TrainerAdmin(AuditedAdmin):
    """The catalogue. A trainer that is offered no more stays, since jobs name it."""

    audited_as = "trainer"
    form = TrainerForm
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


# --- What may go ------------------------------------------------------------------------------------------


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


class ApprovalRuleForm(forms.ModelForm):
    """A rule of the platform's, checked as a team's is."""

    exempt_roles = forms.MultipleChoiceField(
        label=_("exempt roles"), choices=Role.choices, required=False, widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = ApprovalRule
        fields = (
            *("name", "description", "condition", "threshold", "exempt_roles", "applies_to_role", "applies_to_provider"),
            *("required_role", "priority", "is_active"),
        )

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # the hook that Django documents for what the instance says
        if self.errors:
            return
        try:
            rule_changes.check(self.instance)
        except Refusal as refusal:
            self.add_error(refusal.field if refusal.field in self.fields else None, in_words(refusal))


@admin.register(ApprovalRule)
class ApprovalRuleAdmin(AuditedAdmin):
    """The platform's rules speak to all teams and are set here. A team's own are its owners', and only shown."""

    audited_as = "approval_rule"
    form = ApprovalRuleForm
    list_display = ("name", "team", "condition", "threshold", "priority", "required_role", "is_active")
    list_filter = ("is_active", "condition", "required_role", "team")
    list_select_related = ("team",)
    search_fields = ("name", "description", "team__slug")
    date_hierarchy = "created_at"

    def has_change_permission(self, request, obj=None):
        return super().has_change_permission(request, obj) and (obj is None or obj.team_id is None)

    def save_model(self, request, obj, form, change):
        if not change:
            obj.created_by = request.user
        super().save_model(request, obj, form, change)


@admin.register(ApprovalRequest)
class ApprovalRequestAdmin(ReadOnlyAdmin):
    list_display = ("job", "team", "state", "reason", "required_role", "created_at", "expires_at", "reviewed_by", "reviewed_at")
    list_filter = ("state", "required_role", "job__team")
    list_select_related = ("job__team", "reviewed_by")
    search_fields = (*BY_JOB, "reason", "reviewed_by__username")
    date_hierarchy = "created_at"

    team = of_team("job")


@admin.register(JobQuota)
class JobQuotaAdmin(AuditedAdmin):
    """Quotas of jobs and storage; those without a team are the platform's. Quotas of money are spend limits, in billing."""

    audited_as = "job_quota"
    fields = ("scope", "team", "user", "role", "kind", "limit_value", "action")
    list_display = ("kind", "limit_value", "action", "scope", "team", "user", "role", "updated_at")
    list_filter = ("scope", "kind", "action", "team")
    list_select_related = ("team", "user")
    search_fields = ("team__slug", "user__username", "user__email")
    autocomplete_fields = ("team", "user")
    date_hierarchy = "updated_at"

    def audited_team(self, obj):
        return obj.team

    def get_readonly_fields(self, request, obj=None):
        # Another kind, or for others, is another quota.
        return ("scope", "team", "user", "role", "kind") if obj else ()

    def has_delete_permission(self, request, obj=None):
        return self.has_act_permission(request)

    def delete_model(self, request, obj):
        quota_changes.remove_as_staff(obj, by=Staff(user=request.user, address=address_of(request)))

    def delete_queryset(self, request, queryset):
        for row in queryset:
            self.delete_model(request, row)


@admin.register(Consent)
class ConsentAdmin(ReadOnlyAdmin):
    list_display = ("team", "user", "given_at", "withdrawn_at")
    list_filter = (("withdrawn_at", admin.EmptyFieldListFilter), "team")
    list_select_related = ("team", "user")
    search_fields = ("team__slug", "user__username", "user__email")
    date_hierarchy = "given_at"
