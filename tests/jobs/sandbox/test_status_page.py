import httpx
import pytest

from . import servers


@pytest.fixture
def page(tmp_path):
    """A status page of its own: what it tells is the same for everybody."""
    sandbox = servers.Sandbox(tmp_path, speed=1)
    yield sandbox
    sandbox.stop()


def read(page, path: str) -> dict:
    return httpx.get(f"{page.url}{path}", trust_env=False).json()


def test_40_the_status_page_says_that_all_is_well(page):
    widget, summary = read(page, "/api/v1/summary"), read(page, "/api/v2/summary.json")

    assert widget["page_url"] == "https://www.replicatestatus.com"
    assert [widget[name] for name in ("ongoing_incidents", "in_progress_maintenances", "scheduled_maintenances")] == [[], [], []]
    assert summary["status"] == {"indicator": "none", "description": "All Systems Operational"}
    assert (summary["incidents"], summary["scheduled_maintenances"]) == ([], [])


@pytest.mark.parametrize(
    ("impact", "indicator"), [("degraded_performance", "minor"), ("partial_outage", "major"), ("full_outage", "critical")]
)
def test_40_the_status_page_can_tell_of_an_incident(page, impact, indicator):
    page.control("settings", incident=impact)

    [incident] = read(page, "/api/v1/summary")["ongoing_incidents"]
    summary = read(page, "/api/v2/summary.json")

    assert (incident["status"], incident["current_worst_impact"]) == ("investigating", impact)
    assert incident["affected_components"][0]["current_status"] == impact
    assert summary["status"]["indicator"] == summary["incidents"][0]["impact"] == indicator
    assert summary["components"][0]["status"] == impact


@pytest.mark.parametrize(
    ("maintenance", "key", "moment"),
    [("in_progress", "in_progress_maintenances", "started_at"), ("scheduled", "scheduled_maintenances", "starts_at")],
)
def test_40_the_status_page_can_tell_of_maintenance(page, maintenance, key, moment):
    page.control("settings", maintenance=maintenance)

    [found] = read(page, "/api/v1/summary")[key]
    [planned] = read(page, "/api/v2/summary.json")["scheduled_maintenances"]

    assert found["status"] == f"maintenance_{maintenance}"
    assert moment in found
    assert planned["status"] == maintenance


def test_40_the_status_page_can_be_out_of_reach(page):
    page.control("settings", status_page=503)
    refused = [httpx.get(f"{page.url}{path}", trust_env=False) for path in ("/api/v1/summary", "/api/v2/summary.json")]
    page.control("settings", status_page="timeout")

    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{page.url}/api/v1/summary", trust_env=False, timeout=httpx.Timeout(60, read=0.3))

    assert [answer.status_code for answer in refused] == [503, 503]


def test_the_status_page_knows_no_accounts(page):
    answer = page.control("settings", incident="full_outage", account="team1")

    assert answer.status_code == 400
    assert answer.json() == {"error": "incident is for everybody: the status page knows no accounts."}
