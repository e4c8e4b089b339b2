"""Looking into a team's inbox: what passes a filter, what came from where, how fast it comes, and what was checked of one delivery."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from accounts.audit import MASK, SECRET_FIELDS
from accounts.callers import is_within
from accounts.models import Team
from webhooks.models import Delivery, DeliveryQuerySet, DeliveryState, OutsideAddress, Proof

# What did not deliver for so long counts as unused.
UNUSED_AFTER = timedelta(days=30)


@dataclass(frozen=True, kw_only=True)
class Sought:
    """What deliveries are looked for; nothing said is no condition."""

    state: str = ""
    event: str = ""
    job_id: str = ""
    address: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def __str__(self) -> str:
        """As the audit trail tells it."""
        said = {name: value for name, value in vars(self).items() if value}
        return ", ".join(f"{name}={value.isoformat() if isinstance(value, datetime) else value}" for name, value in said.items())

    def among(self, deliveries: DeliveryQuerySet) -> DeliveryQuerySet:
        said = {
            "state": self.state,
            "event": self.event,
            "job__job_id": self.job_id,
            "address": self.address,
            "received_at__gte": self.since,
            "received_at__lt": self.until,
        }
        return deliveries.filter(**{name: value for name, value in said.items() if value})


def of(team: Team) -> DeliveryQuerySet:
    """The team's deliveries, newest first."""
    return Delivery.objects.of(team).select_related("job__team").defer("held_log").order_by("-received_at", "-pk")


# --- From where -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drift:
    """How the list and the addresses that deliver differ: who came from outside, and which networks of the list nobody used."""

    outside: list[OutsideAddress]
    unused: list[str]


def drift(team: Team, allowed: list[str], *, now: datetime) -> Drift:
    """Addresses that the list lets in by now are no drift any more, but with it their counts stay to be seen in the inbox."""
    outside = [row for row in team.outside_addresses.all() if allowed and not is_within(row.address, allowed)]
    recent = Delivery.objects.of(team).filter(received_at__gt=now - UNUSED_AFTER).exclude(address=None)
    addresses = set(recent.order_by().values_list("address", flat=True).distinct()) if allowed else set()
    return Drift(outside, [network for network in allowed if not any(is_within(address or "", [network]) for address in addresses)])


# --- How well it goes -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """The newest delivery, and the last day in numbers. Of one that is held the first try counts as rejected, of all others each."""

    newest: Delivery | None
    taken: int
    rejected: int
    held: int
    dead: int

    @property
    def acceptance(self) -> int | None:
        """Whole percent of what came; None where nothing did. What is not all is never 100."""
        every = self.taken + self.rejected
        return None if not every else 100 * self.taken // every


def standing(team: Team, *, now: datetime) -> Standing:
    day, deliveries = now - timedelta(days=1), Delivery.objects.of(team)
    newest = of(team).first()
    return Standing(
        newest=newest,
        taken=deliveries.filter(received_at__gt=day).exclude(state__in=[DeliveryState.HELD, DeliveryState.QUARANTINED]).count(),
        rejected=team.audit_lines.filter(event_type="webhook.rejected", at__gt=day).count(),
        held=deliveries.held().count(),
        dead=deliveries.filter(state=DeliveryState.DEAD).count(),
    )


# --- One delivery -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: passed, failed, or None where there was nothing to check, with what was found."""

    name: str | Promise
    passed: bool | None
    found: str | Promise


def checks(delivery: Delivery) -> list[Check]:
    """What was checked of a delivery, in the order in which it was."""
    lag, is_other, is_apart = delivery.lag, delivery.is_of_another_run, delivery.state == DeliveryState.QUARANTINED
    return [
        Check(_("Proof"), None if delivery.proof == Proof.NONE else True, delivery.get_proof_display()),
        Check(
            _("Time stamp"),
            None if lag is None else True,
            _("none") if lag is None else _("%(seconds)d s before it arrived") % {"seconds": lag.total_seconds()},
        ),
        Check(_("Address"), not delivery.is_outside, _("outside the list") if delivery.is_outside else _("let in")),
        Check(_("Id"), not is_apart, delivery.get_state_display() if is_apart else _("new")),
        Check(_("Run"), not is_other, _("another one than the job's: it changes nothing") if is_other else _("the job's own")),
    ]


def shown(value: Any) -> Any:
    """Content as people see it: what is named like a secret is masked. None belongs there, and a mistake must not show."""
    if isinstance(value, dict):
        return {
            name: MASK if item and not isinstance(item, bool) and SECRET_FIELDS.search(name) else shown(item)
            for name, item in value.items()
        }
    return [shown(item) for item in value] if isinstance(value, list) else value


def of_keys(team: Team, keys: Iterable[str]) -> DeliveryQuerySet:
    """Those of the team's deliveries that somebody ticked."""
    return Delivery.objects.of(team).filter(pk__in=[int(key) for key in keys if key.isascii() and key.isdigit() and len(key) < 18])
