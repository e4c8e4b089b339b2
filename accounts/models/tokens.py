"""API tokens, and how often they and others call."""

from datetime import timedelta
from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models.people import User
from accounts.models.teams import Membership, Team
from accounts.roles import Right, Role, Scope, rights_of_token


class APITokenQuerySet(models.QuerySet["APIToken"]):
    def usable(self, *, now: Any) -> "APITokenQuerySet":
        """Tokens that open a door at `now`: not revoked, not expired, not past a rotation's overlap."""
        return self.filter(
            models.Q(revoked_at=None) | models.Q(revoked_at__gt=now),
            models.Q(expires_at=None) | models.Q(expires_at__gt=now),
        )

    def with_maker_here(self) -> "APITokenQuerySet":
        """Each with `has_maker_here`: whether who made it is still in the team and may sign in."""
        here = Membership.objects.filter(team=models.OuterRef("team"), user=models.OuterRef("made_by"), user__is_active=True)
        return self.annotate(has_maker_here=models.Exists(here))


class APIToken(models.Model):
    """A team's token, made by a person and shown once. Rights = its scopes ∩ its maker's role then."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="api_tokens")
    made_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="api_tokens")
    name = models.CharField(_("name"), max_length=100)
    key_id = models.CharField(_("key id"), max_length=8, unique=True, editable=False)
    secret_hash = models.CharField(max_length=64, editable=False)
    role = models.CharField(_("role of its maker"), max_length=10, choices=Role.choices)
    scopes = models.JSONField(_("scopes"), default=list)
    allowed_addresses = models.JSONField(
        _("allowed addresses"), default=list, blank=True, help_text=_("Addresses or networks; empty means all.")
    )
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    # In the future while a rotation's overlap lasts.
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)
    replaced_by = models.OneToOneField("self", models.SET_NULL, null=True, blank=True, related_name="replaces")
    # The first of those that it replaced in turn, or the token that made it: they share one spend limit.
    origin = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="descendants", editable=False)
    last_used_at = models.DateTimeField(_("last used at"), null=True, blank=True)
    last_used_address = models.GenericIPAddressField(_("last used from"), null=True, blank=True)
    last_used_endpoint = models.CharField(_("last used for"), max_length=200, blank=True)

    # After so many days without a call a token is marked as unused, the longest first.
    IDLE_AFTER_DAYS = (90, 30)

    objects = APITokenQuerySet.as_manager()

    class Meta:
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return f"{self.name} ({self.key_prefix}…)"

    @property
    def key_prefix(self) -> str:
        return f"th_{self.key_id}"

    @property
    def scope_labels(self) -> list[str]:
        return [str(scope.label) for scope in Scope if scope in self.scopes]

    @property
    def origin_key(self) -> int:
        """The key of the token whose spend limit it counts against."""
        return self.origin_id or self.pk

    @property
    def is_usable(self) -> bool:
        """Whether it opens a door now; the row in the database decides on each call."""
        now = timezone.now()
        return (self.revoked_at is None or self.revoked_at > now) and (self.expires_at is None or self.expires_at > now)

    @property
    def is_leaving(self) -> bool:
        """Whether it was replaced, and works for the rest of its overlap only."""
        return self.revoked_at is not None and self.is_usable

    @property
    def idle_days(self) -> int:
        """30 or 90 where it was not used for so many days, else 0."""
        idle = timezone.now() - (self.last_used_at or self.created_at)
        return next((days for days in self.IDLE_AFTER_DAYS if idle >= timedelta(days=days)), 0)

    @property
    def rights(self) -> frozenset[Right]:
        return rights_of_token(self.role, self.scopes)


class PaceCount(models.Model):
    """How many calls one caller made in one window of time. Its table is not logged: after a crash the counts begin anew."""

    # A keyed hash of caller and window; nothing here tells who it is.
    key = models.CharField(max_length=64, primary_key=True)
    # What was let through in the window before, in this one, and what was not.
    before = models.PositiveIntegerField()
    calls = models.PositiveIntegerField()
    refused = models.PositiveIntegerField()
    # What became of the last call.
    is_refused = models.BooleanField()
    forget_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.calls} calls, {self.refused} refused"
