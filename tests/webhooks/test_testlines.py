"""What a test of the address says line by line: every reason has its line, what comes before it passed, what comes after was not tried."""

import pytest

from accounts.roles import Role
from jobs.outbound import SENTENCES as TROUBLES
from jobs.outbound import Reason
from tests.factories import MembershipFactory
from webhooks import testlines
from webhooks.testing import ARRIVED, SENTENCES, Finding, Outcome
from webhooks.testlines import LIST, NAMES, OURS, REACHABLE, SIGNATURE, TLS

HTTPS = "https://tunehouse.example.com/api/webhooks/replicate"
NAMED = {"host": "h", "status": "1", "said": "s", "proxy": "p"}


def marks(reason, *, address=HTTPS, latency=12.3):
    outcome = Outcome(success=reason in ARRIVED, reason=reason, sentence="What was found", latency_ms=latency)
    return {str(line.name): (line.mark, line.found) for line in testlines.lines(outcome, address=address)}


def states(reason, **more):
    return [mark for mark, _ in marks(reason, **more).values()]


def test_all_that_passes_is_ticked_with_the_latency():
    assert states(Finding.ARRIVED) == ["check"] * 7
    assert marks(Finding.ARRIVED)["Latency"] == ("check", "12 ms")


@pytest.mark.parametrize("reason", sorted(ARRIVED - {Finding.ARRIVED}))
def test_a_signature_that_was_not_tried_has_no_tick(reason):
    assert states(reason)[SIGNATURE] == "event"
    assert states(reason)[:SIGNATURE] == ["check"] * SIGNATURE


@pytest.mark.parametrize(
    ("reason", "failed"),
    [
        (Finding.NO_ADDRESS, REACHABLE),
        (Reason.REFUSED, REACHABLE),
        (Reason.CERTIFICATE_EXPIRED, TLS),
        (Finding.REDIRECT, TLS + 1),
        (Finding.NOT_FOUND, OURS),
        (Finding.ALLOWLIST, LIST),
        (Finding.SIGNATURE, SIGNATURE),
        ("not_reached", REACHABLE),
    ],
)
def test_what_failed_is_crossed_and_what_comes_after_was_not_tried(reason, failed):
    found = list(marks(reason, latency=None).values())

    assert found[:failed] == [("check", "")] * failed
    assert found[failed] == ("failed", "What was found")
    assert [mark for mark, _ in found[failed + 1 :]] == ["event"] * (len(NAMES) - failed)


@pytest.mark.parametrize("reason", [*sorted(set(Finding) - ARRIVED), *Reason])
def test_every_reason_that_there_is_crosses_one_line(reason):
    assert states(reason).count("failed") == 1
    assert (SENTENCES | TROUBLES)[reason] % NAMED


def test_over_http_there_is_no_tls_to_pass():
    assert states(Finding.ARRIVED, address="http://127.0.0.1:8000/x")[TLS] == "event"


def test_the_providers_machine_tells_less(client, db, no_provider):
    assert states("reached")[:3] == ["check", "check", "event"]
    assert set(states("no_model", latency=None)) == {"event"}


def test_the_page_shows_the_lines_once(client, db, no_provider, settings):
    settings.PUBLIC_URL = ""
    member = MembershipFactory(role=Role.OWNER)
    client.force_login(member.user)
    page = f"/t/{member.team.slug}/settings/webhooks/"

    shown = client.post(f"{page}test/", follow=True)
    again = client.get(page)

    assert shown.content.decode().count("not tried") == 6
    assert ("not tried" in again.content.decode(), "Needed only if this server stands behind a firewall" in again.content.decode()) == (
        False,
        True,
    )
