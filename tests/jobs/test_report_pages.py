"""The pages of what was spent, and their files."""

import csv
import io
import re

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.roles import Role
from billing import ledger
from billing.models import LineKind
from tests.billing.factories import USD
from tests.factories import MembershipFactory, make_token
from tests.jobs.factories import JobFactory, TrainerFactory
from tests.jobs.test_reports import spent
from tests.pages import INLINE

pytestmark = pytest.mark.django_db


@pytest.fixture
def lead(client):
    lead = MembershipFactory(role=Role.LEAD)
    client.force_login(lead.user)
    return lead


@pytest.fixture
def team(lead):
    return lead.team


def paid(member, *, charge=USD, **options):
    return spent(member.team, charge=charge, at=timezone.now(), submitted_by=member.user, **options)


def page_of(client, team, name="report", query=""):
    response = client.get(reverse(f"jobs:{name}", args=[team.slug]) + query)
    assert response.status_code == 200
    return response.content.decode()


def main_of(*args, **more):
    return page_of(*args, **more).split("<main")[1]


def file_of(client, team, by, query=""):
    response = client.get(reverse("jobs:report_export", args=[team.slug, by]) + query)
    assert (response.status_code, response["Content-Type"]) == (200, "text/csv; charset=utf-8")
    return list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode())))


def amounts(main):
    return re.findall(r'<data class="number" value="([\d.-]+)"', main)


# --- The report ----------------------------------------------------------------------------------------------------------


def test_the_report_keeps_what_is_settled_held_and_rehearsed_apart(client, team, lead):
    paid(lead, charge=1_250_000, estimate_low=1, estimate_high=2)
    paid(lead, charge=None, held=7 * USD)
    paid(lead, charge=3 * USD, is_rehearsal=True)

    page = page_of(client, team)

    main = page.split("<main")[1]
    assert {"1.250000", "7.000000", "4.000000", "3.000000"} <= {*amounts(main)}
    assert "1 rehearsal would have cost $3.00." in main
    assert "10.000000" not in amounts(main)
    assert "4.250000" not in amounts(main)
    assert INLINE.findall(page) == []


def test_every_figure_leads_to_jobs_that_sum_to_it(client, team, lead):
    other = MembershipFactory(team=team)
    token, _ = make_token(lead)
    paid(lead, charge=USD, config_name="flux", token=token)
    paid(lead, charge=2 * USD, config_name="", state="failed")
    paid(other, charge=4 * USD, config_name="sdxl & co", trainer=TrainerFactory(profile="other", label="Other"))

    rows = re.findall(r'<td class="table-number whole"><a href="([^"]+)"><data class="number" value="([\d.]+)"', main_of(client, team))

    assert len(rows) == 1 + 2 + 3 + 2 + 2
    for href, amount in rows:
        main = client.get(href.replace("&amp;", "&")).content.decode().split("<main")[1]
        assert f'<strong><data class="number" value="{amount}"' in main.split("<tfoot>")[1]


@pytest.mark.parametrize(
    ("query", "settled"),
    [
        ("?span=today", "1.000000"),
        ("?span=yesterday", "0.000000"),
        ("?span=last_month", "0.000000"),
        ("?from=2001-01-01&to=2001-01-02", "0.000000"),
    ],
)
def test_the_days_stand_in_the_address(client, team, lead, query, settled):
    paid(lead, charge=USD)

    assert amounts(main_of(client, team, query=query))[0] == settled


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?from=never", "from must be a date"),
        ("?from=2026-02-01&to=2026-01-01", "must not lie after"),
        ("?from=2001-01-01&to=2026-01-01", "at most 366 days"),
        ("?span=always", "Unknown span"),
        ("?person=x", "person must be a whole number"),
        ("?preset=%00", "preset has a character"),
    ],
)
def test_an_address_that_cannot_be_read_is_told_and_this_month_is_shown(client, team, query, said):
    for name in ("report", "charges"):
        main = main_of(client, team, name, query)
        assert (said in main, "This month is shown instead." in main) == (True, True)


def test_the_days_that_are_chosen_keep_what_else_was_asked_for(client, team, lead):
    main = main_of(client, team, "charges", "?span=today&preset=flux&failed=1")

    assert 'href="?span=last_week&amp;preset=flux&amp;failed=1"' in main
    assert '<input type="hidden" name="preset" value="flux">' in main


def test_the_page_asks_as_often_for_many_jobs_as_for_one(client, team, lead, django_assert_num_queries):
    def ask(name, queries):
        with django_assert_num_queries(queries):
            page_of(client, team, name)

    paid(lead)
    ask("report", 15)
    ask("charges", 11)
    for number in range(3):
        paid(MembershipFactory(team=team), config_name=str(number))
    ask("report", 15)
    ask("charges", 11)


# --- Whose money ---------------------------------------------------------------------------------------------------------


