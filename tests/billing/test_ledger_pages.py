"""The ledger to look at: the page with its filters and files, one hold, the proof, and the same by API."""

import csv
import io
import json
from datetime import timedelta
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts import exports
from accounts.roles import Role, Scope
from billing import ledger, services
from billing.exports import LEDGER, check
from billing.models import LedgerLine, LineKind
from tests.billing.factories import NOW, USD
from tests.billing.test_ledger import Unlocked
from tests.factories import MembershipFactory, TeamFactory, UserFactory, make_token
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


def spent(lead, *, held=4 * USD, charge=None, ago=timedelta(), **options):
    at = timezone.now() - ago
    job = JobFactory(team=lead.team, submitted_by=lead.user, submitted_at=at)
    hold_for(job, micros=held)
    if charge is not None:
        services.settle(job.hold, charge=charge, now=at, **options)
    return job


def address(team, name="ledger", *args):
    return reverse(f"billing:{name}", args=[team.slug, *args])


def page_of(client, path):
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


def content_of(client, path):
    response = client.get(path)
    assert response.status_code == 200
    return b"".join(response.streaming_content).decode()


def rows_of(client, team, query=""):
    return list(csv.DictReader(io.StringIO(content_of(client, address(team, "ledger_lines") + query))))


# --- Lines ------------------------------------------------------------------------------------------------


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
        ("?period=daily", ["release", "charge", "hold"]),
        ("?period=fortnightly", ["release", "charge", "hold", "hold"]),
    ],
)
def test_the_filter_stands_in_the_address_and_holds_for_the_file(client, team, lead, query, kinds):
    spent(lead, ago=timedelta(days=40))
    spent(lead, charge=USD)

    rows = rows_of(client, team, query)

    assert [row["kind"] for row in rows] == kinds
    assert page_of(client, address(team) + query).split("<main")[1].count("<tr>") == (len(kinds) + 1 if kinds else 0)


def test_days_are_those_of_the_team(client, team, lead):
    team.time_zone = "Pacific/Auckland"
    team.save()
    ledger.append(team=team, kind=LineKind.ADJUST, amount=1, at=NOW)

    assert [len(rows_of(client, team, f"?since={day}&until={day}")) for day in ("2026-11-23", "2026-11-24")] == [0, 1]


def test_the_lines_that_are_shown_are_summed_and_open_their_holds(client, team, lead):
    job = spent(lead, held=4 * USD, charge=1_250_000)
    spent(lead, held=3 * USD)

    page = page_of(client, address(team)).split("<main")[1]

    assert [f'value="{figure}"' in page for figure in ("1.250000", "3.000000")] == [True, True]
    assert page.count(f'<a href="{address(team, "hold", job.hold.pk)}">') == 3
    assert f">{job.job_id}</a>" in page
    assert INLINE.findall(page) == []


def test_the_file_for_spreadsheets_has_exact_amounts_no_formulas_and_no_other_teams_lines(client, team, lead):
    job = spent(lead, held=1_234_567)
    ledger.append(team=team, kind=LineKind.TOP_UP, amount=USD, at=timezone.now(), reason="=1+1", reference="+x")
    spent(MembershipFactory())

    top_up, held = rows_of(client, team)

    assert (held["amount_usd"], held["reference"], held["by"]) == ("1.234567", job.reference, lead.user.username)
    assert (top_up["reason"], top_up["reference"]) == ("'=1+1", "'+x")


def test_the_page_asks_as_often_for_many_lines_as_for_one(client, team, lead, django_assert_num_queries):
    def ask():
        with django_assert_num_queries(12):
            page_of(client, address(team))

    spent(lead)
    ask()
    for _ in range(3):
        spent(lead, charge=USD, flag="look")
    assert LedgerLine.objects.count() == 10
    ask()


def test_charges_that_need_a_look_stand_on_top(client, team, lead):
    job = spent(lead, charge=USD, flag="unknown_at_provider: nobody knows")
    spent(MembershipFactory(), charge=USD, flag="another team's")

    page = page_of(client, address(team))

    assert "Needs a look" in page
    assert address(team, "hold", job.hold.pk) in page
    assert "another team&#x27;s" not in page


# --- One hold ---------------------------------------------------------------------------------------------


def test_a_hold_shows_how_its_charge_came_about(client, team, lead):
    job = spent(lead, held=4 * USD, charge=585_000, billed_seconds=Decimal("600.000000"))
    services.adjust(hold=job.hold, amount=15_000, reason="invoice 2026-11", by=UserFactory(username="ada"), now=timezone.now())

    page = page_of(client, address(team, "hold", job.hold.pk))

    assert [f'value="{figure}"' in page for figure in ("4.000000", "0.600000", "3.415000", "0.585000", "0.015000")] == [True] * 5
    assert "600 s × $0.000975 =" in page
    assert ["gpu-test" in page, "invoice 2026-11" in page, ">ada<" in page] == [True, True, True]
    assert reverse("jobs:detail", args=[team.slug, job.job_id]) in page
    assert INLINE.findall(page) == []


def test_a_hold_that_is_open_or_flagged_says_so(client, team, lead):
    open_one, flagged = spent(lead), spent(lead, charge=USD, flag="unknown_at_provider")

    assert "Not yet" in page_of(client, address(team, "hold", open_one.hold.pk))
    assert "This charge needs a look" in page_of(client, address(team, "hold", flagged.hold.pk))


