"""The job: one training run, at most one prediction, and the record of what became of it."""

import secrets
from datetime import datetime, timedelta
from typing import Any

from django.db import models, transaction
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import APIToken, Credential, Team, User
from billing.models import Hold, PriceLine
from jobs.models.catalogue import Provider, Trainer
from jobs.models.datasets import DatasetVersion
from jobs.states import ACTIVE, LAUNCHED, TERMINAL, EventWord, State, WaitingReason, before

# Of the time from the creation to the stop time.
WARN_AT_PERCENT = 80
BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


def new_job_id() -> str:
    """12 characters in all: SimpleTuner's clients cut ids to 12 in their tables."""
    return "j-" + "".join(secrets.choice(BASE32) for _ in range(10))


def new_callback_key() -> str:
    return secrets.token_urlsafe(24)


class PackingPath(models.TextChoices):
    ARCHIVE = "archive", _("one archive of images named after their captions")
    STORAGE = "storage", _("read by the trainer from our storage")
    HOSTED = "hosted", _("read by the trainer from where the dataloader says")


class Destination(models.TextChoices):
    LOCAL = "local", _("kept here")
    HUB = "hub", _("Hugging Face Hub")
    S3 = "s3", _("external S3")


class Link(models.TextChoices):
    NONE = "", ""
    RETRY = "retry", _("retry of")
    CONTINUE = "continue", _("continues")
    RERUN = "rerun", _("rerun of")


class JobQuerySet(models.QuerySet["Job"]):
    def visible(self) -> "JobQuerySet":
        return self.filter(deleted_at=None)

    def active(self) -> "JobQuerySet":
        return self.filter(state__in=ACTIVE)

    def launched(self) -> "JobQuerySet":
        return self.filter(state__in=LAUNCHED)

    def unrescued(self) -> "JobQuerySet":
        """Ended jobs of whose log, output and files the provider may have something that we have not."""
        return self.filter(state__in=TERMINAL, rescued_at=None, cleaned_up_at=None).exclude(prediction_id=None)

    def admitted(self) -> "JobQuerySet":
        """Jobs that we let in, and not the runs that somebody started elsewhere."""
        return self.exclude(metadata__has_key="imported")

    def against_quotas(self) -> "JobQuerySet":
        """What job quotas count: jobs that we let in, deleted ones as well, and no rehearsals."""
        return self.admitted().exclude(provider=Provider.SANDBOX)

    def terminal(self) -> "JobQuerySet":
        return self.filter(state__in=TERMINAL)

    def submitted(self, *, since: datetime | None, until: datetime | None) -> "JobQuerySet":
        """Those from `since` on and before `until`; None sets no bound."""
        jobs = self.filter(submitted_at__gte=since) if since else self
        return jobs.filter(submitted_at__lt=until) if until else jobs

    def locked(self, pk: int, *related: str) -> "Job":
        """The job with what it points to, once nobody else has it, locked until the caller's transaction ends.

        With others it is locked first and read afterwards: one query for both would join the rows of before the wait, and lose the
        job where an approval has just given it another price or hold.
        """
        waiting = self.select_for_update(no_key=True)
        if not related:
            return waiting.get(pk=pk)
        waiting.only("pk").get(pk=pk)
        return self.select_related(*related).get(pk=pk)

    def unleased(self, *, now: datetime) -> "JobQuerySet":
        """Jobs that no worker has in hand: a lease is short, and a worker that dies lets it run out."""
        return self.filter(Q(leased_until=None) | Q(leased_until__lt=now), Q(try_after=None) | Q(try_after__lte=now))


