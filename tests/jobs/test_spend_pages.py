"""The page of a team's money: what the limits and periods say, every line of the ledger, and the same as CSV."""

import csv
import io

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.roles import Role
from billing import ledger
from billing import services as billing
from billing.models import LedgerLine, LineKind
from tests.billing.factories import USD, SpendLimitFactory
from tests.factories import MembershipFactory
from tests.jobs.factories import JobFactory, hold_for
from tests.jobs.test_pages import INLINE

pytestmark = pytest.mark.django_db


@pytest.fixture
def lead(client):
    lead = MembershipFactory(role=Role.LEAD)
    client.force_login(lead.user)
    return lead


@pytest.fixture
def team(lead):
    return lead.team


def spent(lead, *, held=4 * USD, charge=None):
    job = JobFactory(team=lead.team, submitted_by=lead.user, submitted_at=timezone.now())
    hold_for(job, micros=held)
    if charge is not None:
        billing.settle(job.hold, charge=charge, now=timezone.now())
    return job


def address(team, name="spend"):
    return reverse(f"jobs:{name}", args=[team.slug])


def page_of(client, path):
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


def exported(client, team, query=""):
    response = client.get(address(team, "spend_export") + query)
    return list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode())))


def test_limits_periods_and_lines_are_shown(client, team, lead):
    SpendLimitFactory(team=team, amount=100 * USD)
    open_job, settled = spent(lead, held=5 * USD), spent(lead, held=4 * USD, charge=1_250_000)

    page = page_of(client, address(team))

    main = page.split("<main")[1]
    assert [f'value="{figure}"' in main for figure in ("100.000000", "93.750000", "1.250000", "2.750000")] == [True] * 4
    assert "$5.00 held" in main
    assert [f">{job.job_id}</a>" in main for job in (open_job, settled)] == [True, True]
    assert INLINE.findall(page) == []


def test_of_the_platforms_limit_only_what_is_left_is_shown(client, team, lead):
    SpendLimitFactory(scope="platform", team=None, amount=77 * USD)
    hold_for(JobFactory(submitted_at=timezone.now()), micros=11 * USD)

    main = page_of(client, address(team)).split("<main")[1]

    assert ["$66.00" in main, "$77.00" in main, "$11.00" in main] == [True, False, False]


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ("", ["release", "charge", "hold", "hold"]),
        ("?kind=hold", ["hold", "hold"]),
        ("?kind=nonsense", ["release", "charge", "hold", "hold"]),
        ("?until=2001-01-01", []),
        ("?since=2001-01-01", ["release", "charge", "hold", "hold"]),
        ("?since=never", ["release", "charge", "hold", "hold"]),
        ("?job=j-nothing", []),
    ],
)
def test_the_filter_stands_in_the_address_and_holds_for_the_csv(client, team, lead, query, kinds):
    spent(lead)
    spent(lead, charge=USD)

    rows = exported(client, team, query)

    assert [row["kind"] for row in rows] == kinds
    assert page_of(client, address(team) + query).split("<main")[1].count(' value="1.000000"') >= kinds.count("charge")


def test_the_csv_has_exact_amounts_and_no_other_teams_lines(client, team, lead):
    job = spent(lead, held=1_234_567)
    spent(MembershipFactory())

    rows = exported(client, team)

    assert [(row["amount_usd"], row["reference"], row["by"]) for row in rows] == [("1.234567", job.reference, lead.user.username)]


def test_the_csv_holds_no_formulas(client, team):
    ledger.append(team=team, kind=LineKind.TOP_UP, amount=USD, at=timezone.now(), reason="=1+1", reference="+x")

    row = exported(client, team)[0]

    assert (row["reason"], row["reference"]) == ("'=1+1", "'+x")


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.RESEARCHER, 403), (Role.LEAD, 200), (Role.OWNER, 200)])
def test_leads_and_owners_see_the_money(client, team, role, status):
    client.force_login(MembershipFactory(team=team, role=role).user)

    assert [client.get(address(team, name)).status_code for name in ("spend", "spend_export")] == [status, status]
    assert (address(team) in page_of(client, team.get_absolute_url())) is (status == 200)


def test_a_strangers_money_does_not_exist(client, team):
    client.force_login(MembershipFactory().user)

    assert [client.get(address(team, name)).status_code for name in ("spend", "spend_export")] == [404, 404]


def test_the_page_asks_as_often_for_many_lines_as_for_one(client, team, lead, django_assert_num_queries):
    def ask():
        with django_assert_num_queries(12):
            page_of(client, address(team))

    spent(lead)
    ask()
    for _ in range(3):
        spent(lead, charge=USD)
    assert LedgerLine.objects.count() == 10
    ask()
