"""The inbox: every webhook request that named a job of ours and was proven, and the addresses that it came from unexpectedly."""

from datetime import UTC, datetime, timedelta

from django.db import models
from django.db.models import Count, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Team
from jobs.models import Job
from jobs.states import State
from webhooks.trainer_events import TrainerWord


class DeliveryState(models.TextChoices):
    RECEIVED = "received", _("received")
    APPLIED = "applied", _("applied")
    HELD = "held", _("held: from an address outside the list")
    DEAD = "dead", _("could not be applied")
    QUARANTINED = "quarantined", _("same id, other content")


# What may be applied again: the others wait for a person, or contradict what came before.
REPLAYABLE = (DeliveryState.RECEIVED, DeliveryState.APPLIED, DeliveryState.DEAD)


class Source(models.TextChoices):
    PROVIDER = "provider", _("Replicate")
    TRAINER = "trainer", _("the trainer itself")


class Proof(models.TextChoices):
    """What proved that a delivery may be believed."""

    SIGNATURE = "signature", _("signed by the job's account")
    KEY = "key", _("sent to the job's own address")
    NONE = "none", _("unsigned, and the team asks for no signature")


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def of(self, team: Team) -> "DeliveryQuerySet":
        return self.filter(job__team=team)

    def unapplied(self) -> "DeliveryQuerySet":
        return self.filter(state=DeliveryState.RECEIVED)

    def due(self, *, now: datetime) -> "DeliveryQuerySet":
        """Those to be applied whose turn has come: one that failed rests for a while."""
        return self.unapplied().filter(Q(try_after=None) | Q(try_after__lte=now))

    def held(self) -> "DeliveryQuerySet":
        return self.filter(state=DeliveryState.HELD)

    def replayable(self) -> "DeliveryQuerySet":
        return self.filter(state__in=REPLAYABLE)

    def standing(self) -> dict[str, int]:
        """How many there are, and how many of them wait for a person."""
        return self.aggregate(total=Count("pk"), held=Count("pk", filter=Q(state=DeliveryState.HELD)))


class Delivery(models.Model):
    """One inbound webhook request. Committed before it is answered, applied later, once.

    `content` is the body without `input` and `webhook` (which may hold secrets) and without `logs` (kept once, as the
    job's log); `logs_length` and `logs_sha256` say what the body's logs were. Only while it is held its log waits
    beside it, in `held_log`.
    """

    webhook_id = models.CharField(_("webhook id"), max_length=200)
    job = models.ForeignKey(Job, models.CASCADE, related_name="deliveries")
    source = models.CharField(_("source"), max_length=10, choices=Source.choices, default=Source.PROVIDER)
    # Replicate's bodies name no event; this is what theirs most likely was.
    event = models.CharField(_("event"), max_length=30, choices=[(word.value, word.value) for word in TrainerWord], blank=True)
    received_at = models.DateTimeField(_("received at"), default=timezone.now)
    address = models.GenericIPAddressField(_("from"), null=True)
    # It came from outside the team's list, as the list was then.
    is_outside = models.BooleanField(_("outside the list"), default=False)
    proof = models.CharField(_("proof"), max_length=10, choices=Proof.choices, default=Proof.SIGNATURE)
    headers = models.JSONField(default=dict)
    body_sha256 = models.CharField("SHA-256", max_length=64)
    body_bytes = models.PositiveIntegerField(_("size"))
    content = models.JSONField(default=dict)
    logs_length = models.PositiveIntegerField(null=True)
    logs_sha256 = models.CharField(max_length=64, blank=True)
    held_log = models.TextField(blank=True, editable=False)
    repeats = models.PositiveIntegerField(_("repeats"), default=0)
    state = models.CharField(_("state"), max_length=12, choices=DeliveryState.choices, default=DeliveryState.RECEIVED)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    try_after = models.DateTimeField(_("tried again after"), null=True, blank=True)
    applied_at = models.DateTimeField(_("applied at"), null=True, blank=True)
    moved_to = models.CharField(_("moved the job to"), max_length=10, choices=State.choices, blank=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        ordering = ["-received_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["webhook_id"], condition=~Q(state="quarantined"), name="one_delivery_per_webhook_id"),
            models.UniqueConstraint(fields=["webhook_id", "body_sha256"], name="one_delivery_per_webhook_id_and_content"),
        ]
        indexes = [models.Index(fields=["received_at"], condition=Q(state="received"), name="delivery_unapplied")]

    def __str__(self) -> str:
        return self.webhook_id

    @property
    def sent_at(self) -> datetime | None:
        """When the sender made this attempt, by its own clock."""
        stamp = str(self.headers.get("webhook-timestamp", ""))
        return datetime.fromtimestamp(int(stamp), UTC) if stamp.isascii() and stamp.isdigit() and len(stamp) <= 10 else None

    @property
    def lag(self) -> timedelta | None:
        """How long it was on its way, to the second and never below 0: two clocks are compared. None without a time stamp."""
        return max(timedelta(0), self.received_at - self.sent_at) if self.sent_at else None

    @property
    def is_of_another_run(self) -> bool:
        """Whether it speaks of a run that is not the job's: it was proven all the same, and changes nothing."""
        named = self.content.get("id" if self.source == Source.PROVIDER else "prediction_id")
        return bool(named and self.job.prediction_id and named != self.job.prediction_id)

    @property
    def may_be_replayed(self) -> bool:
        return self.state in REPLAYABLE


class OutsideAddress(models.Model):
    """An address outside a team's list from which well signed deliveries came: the list and the provider drift apart.

    `held` and `passed` count requests, repeats of the same delivery as well. `told_at` is when the team was last told.
    """

    team = models.ForeignKey(Team, models.CASCADE, related_name="outside_addresses")
    address = models.GenericIPAddressField(_("address"))
    first_seen_at = models.DateTimeField(_("first seen"), default=timezone.now)
    last_seen_at = models.DateTimeField(_("last seen"), default=timezone.now)
    held = models.PositiveIntegerField(_("held"), default=0)
    passed = models.PositiveIntegerField(_("passed"), default=0)
    told_at = models.DateTimeField(_("told at"), null=True, blank=True)

    class Meta:
        verbose_name = _("address outside the list")
        verbose_name_plural = _("addresses outside the list")
        ordering = ["-last_seen_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["team", "address"], name="one_row_per_team_and_address")]

    def __str__(self) -> str:
        return self.address
