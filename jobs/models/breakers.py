"""Circuit breakers: whether the provider is asked at all, since it did not answer of late."""

from datetime import datetime, timedelta

from django.db import models
from django.utils.translation import gettext_lazy as _

from accounts.models import Credential, CredentialKind

# Source: simpletuner-api.md, 13.
REST_SECONDS = {CredentialKind.REPLICATE: 30}
REST_SECONDS_ELSE = 60


class BreakerState(models.TextChoices):
    CLOSED = "closed", _("closed: calls go out")
    HALF_OPEN = "half_open", _("half-open: one call at a time is tried")
    OPEN = "open", _("open: no calls go out")


class Breaker(models.Model):
    """One credential's way to one address, for all processes. It has a row from its first failure on."""

    address = models.CharField(_("address"), max_length=500)
    credential = models.ForeignKey(Credential, models.CASCADE, related_name="breakers")
    state = models.CharField(_("state"), max_length=10, choices=BreakerState.choices, default=BreakerState.CLOSED)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    successes = models.PositiveIntegerField(_("successes since it was open"), default=0)
    opened_at = models.DateTimeField(_("opened at"), null=True)
    # Whoever has the trial may call; one that died with it loses it at this time.
    trial_until = models.DateTimeField(_("one call is tried until"), null=True)
    last_failure_at = models.DateTimeField(_("last failure at"), null=True)
    last_failure = models.CharField(_("last failure"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("circuit breaker")
        verbose_name_plural = _("circuit breakers")
        constraints = [models.UniqueConstraint(fields=["address", "credential"], name="one_breaker_per_address_and_credential")]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """How clients tell one from another: nothing of the secret is in it."""
        return f"{self.credential.kind}-{self.credential_id}"

    @property
    def rest(self) -> timedelta:
        """How long nobody calls once it is open."""
        return timedelta(seconds=REST_SECONDS.get(CredentialKind(self.credential.kind), REST_SECONDS_ELSE))

    def state_at(self, now: datetime) -> BreakerState:
        """The state as it acts: one that has rested lets a call be tried, although none was yet."""
        is_rested = self.state == BreakerState.OPEN and not self.seconds_left(now)
        return BreakerState.HALF_OPEN if is_rested else BreakerState(self.state)

    def seconds_left(self, now: datetime) -> float:
        """Until a call is tried again; 0 where one may be."""
        if self.state != BreakerState.OPEN or self.opened_at is None:
            return 0.0
        return max(0.0, (self.opened_at + self.rest - now).total_seconds())