def test_a_job_leads_whoever_sees_money_to_its_hold(client, team, lead):
    job = spent(lead, charge=USD)
    path = reverse("jobs:detail", args=[team.slug, job.job_id])

    assert address(team, "hold", job.hold.pk) in page_of(client, path)
    client.force_login(MembershipFactory(team=team, role=Role.VIEWER).user)
    assert address(team, "hold", job.hold.pk) not in page_of(client, path)


def test_a_job_costs_what_its_hold_was_adjusted_to(client, team, lead):
    job = spent(lead, charge=USD)
    services.adjust(hold=job.hold, amount=250_000, reason="invoice", by=None, now=timezone.now())
    _, key = make_token(lead)

    answer = client.get(f"/api/cloud/jobs/{job.job_id}", headers={"Authorization": f"Bearer {key}"}).json()

    assert answer["job"]["cost_usd_micros"] == 1_250_000


def test_another_teams_hold_does_not_exist(client, team, lead):
    theirs = spent(MembershipFactory(), charge=USD)

    assert client.get(address(team, "hold", theirs.hold.pk)).status_code == 404


# --- Proof ------------------------------------------------------------------------------------------------


def test_the_ledger_is_proven_on_the_page(client, team, lead):
    spent(lead, charge=USD)

    whole = page_of(client, address(team, "ledger_verify"))
    part = client.get(address(team, "ledger_verify"), headers={"HX-Request": "true"}).content.decode()

    assert "3 lines were checked." in whole
    assert "<main" in whole
    assert "<main" not in part
    assert team.ledger_head.hash in part


def test_a_broken_line_is_named_on_the_page_and_by_api(client, team, lead):
    spent(lead, charge=USD)
    with Unlocked():
        LedgerLine.objects.filter(team=team, kind="charge").update(amount=1)

    page = page_of(client, address(team, "ledger_verify"))
    answer = client.get("/api/cloud/ledger/verify").json()

    assert "line 2: The line was changed: its hash does not fit what it says." in page
    assert (answer["valid"], answer["lines_checked"]) == (False, 3)
    assert answer["broken_lines"] == [{"line": 2, "reason": "The line was changed: its hash does not fit what it says."}]
    assert (len(answer["unbalanced_holds"]), len(answer["wrong_totals"])) == (1, 2)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_the_whole_ledger_is_a_file_that_proves_itself(client, team, lead, form):
    spent(lead, charge=USD)

    by_page = content_of(client, address(team, "ledger_export", form))
    by_api = content_of(client, f"/api/cloud/ledger/export?format={form}")

    proof = check(exports.read(io.StringIO(by_page, newline=""), form, LEDGER))
    assert (proof.valid, proof.verification.checked, proof.charged) == (True, 3, USD)
    assert by_api == by_page


def test_there_are_two_forms_of_file(client, team):
    assert client.get(address(team, "ledger_export", "xlsx")).status_code == 404
    answer = client.get("/api/cloud/ledger/export?format=xlsx")
    assert (answer.status_code, answer.json()["field"]) == (400, "format")


# --- The API ----------------------------------------------------------------------------------------------


def test_the_api_reads_the_lines_part_by_part(client, team, lead):
    job = spent(lead, held=4 * USD, charge=1_250_000)
    spent(lead, held=3 * USD)

    first = client.get("/api/cloud/ledger?limit=3").json()
    second = client.get(f"/api/cloud/ledger/?limit=3&cursor={first['next_cursor']}").json()

    assert [line["sequence"] for line in first["lines"] + second["lines"]] == [4, 3, 2, 1]
    assert (first["next_cursor"], second["next_cursor"]) == ("2", None)
    charge = first["lines"][2]
    assert (charge["kind"], charge["amount"], charge["amount_micros"]) == ("charge", "1.250000", 1_250_000)
    assert (charge["job_id"], charge["hold"], charge["by"]) == (job.job_id, job.hold.pk, None)
    assert second["lines"][0]["by"] == lead.user.username


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("kind=charge", 1),
        ("job=j-nothing", 0),
        ("since=2001-01-01", 3),
        ("until=2001-01-01T00:00:00Z", 0),
        ("cursor=1", 0),
        ("limit=500", 3),
    ],
)
def test_the_api_filters_the_lines(client, team, lead, query, count):
    spent(lead, charge=USD)

    assert len(client.get(f"/api/cloud/ledger?{query}").json()["lines"]) == count


@pytest.mark.parametrize("query", ["kind=tip", "since=never", "cursor=x", "cursor=0", "limit=501", f"cursor={10**30}"])
def test_the_api_refuses_what_it_cannot_read(client, team, query):
    answer = client.get(f"/api/cloud/ledger?{query}")

    assert (answer.status_code, answer.json()["field"]) == (400, query.partition("=")[0])


def test_a_token_reads_the_ledger_with_the_scope_of_billing_only(client):
    owner = MembershipFactory(role=Role.OWNER)
    keys = [make_token(owner, scopes=[scope], name=scope)[1] for scope in (Scope.BILLING, Scope.READ)]

    answers = [client.get("/api/cloud/ledger", headers={"Authorization": f"Bearer {key}"}) for key in keys]

    assert [answer.status_code for answer in answers] == [200, 403]
    assert json.loads(answers[1].content)["details"]["required_permission"] == "quota.view"


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.RESEARCHER, 403), (Role.LEAD, 200), (Role.OWNER, 200)])
def test_leads_and_owners_see_the_ledger(client, team, role, status):
    client.force_login(MembershipFactory(team=team, role=role).user)

    assert [client.get(address(team, name)).status_code for name in ("ledger", "ledger_lines", "ledger_verify")] == [status] * 3


def test_a_strangers_ledger_does_not_exist(client, lead):
    assert client.get(address(TeamFactory())).status_code == 404
