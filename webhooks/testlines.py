"""A test of the webhook address line by line: what passed, what failed, and what was not tried because of that."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from jobs.outbound import Reason
from webhooks.testing import ARRIVED, Finding, Outcome

REACHABLE, TLS, DIRECT, OURS, LIST, SIGNATURE = range(6)
NAMES = (
    _("Reachable"),
    _("TLS"),
    _("No redirect"),
    _("Answered by this server"),
    _("Let in by the list of addresses"),
    _("Signature, there and back"),
)
# The first line that failed, by the reason of a test; each after it was not tried.
FAILS_AT: dict[str, int] = {
    **dict.fromkeys([reason.value for reason in Reason], REACHABLE),
    **dict.fromkeys([Reason.CERTIFICATE, Reason.CERTIFICATE_EXPIRED, Reason.CERTIFICATE_NAME, Reason.TLS], TLS),
    **dict.fromkeys([Finding.NO_ADDRESS, Finding.NOT_PUBLIC, Finding.PRIVATE_HERE, "not_reached"], REACHABLE),
    Finding.REDIRECT: DIRECT,
    **dict.fromkeys([Finding.TURNED_AWAY, Finding.UNKNOWN_HOST, Finding.NOT_FOUND, Finding.OTHER_INSTALLATION], OURS),
    **dict.fromkeys([Finding.NOT_PASSED_ON, Finding.SOMETHING_ELSE], OURS),
    Finding.ALLOWLIST: LIST,
    Finding.SIGNATURE: SIGNATURE,
}


@dataclass(frozen=True)
class Line:
    """One line: passed, failed, or None for not tried."""

    name: str | Promise
    passed: bool | None
    found: str = ""

    @property
    def mark(self) -> str:
        """The picture that stands before it."""
        return {True: "check", False: "failed", None: "event"}[self.passed]


def lines(outcome: Outcome, *, address: str) -> list[Line]:
    """The lines of a test of this address. Of a test by the provider's machine only as much as it tells."""
    passed = _passed(outcome)
    if urlsplit(address).scheme != "https":
        passed[TLS] = None
    failed = FAILS_AT.get(outcome.reason)
    named = enumerate(zip(NAMES, passed, strict=True))
    found = [Line(name, state, outcome.translated if number == failed else "") for number, (name, state) in named]
    latency = gettext("%(ms)d ms") % {"ms": outcome.latency_ms} if outcome.latency_ms is not None else ""
    return [*found, Line(_("Latency"), True if latency else None, latency)]


def _passed(outcome: Outcome) -> list[bool | None]:
    if (failed := FAILS_AT.get(outcome.reason)) is not None:
        return [True] * failed + [False] + [None] * (SIGNATURE - failed)
    if outcome.reason == "reached":  # by the provider's machine, which signs nothing and says no more
        return [True, True, None, None, None, None]
    if outcome.reason in ARRIVED:
        return [True] * SIGNATURE + [True if outcome.reason == Finding.ARRIVED else None]
    return [None] * len(NAMES)