def test_a_researcher_sees_their_own_spending_alone(client, team, lead):
    researcher = MembershipFactory(team=team, role=Role.RESEARCHER)
    own = paid(researcher, charge=USD)
    paid(lead, charge=5 * USD)
    client.force_login(researcher.user)

    main = main_of(client, team)
    rows = file_of(client, team, "job")

    assert ("What I spend" in main, "5.000000" in amounts(main), str(lead.user) in main) == (True, False, False)
    assert [row["job_id"] for row in rows] == [own.job_id]
    assert client.get(reverse("jobs:charges", args=[team.slug]) + f"?person={lead.user.pk}").status_code == 403


def test_a_job_that_was_taken_out_of_the_lists_was_paid_all_the_same(client, team, lead):
    job = paid(lead, charge=USD, deleted_at=timezone.now(), run_name="gone")

    main = main_of(client, team, "charges")

    assert ("gone" in main, f"/jobs/{job.job_id}/" in main) == (True, False)


def test_people_and_hardware_go_by_their_names_on_the_page_and_by_their_words_in_the_file(client, team, lead):
    lead.user.display_name = "Ada Lovelace"
    lead.user.save()
    job = paid(lead, trainer=TrainerFactory(profile="other", label="2x Other"))

    main = main_of(client, team, "charges")
    [row] = file_of(client, team, "job")

    assert ("Ada Lovelace" in main, "2x Other" in main, lead.user.username in main) == (True, True, False)
    assert (row["job_id"], row["person"], row["hardware"]) == (job.job_id, lead.user.username, "other")


# --- Files ---------------------------------------------------------------------------------------------------------------


def test_the_chargeback_has_a_row_for_each_job_with_exact_figures(client, team, lead):
    token, _ = make_token(lead, name="ci")
    job = paid(
        lead, charge=1_234_567, held=4 * USD, token=token, config_name="flux", estimate_low=USD, estimate_high=2 * USD, billed_seconds=1266
    )
    paid(lead, charge=300_000, is_rehearsal=True)
    ledger.append(team=team, kind=LineKind.ADJUST, amount=-34_567, at=timezone.now(), reference=job.reference, reason="invoice")

    first, rehearsal = file_of(client, team, "job")

    assert first == {
        "date": timezone.now().date().isoformat(), "team": team.slug, "job_id": job.job_id, "person": lead.user.username, "token": "ci",
        "preset": "flux", "hardware": "test-gpu", "state": "running", "billed_seconds": "1266.000000", "usd_per_second": "0.000975000",
        "estimate_low_usd": "1.000000", "estimate_high_usd": "2.000000", "held_for_it_usd": "4.000000", "charged_usd": "1.234567",
        "adjusted_usd": "-0.034567", "still_held_usd": "0.000000", "is_rehearsal": "false", "would_have_cost_usd": "0.000000",
        "reference": job.reference,
    }  # fmt: skip
    assert (rehearsal["charged_usd"], rehearsal["held_for_it_usd"], rehearsal["would_have_cost_usd"]) == (
        "0.000000",
        "0.000000",
        "0.300000",
    )


def test_files_hold_no_formulas_and_every_letter(client, team, lead):
    for name in ("=1+1", "+1", "-1", "@x", "ñandú, «中»"):
        paid(lead, config_name=name)

    rows, jobs = file_of(client, team, "preset"), file_of(client, team, "job")

    assert {row["preset"] for row in rows} == {"'=1+1", "'+1", "'-1", "'@x", "ñandú, «中»"} == {row["preset"] for row in jobs}


@pytest.mark.parametrize("by", ["day", "person", "preset", "hardware", "token", "job"])
def test_every_file_sums_to_the_same(client, team, lead, by):
    paid(lead, charge=1_000_001)
    paid(MembershipFactory(team=team), charge=2_000_002, state="failed")
    paid(lead, charge=None, held=5 * USD)
    paid(MembershipFactory(), charge=9 * USD)

    rows = file_of(client, team, by)

    settled = ("charged_usd", "adjusted_usd") if by == "job" else ("settled_usd",)
    held = "still_held_usd" if by == "job" else "held_usd"
    assert round(sum(float(row[name]) for row in rows for name in settled), 6) == 3.000003
    assert sum(float(row[held]) for row in rows) == 5.0


def test_a_report_that_is_none_and_an_address_that_cannot_be_read(client, team):
    assert client.get(f"/t/{team.slug}/spend/report/year.csv").status_code == 404
    assert client.get(f"/t/{team.slug}/spend/report/day.csv?from=never").status_code == 400


def test_a_run_that_was_started_elsewhere_is_not_in_the_report(client, team, lead):
    JobFactory(team=team, submitted_by=lead.user, submitted_at=timezone.now(), metadata={"imported": True}, cost=USD)

    assert file_of(client, team, "job") == []