class Job(models.Model):
    """One training run. Only `move_to` writes `state`; money stands in the hold and the ledger."""

    job_id = models.CharField(_("job"), max_length=64, unique=True, default=new_job_id, editable=False)
    team = models.ForeignKey(Team, models.PROTECT, related_name="jobs")
    provider = models.CharField(_("provider"), max_length=10, choices=Provider.choices, default=Provider.REPLICATE)
    submitted_by = models.ForeignKey(User, models.PROTECT, related_name="jobs")
    token = models.ForeignKey(APIToken, models.SET_NULL, null=True, related_name="jobs")
    correlation_id = models.CharField(max_length=64, blank=True)

    # What was asked. `config` is a snapshot with the keys as SimpleTuner names them, without dashes.
    config_name = models.CharField(_("config"), max_length=128, blank=True)
    config = models.JSONField(_("settings"), default=dict)
    dataloader = models.JSONField(default=list)
    run_name = models.CharField(_("run name"), max_length=200, blank=True)
    dataset_version = models.ForeignKey(DatasetVersion, models.PROTECT, null=True, related_name="jobs")
    packing_path = models.CharField(_("data goes by"), max_length=10, choices=PackingPath.choices)
    trainer = models.ForeignKey(Trainer, models.PROTECT, related_name="jobs")
    version = models.CharField(_("trainer version"), max_length=64, blank=True)
    destination = models.CharField(_("result goes to"), max_length=5, choices=Destination.choices)
    hub_model_id = models.CharField(_("Hub repository"), max_length=200, blank=True)
    credential = models.ForeignKey(Credential, models.PROTECT, related_name="jobs")
    hub_credential = models.ForeignKey(Credential, models.PROTECT, null=True, related_name="+")
    s3_credential = models.ForeignKey(Credential, models.PROTECT, null=True, related_name="+")
    metadata = models.JSONField(default=dict)
    upload_id = models.CharField(max_length=64, blank=True)
    parent = models.ForeignKey("self", models.PROTECT, null=True, related_name="linked_jobs")
    link = models.CharField(_("link"), max_length=10, choices=Link.choices, default=Link.NONE, blank=True)

    # What makes runs alike: read from the config at admission, so that estimates can look for it.
    model_family = models.CharField(_("model family"), max_length=50, blank=True)
    model_kind = models.CharField(_("kind of training"), max_length=4, blank=True)
    resolution = models.CharField(_("resolution"), max_length=50, blank=True)
    images_a_step = models.PositiveIntegerField(_("images a step"), null=True)

    # Money and time. The ceiling is fixed for life; the stop time is ours, and may move below it.
    hold = models.OneToOneField(Hold, models.PROTECT, null=True, related_name="+")
    price_line = models.ForeignKey(PriceLine, models.PROTECT, related_name="+")
    estimate_low = models.PositiveBigIntegerField(null=True)
    estimate_high = models.PositiveBigIntegerField(null=True)
    estimate_source = models.CharField(_("the estimate rests on"), max_length=300, blank=True)
    ceiling_seconds = models.PositiveIntegerField(_("ceiling (seconds)"))
    stop_after_seconds = models.PositiveIntegerField(_("stop time (seconds)"))
    # For the stop time as it is now; moving it arms the warning again.
    stop_warned_at = models.DateTimeField(_("warned of the stop time at"), null=True)
    billed_seconds = models.DecimalField(_("billed seconds"), max_digits=14, decimal_places=6, null=True)
    cost = models.PositiveBigIntegerField(_("cost"), null=True, help_text=_("Micro-dollars, as settled. Adjustments stand in the hold."))

    # The queue.
    priority = models.PositiveSmallIntegerField(_("priority"), default=10)
    priority_override = models.PositiveSmallIntegerField(_("priority override"), null=True)
    not_before = models.DateTimeField(_("not before"), null=True)
    waiting_reason = models.CharField(
        _("why it waits"), max_length=20, choices=WaitingReason.choices, default=WaitingReason.NONE, blank=True
    )
    leased_until = models.DateTimeField(null=True, editable=False)
    try_after = models.DateTimeField(null=True, editable=False)

    # What happened.
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.PENDING, editable=False)
    submitted_at = models.DateTimeField(_("submitted at"))
    dispatched_at = models.DateTimeField(_("dispatched at"), null=True)
    queued_at = models.DateTimeField(_("queued at"), null=True)
    started_at = models.DateTimeField(_("started at"), null=True)
    ended_at = models.DateTimeField(_("ended at"), null=True)
    cancel_requested_at = models.DateTimeField(_("cancel requested at"), null=True)
    cancel_requested_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    cancel_sent_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(_("deleted at"), null=True)
    prediction_id = models.CharField(_("prediction"), max_length=64, unique=True, null=True)
    # The provider's own time of creation: ceiling and deadline count from it.
    created_at_provider = models.DateTimeField(null=True)
    provider_status = models.CharField(_("provider's word"), max_length=50, blank=True)
    # Unguessable part of the callback's address; ties a delivery to this job.
    callback_key = models.CharField(max_length=64, default=new_callback_key, editable=False)
    error = models.TextField(_("error"), blank=True)
    output_url = models.TextField(_("output"), blank=True)
    # Each address or text of the provider's output as `reference`. One that is a file at the provider has a `key` too, its name
    # among the artifacts, and `stored_at`, or `lost_at` with the `reason`.
    outputs = models.JSONField(_("outputs"), default=list)
    metrics = models.JSONField(_("provider's figures"), default=dict)
    archived_at = models.DateTimeField(_("logs and output archived at"), null=True)
    provider_forgot_at = models.DateTimeField(_("provider removed the data at"), null=True)
    # Nothing is left at the provider that we have not: it is here, or lost.
    rescued_at = models.DateTimeField(_("nothing left to rescue at"), null=True, editable=False)
    archive_alarm_at = models.DateTimeField(_("alarm that it is not archived"), null=True, editable=False)
    cleaned_up_at = models.DateTimeField(null=True, editable=False)

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        ordering = ["-submitted_at", "-id"]
        constraints = [
            models.CheckConstraint(condition=Q(stop_after_seconds__lte=models.F("ceiling_seconds")), name="job_stops_within_its_ceiling"),
            models.CheckConstraint(condition=Q(ceiling_seconds__gte=5, ceiling_seconds__lte=86_400), name="job_ceiling_is_at_most_a_day"),
        ]
        indexes = [
            models.Index(fields=["team", "-submitted_at"], name="job_by_team"),
            models.Index(fields=["team", "upload_id"], condition=~Q(upload_id=""), name="job_by_upload"),
            models.Index(fields=["state", "try_after"], condition=Q(state__in=sorted(ACTIVE)), name="job_active"),
            models.Index(fields=["ended_at"], condition=Q(cleaned_up_at=None), name="job_to_clean_up"),
            models.Index(fields=["-ended_at"], condition=Q(ended_at__isnull=False, dispatched_at__isnull=False), name="job_ended"),
            models.Index(fields=["ended_at"], condition=Q(state__in=sorted(TERMINAL), rescued_at=None), name="job_to_rescue"),
            models.Index(
                fields=["team", "model_family", "model_kind", "-ended_at"], condition=Q(state=State.COMPLETED), name="job_experience"
            ),
        ]

    def __str__(self) -> str:
        return self.job_id

    def get_absolute_url(self) -> str:
        return reverse("jobs:detail", args=[self.team.slug, self.job_id])

    @property
    def is_terminal(self) -> bool:
        return self.state in TERMINAL

    @property
    def is_rehearsal(self) -> bool:
        return self.provider == Provider.SANDBOX

    @property
    def is_imported(self) -> bool:
        """Whether it was started elsewhere and found at the provider: nothing is held for it, and no ledger line speaks of it."""
        return bool(self.metadata.get("imported"))

    @property
    def reference(self) -> str:
        """How holds and ledger lines name this job."""
        return f"job:{self.job_id}"

    @property
    def stop_at(self) -> datetime | None:
        """When the watchdog cancels; known once the provider has created the prediction. Never for a run that was started elsewhere."""
        return self._after_creation(self.stop_after_seconds)

    @property
    def warn_at(self) -> datetime | None:
        """When the submitter is told that the stop time is near."""
        return self._after_creation(self.stop_after_seconds * WARN_AT_PERCENT / 100)

    @property
    def ceiling_at(self) -> datetime | None:
        """When the provider itself ends the run, whatever we do."""
        return self._after_creation(self.ceiling_seconds)

    def _after_creation(self, seconds: float) -> datetime | None:
        created = None if self.is_imported else self.created_at_provider
        return created + timedelta(seconds=seconds) if created else None

    def duration_seconds(self, *, now: datetime) -> float | None:
        """Seconds from start to end, or to `now` while it runs; None before the start."""
        if self.started_at is None:
            return None
        return max(0.0, ((self.ended_at or now) - self.started_at).total_seconds())

    def move_to(self, state: State, *, cause: str, at: datetime | None = None, **changes: Any) -> bool:
        """Move to `state` if the job may, and say whether it did.

        The row decides, not this instance: of two workers that hold the same job, one moves it and writes
        the event, and the other is told False.
        """
        with transaction.atomic():
            moved = Job.objects.filter(pk=self.pk, state__in=before(state)).update(state=state, **changes)
            if moved:
                self.events.create(state=state, cause=cause, at=at or timezone.now())
                self.refresh_from_db()
        return bool(moved)


