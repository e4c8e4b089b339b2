"""The page of a team's money: what the limits and periods say, and where the lines behind them stand."""

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.roles import Role
from billing import services as billing
from billing.models import LedgerLine
from tests.billing.factories import USD, SpendLimitFactory
from tests.factories import MembershipFactory
from tests.jobs.factories import JobFactory, hold_for
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


def ledger_of(team):
    return reverse("billing:ledger", args=[team.slug])


def test_limits_and_periods_are_shown(client, team, lead):
    SpendLimitFactory(team=team, amount=100 * USD)
    spent(lead, held=5 * USD)
    spent(lead, held=4 * USD, charge=1_250_000)

    page = page_of(client, address(team))

    main = page.split("<main")[1]
    assert [f'value="{figure}"' in main for figure in ("100.000000", "93.750000", "1.250000")] == [True] * 3
    assert "$5.00 held" in main
    assert INLINE.findall(page) == []


def test_of_the_platforms_limit_only_what_is_left_is_shown(client, team, lead):
    SpendLimitFactory(scope="platform", team=None, amount=77 * USD)
    hold_for(JobFactory(submitted_at=timezone.now()), micros=11 * USD)

    main = page_of(client, address(team)).split("<main")[1]

    assert ["$66.00" in main, "$77.00" in main, "$11.00" in main] == [True, False, False]


def test_a_figure_opens_into_its_lines(client, team, lead):
    job = spent(lead, held=4 * USD, charge=1_250_000)

    page = page_of(client, address(team))

    assert f'<a href="{ledger_of(team)}?period=monthly"><data class="number" value="1.250000"' in page
    assert f">{job.job_id}</a>" in page_of(client, ledger_of(team) + "?period=monthly")


def test_charges_that_need_a_look_are_counted(client, team, lead):
    job = spent(lead)
    assert "needs a look" not in page_of(client, address(team))

    billing.settle(job.hold, charge=USD, now=timezone.now(), flag="unknown_at_provider")

    assert "1 charge needs a look." in page_of(client, address(team))


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.RESEARCHER, 403), (Role.LEAD, 200), (Role.OWNER, 200)])
def test_leads_and_owners_see_the_money(client, team, role, status):
    client.force_login(MembershipFactory(team=team, role=role).user)

    assert client.get(address(team)).status_code == status


def test_who_submits_finds_spending_in_the_rail_and_the_limits_are_for_who_may_see_all(client, team):
    found = {}
    for role in Role.values:
        client.force_login(MembershipFactory(team=team, role=role).user)
        overview = page_of(client, team.get_absolute_url())
        report = page_of(client, address(team, "report")).split("<main")[1]
        found[role] = (f'href="{address(team, "report")}"' in overview, f'href="{address(team)}"' in report)

    assert found == {"viewer": (False, False), "researcher": (True, False), "lead": (True, True), "owner": (True, True)}


def test_a_strangers_money_does_not_exist(client, team):
    client.force_login(MembershipFactory().user)

    assert client.get(address(team)).status_code == 404


def test_the_page_asks_as_often_for_many_lines_as_for_one(client, team, lead, django_assert_num_queries):
    def ask():
        with django_assert_num_queries(13):
            page_of(client, address(team))

    spent(lead)
    ask()
    for _ in range(3):
        spent(lead, charge=USD)
    assert LedgerLine.objects.count() == 10
    ask()
