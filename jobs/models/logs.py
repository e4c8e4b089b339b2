"""A job's log, kept once as it grows, and what the parser reads out of it."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from jobs.models.job import Job


class JobProgress(models.Model):
    """Where a job's log ends and what it said last. Its row lock puts those who append in a row.

    `length` is the cursor: characters of the provider's log that we have. Kept apart from the job because it
    changes every few seconds.
    """

    job = models.OneToOneField(Job, models.CASCADE, related_name="progress")
    length = models.PositiveIntegerField(_("log length"), default=0)
    # Whole ones: a carriage return at the very end may yet be half of a line's end.
    lines = models.PositiveIntegerField(_("log lines"), default=0)
    stage = models.CharField(_("stage"), max_length=30, blank=True)
    step = models.PositiveIntegerField(_("step"), null=True)
    total_steps = models.PositiveIntegerField(_("steps"), null=True)
    percent = models.DecimalField(_("progress (%)"), max_digits=4, decimal_places=1, null=True)
    last_log = models.CharField(_("last line"), max_length=80, blank=True)
    loss = models.FloatField(_("loss"), null=True)
    learning_rate = models.FloatField(_("learning rate"), null=True)
    seconds_left = models.PositiveIntegerField(_("seconds left"), null=True)
    parser = models.JSONField(default=dict, editable=False)
    heard_at = models.DateTimeField(_("last webhook at"), null=True)
    polled_at = models.DateTimeField(_("last polled at"), null=True)
    # A list says how a job is, but not its log: when the provider was last asked about this one alone.
    asked_at = models.DateTimeField(null=True, editable=False)
    watched_at = models.DateTimeField(null=True, editable=False)
    # A webhook or an answered poll, whether it was news or not.
    told_at = models.DateTimeField(_("last heard of at"), null=True)
    grew_at = models.DateTimeField(_("log grew at"), null=True)
    # Lines that tell why a run failed, by the name of the sign: see `jobs.replicate.signs`.
    signs = models.JSONField(default=dict, editable=False)
    stuck_as = models.JSONField(_("stuck as"), default=list, blank=True, help_text=_("The troubles that its submitter was told of."))

    class Meta:
        verbose_name = _("progress")
        verbose_name_plural = _("progress")

    def __str__(self) -> str:
        return f"{self.step}/{self.total_steps}"


class LogChunk(models.Model):
    """A piece of a job's log from `start` (characters) on, behind so many `lines`. Appending writes one row and rewrites none."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="log_chunks")
    start = models.PositiveIntegerField()
    lines = models.PositiveIntegerField(default=0)
    text = models.TextField()

    class Meta:
        ordering = ["start"]
        constraints = [models.UniqueConstraint(fields=["job", "start"], name="a_log_has_no_forks")]

    def __str__(self) -> str:
        return f"{self.start}+{len(self.text)}"


class SeriesPoint(models.Model):
    """Loss and learning rate at a step. Of a long run the lowest and the highest of each stretch of steps are kept."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="series")
    step = models.PositiveIntegerField()
    loss = models.FloatField(null=True)
    learning_rate = models.FloatField(null=True)

    class Meta:
        ordering = ["step"]
        constraints = [models.UniqueConstraint(fields=["job", "step"], name="one_point_per_step")]

    def __str__(self) -> str:
        return f"{self.step}: {self.loss}"
