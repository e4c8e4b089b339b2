"""SimpleTuner's figures of jobs and money, and our own report of spending, by API."""

import csv
import io
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.roles import Scope
from jobs.models import JobQuota
from tests.billing.factories import USD, SpendLimitFactory
from tests.factories import CredentialFactory, MembershipFactory, make_token
from tests.jobs.factories import ArtifactFactory, TrainerFactory
from tests.jobs.test_reports import spent

pytestmark = pytest.mark.django_db

METRICS = ["/api/metrics", "/api/cloud/metrics"]
REFRESH = ["/api/cloud/billing/refresh", "/api/metrics/billing/refresh"]
SPEND = "/api/cloud/spend"


@pytest.fixture
def call(owner, client):
    _, own = make_token(owner)

    def send(path, *, key=own, method="get", accept="", **query):
        headers = {"Authorization": f"Bearer {key}"} | ({"Accept": accept} if accept else {})
        return client.post(path, headers=headers) if method == "post" else client.get(path, query, headers=headers)

    return send


def paid(member, *, charge=USD, **options):
    now = timezone.now()
    options = {"at": now, "started_at": now - timedelta(seconds=100), "ended_at": now, "state": "completed", **options}
    return spent(member.team, charge=charge, submitted_by=member.user, **options)


def rows_of(response):
    return list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode())))


# --- SimpleTuner's rows ---------------------------------------------------------------------------------------------------


def test_metrics_tell_what_the_days_have_seen_at_both_addresses(call, owner):
    paid(owner, charge=1_500_000)
    paid(owner, charge=500_000, state="failed")
    paid(owner, charge=3 * USD, is_rehearsal=True)
    paid(owner, charge=None, at=timezone.now() - timedelta(days=3), state="running", ended_at=None)
    paid(MembershipFactory(), charge=7 * USD)

    first, second = (call(path, days=3).json() for path in METRICS)

    assert first == second
    day = {"date": timezone.now().date().isoformat(), "total_jobs": 2, "completed": 1, "failed": 1, "cancelled": 0, "local_jobs": 0}
    assert first["cost_by_day"][-1] == day | {"cloud_jobs": 2, "total_cost_usd": 2.0, "total_cost_usd_micros": 2_000_000}
    assert [row["total_jobs"] for row in first["cost_by_day"]] == [0, 0, 2]
    assert {name: value for name, value in first.items() if name != "cost_by_day"} == {
        "credit_balance": None, "estimated_jobs_remaining": None, "total_cost": 2.0, "total_cost_micros": 2_000_000, "job_count": 2,
        "avg_job_duration_seconds": 100.0, "jobs_by_status": {"completed": 1, "failed": 1}, "period_days": 3, "scope": "team",
        "would_have_cost": 3.0, "would_have_cost_micros": 3_000_000,
    }  # fmt: skip


def test_rehearsals_are_counted_apart_and_cost_nothing(call, owner):
    paid(owner, charge=3 * USD, is_rehearsal=True)

    said = call("/api/metrics", provider="sandbox").json()

    assert (said["job_count"], said["total_cost"], said["would_have_cost"]) == (1, 0.0, 3.0)


@pytest.mark.parametrize(
    ("query", "status"),
    [({"days": 0}, 400), ({"days": 366}, 400), ({"days": "x"}, 400), ({"provider": "other"}, 404), ({"days": 365}, 200)],
)
def test_metrics_refuse_what_they_do_not_know(call, query, status):
    assert call("/api/metrics", **query).status_code == status


@pytest.mark.parametrize("path", REFRESH)
def test_refreshing_says_that_there_is_no_balance_and_what_the_limit_leaves(call, owner, path):
    SpendLimitFactory(team=owner.team, amount=10 * USD)
    paid(owner, charge=2 * USD)

    said = call(path, method="post").json()

    assert (said["credit_balance"], said["estimated_jobs_remaining"]) == (None, 4)
    assert said["error"].startswith("Replicate has no call")