class JobEvent(models.Model):
    """One line of a job's timeline: a move, or something worth telling that moved nothing."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="events")
    at = models.DateTimeField(_("at"), default=timezone.now)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, blank=True)
    cause = models.CharField(_("cause"), max_length=50, help_text=_("submit, dispatch, launch, webhook, poll, person, watchdog …"))
    detail = models.CharField(_("detail"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("job event")
        verbose_name_plural = _("job events")
        ordering = ["at", "id"]

    def __str__(self) -> str:
        return f"{self.state or self.detail} ({self.cause})"


class ProviderEvent(models.Model):
    """One of the provider's documented events on a job: that it happened, when first and last, and who told us first.

    One row for each word however often it happens: a log that grows a thousand times is one row with a count. `times`
    counts what was news, by webhook or by asking; `deliveries` counts the webhooks that carried the word, news or not.
    """

    job = models.ForeignKey(Job, models.CASCADE, related_name="provider_events")
    event = models.CharField(_("event"), max_length=10, choices=EventWord.choices)
    cause = models.CharField(_("cause"), max_length=50)
    at = models.DateTimeField(_("first at"))
    last_at = models.DateTimeField(_("last at"))
    times = models.PositiveIntegerField(_("times"), default=0)
    deliveries = models.PositiveIntegerField(_("webhooks"), default=0)

    class Meta:
        verbose_name = _("provider's event")
        verbose_name_plural = _("provider's events")
        ordering = ["at", "id"]
        constraints = [models.UniqueConstraint(fields=["job", "event"], name="one_row_per_job_and_event")]

    def __str__(self) -> str:
        return f"{self.event} ({self.times})"


class ProviderUpload(models.Model):
    """The provider's copy of a job's data, from our upload until we saw it deleted."""

    job = models.OneToOneField(Job, models.CASCADE, related_name="provider_upload")
    archive_sha256 = models.CharField(_("archive"), max_length=64)
    archive_bytes = models.PositiveBigIntegerField(_("size"))
    renamed = models.JSONField(default=list, help_text=_("Which image has which name in the archive."))
    file_id = models.CharField(_("file"), max_length=100, blank=True)
    url = models.CharField(max_length=500, blank=True)
    uploaded_at = models.DateTimeField(_("uploaded at"), null=True)
    expires_at = models.DateTimeField(_("expires at"), null=True)
    deleted_at = models.DateTimeField(_("deleted at"), null=True)

    class Meta:
        verbose_name = _("provider's copy")
        verbose_name_plural = _("provider's copies")

    def __str__(self) -> str:
        return self.file_id


class UploadStage(models.TextChoices):
    SCANNING = "scanning", _("reading the dataset")
    PACKAGING = "packaging", _("packing")
    UPLOADING = "uploading", _("uploading")
    COMPLETE = "complete", _("done")
    ERROR = "error", _("failed")


class UploadProgress(models.Model):
    """How far a job's data is on its way to the provider; `current` and `total` are bytes. Only for people who watch."""

    job = models.OneToOneField(Job, models.CASCADE, related_name="upload_progress")
    stage = models.CharField(_("stage"), max_length=10, choices=UploadStage.choices, default=UploadStage.SCANNING)
    current = models.PositiveBigIntegerField(default=0)
    total = models.PositiveBigIntegerField(default=0)
    updated_at = models.DateTimeField(_("updated at"), default=timezone.now)

    class Meta:
        verbose_name = _("upload")
        verbose_name_plural = _("uploads")

    def __str__(self) -> str:
        return f"{self.stage} {self.current}/{self.total}"


