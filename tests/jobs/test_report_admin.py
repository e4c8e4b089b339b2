"""What every team spent in a month, in the administration."""

import csv
import io
from datetime import UTC, datetime

import pytest
from django.urls import reverse

from billing import ledger
from billing.models import LineKind
from tests.billing.factories import USD
from tests.factories import TeamFactory, UserFactory
from tests.jobs.test_reports import figures, spent

pytestmark = pytest.mark.django_db

PAGE = "/admin/spend/"


@pytest.fixture
def staff(client):
    user = UserFactory(is_staff=True)
    client.force_login(user)
    return user


def rows_of(client, by, month="2026-11"):
    response = client.get(f"{PAGE}{by}.csv?month={month}")
    return list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode())))


def at(day, hour=12):
    return datetime(2026, 11, day, hour, tzinfo=UTC)


def test_each_teams_month_is_that_of_its_own_page(client, staff):
    tokyo, utc, quiet = TeamFactory(time_zone="Asia/Tokyo", name="=Tokyo"), TeamFactory(), TeamFactory()
    # In Tokyo it is the first of December.
    spent(tokyo, charge=USD, at=at(30, 20))
    spent(tokyo, charge=2 * USD, at=at(10))
    spent(utc, charge=3 * USD, at=at(30, 20), state="failed")
    spent(utc, charge=None, held=USD, at=at(30, 20))
    ledger.append(team=utc, kind=LineKind.ADJUST, amount=-1, at=at(5), reason="by hand")
    spent(quiet, charge=USD, at=datetime(2026, 10, 3, tzinfo=UTC))

    found = {row["team"]: (row["settled_usd"], row["held_usd"], row["paid_for_failed_usd"]) for row in rows_of(client, "team")}
    page = client.get(f"{PAGE}?month=2026-11").content.decode()

    assert found == {utc.slug: ("2.999999", "1.000000", "3.000000"), tokyo.slug: ("2.000000", "0.000000", "0.000000")}
    assert figures(utc).settled == 2_999_999
    assert [row["name"] for row in rows_of(client, "team")] == [utc.name, "'=Tokyo"]
    assert (f'value="{found[utc.slug][0]}"' in page, 'value="4.999999"' in page, quiet.name in page) == (True, True, False)


def test_the_chargeback_of_all_teams_is_one_file(client, staff):
    first, second = (spent(TeamFactory(), charge=amount * USD, at=at(10)) for amount in (1, 2))

    assert [(row["team"], row["job_id"], row["charged_usd"]) for row in rows_of(client, "job")] == [
        (second.team.slug, second.job_id, "2.000000"),
        (first.team.slug, first.job_id, "1.000000"),
    ]


def test_the_links_of_a_team_lead_to_its_jobs_and_lines(client, staff):
    job = spent(TeamFactory(), charge=USD, at=at(10))
    page = client.get(f"{PAGE}?month=2026-11").content.decode()

    for name in ("jobs_job", "billing_ledgerline"):
        [link] = {part.split('"')[0] for part in page.split('href="') if part.startswith(reverse(f"admin:{name}_changelist") + "?team")}
        assert job.job_id in client.get(link.replace("&amp;", "&")).content.decode()


@pytest.mark.parametrize("month", ["", "2026-13", "0001-01", "x"])
def test_a_month_that_is_none_is_this_one(client, staff, month):
    assert client.get(f"{PAGE}?month={month}").status_code == 200


def test_it_stands_in_the_side_bar_and_is_staffs_alone(client, staff):
    assert f'href="{PAGE}"' in client.get("/admin/").content.decode()
    assert client.get(f"{PAGE}year.csv").status_code == 404

    client.force_login(UserFactory())
    assert [client.get(path).status_code for path in (PAGE, f"{PAGE}team.csv", f"{PAGE}job.csv")] == [302] * 3


def test_it_asks_as_often_for_many_teams_as_for_one(client, staff, django_assert_max_num_queries):
    for _ in range(4):
        spent(TeamFactory(), charge=USD, at=at(10))

    with django_assert_max_num_queries(8):
        client.get(f"{PAGE}?month=2026-11")