def test_the_status_says_what_is_there(call):
    said = call("/api/metrics/status").json()

    assert (said["enabled"], said["collectors"]) == (True, ["jobs", "costs", "usage"])
    assert isinstance(said["prometheus_enabled"], bool)


@pytest.mark.parametrize("period", ["day", "week", "month", ""])
def test_costs_are_those_of_the_calendar_period(call, owner, period):
    first, second = paid(owner, charge=1_000_001), paid(owner, charge=2 * USD, at=timezone.now() + timedelta(seconds=1))
    paid(owner, charge=None, held=5 * USD)
    paid(owner, charge=4 * USD, is_rehearsal=True)

    said = call("/api/metrics/costs", period=period).json()

    summary = said["summary"]
    assert (summary["total_cost"], summary["total_cost_micros"], summary["currency"]) == (3.000001, 3_000_001, "USD")
    assert (summary["held_micros"], summary["estimated_monthly_micros"] >= 3_000_001) == (5 * USD, True)
    assert (said["by_provider"], said["by_job_type"]) == ({"replicate": 3.000001}, {"cloud": 3.000001})
    assert [(job["job_id"], job["cost_micros"]) for job in said["recent_jobs"]] == [(second.job_id, 2 * USD), (first.job_id, 1_000_001)]


def test_usage_counts_hours_by_gpu_bytes_and_jobs(call, owner):
    two = TrainerFactory(profile="two", hardware_type="Two GPUs", gpu_count=2)
    job = paid(owner, billed_seconds=1800)
    paid(owner, billed_seconds=3600, trainer=two, state="failed")
    paid(owner, charge=None, state="running", ended_at=None)
    ArtifactFactory(job=job, size_bytes=700)

    said = call("/api/metrics/usage", period="day").json()

    assert said["gpu"] == {"total_hours": 2.5, "by_type": {"Test GPU (1GB)": 0.5, "Two GPUs": 2.0}}
    assert said["storage"] == {"used_bytes": 700, "quota_bytes": 0}
    assert said["jobs"] == {"submitted": 3, "completed": 1, "failed": 1, "cancelled": 0}


def test_usage_tells_how_many_bytes_the_team_may_keep(call, owner):
    JobQuota.objects.create(team=owner.team, scope="person", user=owner.user, kind="storage_bytes", limit_value=1)
    JobQuota.objects.create(team=owner.team, scope="team", kind="storage_bytes", limit_value=5_000)

    assert call("/api/metrics/usage").json()["storage"] == {"used_bytes": 0, "quota_bytes": 5_000}


@pytest.mark.parametrize("path", ["/api/metrics/costs", "/api/metrics/usage"])
def test_an_unknown_period_is_refused_by_name(call, path):
    answer = call(path, period="year")

    assert (answer.status_code, answer.json()["field"]) == (400, "period")


def test_who_may_not_see_the_teams_money_gets_their_own_everywhere(call, owner, researcher):
    _, key = make_token(researcher)
    paid(owner, charge=5 * USD)
    paid(researcher, charge=USD, billed_seconds=3600)

    said = {path: call(path, key=key).json() for path in ("/api/metrics", "/api/metrics/costs", "/api/metrics/usage", SPEND)}

    assert {answer["scope"] for answer in said.values()} == {"own"}
    assert said["/api/metrics"]["total_cost"] == said["/api/metrics/costs"]["summary"]["total_cost"] == 1.0
    assert said["/api/metrics/usage"]["gpu"]["total_hours"] == 1.0
    assert said[SPEND]["total"]["settled"] == "1.000000"


def test_billing_tells_what_is_held_exactly_too(call, owner):
    CredentialFactory(team=owner.team, account_username="acme")
    paid(owner, charge=None, held=1_234_567)

    said = call("/api/cloud/providers/replicate/billing").json()

    assert (said["credit_balance"], said["held_micros"]["month"], said["held"]["month"]) == (None, 1_234_567, 1.234567)