class FaultRetryQuerySet(models.QuerySet["FaultRetry"]):
    def due(self) -> "FaultRetryQuerySet":
        return self.filter(decided_at=None)


class FaultRetry(models.Model):
    """What the team's rule makes of a job that a fault of the provider's platform ended: one row for each, decided once and for good.

    It is written with the job's end and decided later: `retry` is the new job, none where there is a reason against it.
    """

    job = models.OneToOneField(Job, models.CASCADE, related_name="fault_retry")
    retry = models.OneToOneField(Job, models.CASCADE, null=True, related_name="retries_fault")
    # Of the chain of automatic retries that began with a job of somebody's own.
    number = models.PositiveSmallIntegerField(_("retry number"), default=0)
    reason = models.CharField(_("why there is none"), max_length=500, blank=True)
    decided_at = models.DateTimeField(_("decided at"), null=True)

    objects = FaultRetryQuerySet.as_manager()

    class Meta:
        verbose_name = _("automatic retry")
        verbose_name_plural = _("automatic retries")
        indexes = [models.Index(fields=["id"], condition=Q(decided_at=None), name="fault_retry_due")]

    def __str__(self) -> str:
        return f"{self.job_id}: {self.retry_id or self.reason}"


class IntentOutcome(models.TextChoices):
    OPEN = "open", _("not known yet")
    CREATED = "created", _("created")
    ADOPTED = "adopted", _("found and adopted")
    REFUSED = "refused", _("refused by the provider")
    ABANDONED = "abandoned", _("given up: it may exist and cannot be told apart")


class LaunchIntent(models.Model):
    """Committed before the provider is asked to create: proof that a prediction may exist."""

    job = models.OneToOneField(Job, models.CASCADE, related_name="intent")
    version = models.CharField(max_length=64)
    first_call_at = models.DateTimeField(_("first call at"))
    called_at = models.DateTimeField(_("called at"), help_text=_("Start of the newest call."))
    # Set when the newest call certainly did nothing, so that another may be made without a search.
    is_settled = models.BooleanField(default=False)
    given_up_at = models.DateTimeField(_("given up at"), null=True, help_text=_("When the newest call's answer was given up."))
    searches = models.PositiveIntegerField(default=0)
    outcome = models.CharField(_("outcome"), max_length=10, choices=IntentOutcome.choices, default=IntentOutcome.OPEN)

    class Meta:
        verbose_name = _("launch intent")
        verbose_name_plural = _("launch intents")

    def __str__(self) -> str:
        return f"{self.job_id}: {self.outcome}"