# --- Our own report -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "keys"),
    [("person", "user"), ("preset", ["flux-lora"]), ("config", ["flux-lora"]), ("hardware", ["test-gpu"]), ("token", [0])],
)
def test_the_report_is_sorted_as_it_is_asked_for(call, owner, by, keys):
    paid(owner, charge=1_250_000, held=4 * USD, estimate_low=USD, estimate_high=2 * USD, billed_seconds=1000)

    said = call(SPEND, by=by).json()

    assert [row["key"] for row in said["rows"]] == ([owner.user.pk] if keys == "user" else keys)
    assert said["total"] == {
        "jobs": 1, "billed_seconds": "1000.000000", "estimate_low": "1.000000", "estimate_high": "2.000000", "held_for_them": "4.000000",
        "settled": "1.250000", "adjusted": "0.000000", "paid_for_failed": "0.000000", "jobs_held": 0, "held": "0.000000",
        "rehearsals": 0, "would_have_cost": "0.000000",
    }  # fmt: skip


def test_every_day_of_the_span_has_a_row(call, owner):
    said = call(SPEND, **{"by": "day", "from": "2026-02-27", "to": "2026-03-01"}).json()

    assert [row["key"] for row in said["rows"]] == ["2026-02-27", "2026-02-28", "2026-03-01"]
    assert (said["from"], said["to"], said["time_zone"], said["ends_at"]) == (
        "2026-02-27",
        "2026-03-01",
        "UTC",
        "2026-03-02T00:00:00+00:00",
    )


def test_job_by_job_comes_in_pages(call, owner):
    jobs = [paid(owner, at=timezone.now() + timedelta(seconds=number)) for number in range(3)]

    said = call(SPEND, by="job", limit=2, offset=1).json()

    assert [row["job_id"] for row in said["rows"]] == [job.job_id for job in jobs[1:]]
    assert (said["total_rows"], said["total"]["settled"], said["corrections"]) == (3, "3.000000", [])


@pytest.mark.parametrize("way", [{"format": "csv"}, {"accept": "text/csv"}])
@pytest.mark.parametrize("by", ["day", "person", "job"])
def test_the_report_comes_as_csv_in_both_ways(call, owner, way, by):
    paid(owner, charge=USD)

    answer = call(SPEND, by=by, span="today", **way)

    [row] = rows_of(answer)
    assert row["charged_usd" if by == "job" else "settled_usd"] == "1.000000"
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert f'filename="{owner.team.slug}-' in answer["Content-Disposition"]


@pytest.mark.parametrize(
    ("query", "field"),
    [({"by": "year"}, "by"), ({"format": "xml"}, "format"), ({"from": "x"}, "from"), ({"span": "x"}, "span"), ({"person": "x"}, "person")],
)
def test_what_cannot_be_read_is_refused_with_its_name(call, query, field):
    answer = call(SPEND, **query)

    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "invalid_input", field)


def test_somebody_elses_money_needs_the_right(call, owner, researcher):
    _, key = make_token(researcher)
    _, reads = make_token(owner, scopes=[Scope.READ])

    for token, person in ((key, owner), (reads, researcher)):
        answer = call(SPEND, key=token, person=person.user.pk)
        assert (answer.status_code, answer.json()["details"]) == (403, {"required_permission": "quota.view"})


def test_every_address_has_both_endings_and_is_closed_to_nobody(call, client):
    for path in [*METRICS, "/api/metrics/status", "/api/metrics/costs", "/api/metrics/usage", SPEND]:
        assert [call(path).status_code, call(f"{path}/").status_code, client.get(path).status_code] == [200, 200, 401], path
    for path in REFRESH:
        assert [call(path, method="post").status_code, call(f"{path}/", method="post").status_code] == [200, 200]
