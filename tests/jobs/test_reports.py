"""What was spent: every way of sorting it sums to the ledger, for any span, and no query more for more lines."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing import ledger
from billing import services as billing
from billing.models import LineKind
from jobs import reports
from jobs.questions import Question
from jobs.reports import Figures
from jobs.spans import Span
from jobs.states import State
from tests.billing.factories import USD
from tests.factories import MembershipFactory, TeamFactory, UserFactory, make_token
from tests.jobs.factories import JobFactory, TrainerFactory

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOVEMBER = Span(first=date(2026, 11, 1), last=date(2026, 11, 30), time_zone="UTC")


def spent(team, *, held=4 * USD, charge=None, at=NOON, settled_at=None, flag="", is_rehearsal=False, **job):
    """A job whose hold was taken at `at`, and settled at once unless `charge` is None."""
    job = JobFactory(team=team, submitted_at=at, **{"provider": "sandbox" if is_rehearsal else "replicate", **job})
    job.hold = billing.hold(
        team=team, amount=held, reference=job.reference, what_for="Training", price_line=job.price_line, user=job.submitted_by,
        token=job.token, is_rehearsal=is_rehearsal, now=at,
    ).hold  # fmt: skip
    job.save(update_fields=["hold"])
    if charge is not None:
        billing.settle(job.hold, charge=charge, now=settled_at or at, flag=flag)
    return job


def question(team, span=NOVEMBER, **more):
    return Question(team=team, span=span, **more)


def figures(team, span=NOVEMBER, **more):
    return reports.Spend(question(team, span, **more)).total()


REPORTS = ["by_day", "by_person", "by_preset", "by_hardware", "by_token"]

# --- Sums -----------------------------------------------------------------------------------------------------------

moments = st.datetimes(datetime(2026, 10, 23), datetime(2026, 11, 3), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
amounts = st.integers(0, 5 * USD)
runs = st.fixed_dictionaries(
    {
        "held": amounts,
        "charge": st.none() | amounts,
        "beyond": st.booleans(),
        "is_rehearsal": st.booleans(),
        "at": moments,
        "later": st.integers(0, 72),
        "person": st.integers(0, 1),
        "config": st.sampled_from(["", "flux", "=sdxl"]),
        "gpu": st.integers(0, 1),
        "token": st.booleans(),
        "state": st.sampled_from([State.COMPLETED, State.FAILED, State.CANCELLED]),
    }
)
corrections = st.tuples(moments, st.integers(-USD, USD), st.sampled_from(["job", "nothing", "other"]))


def summed(team, span):
    """The same figures straight from the ledger's lines."""
    lines = [line for line in team.ledger_lines.select_related("hold") if span.starts_at <= line.at < span.ends_at]
    real = [line for line in lines if not line.is_rehearsal]
    of = lambda rows, *kinds: sum(line.amount for line in rows if line.kind in kinds)  # noqa: E731
    return {
        "charged": of(real, "charge"),
        "adjusted": of(real, "adjust"),
        "held": sum(line.amount for line in real if line.kind == "hold" and line.hold.settled_at is None),
        "would_have_cost": of([line for line in lines if line.is_rehearsal], "charge", "adjust"),
        "jobs": sum(line.kind == "charge" for line in real),
    }


# Shrinking would take minutes: each example writes jobs and a ledger.
@settings(max_examples=20, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    made=st.lists(runs, max_size=6),
    by_hand=st.lists(corrections, max_size=2),
    first=st.dates(date(2026, 10, 22), date(2026, 11, 4)),
    days=st.integers(1, 9),
    zone=st.sampled_from(["UTC", "Europe/Madrid", "Asia/Kolkata", "America/Havana"]),
)
def test_every_way_of_sorting_sums_to_the_ledger(db, made, by_hand, first, days, zone):
    team = TeamFactory(time_zone=zone)
    people = [UserFactory(), UserFactory()]
    token, _ = make_token(MembershipFactory(team=team))
    gpus = [TrainerFactory(profile="test-gpu"), TrainerFactory(profile="other-gpu", label="Other")]
    jobs = [
        spent(
            team, held=run["held"], charge=run["charge"], at=run["at"], settled_at=run["at"] + timedelta(hours=run["later"]),
            flag="look" if run["beyond"] else "", is_rehearsal=run["is_rehearsal"], submitted_by=people[run["person"]],
            config_name=run["config"], trainer=gpus[run["gpu"]], token=token if run["token"] else None, state=run["state"],
        )
        for run in made
    ]  # fmt: skip
    for at, amount, whose in by_hand:
        reference = jobs[0].reference if jobs and whose == "job" else "invoice:1" if whose == "other" else ""
        ledger.append(team=team, kind=LineKind.ADJUST, amount=amount, at=at, reference=reference, reason="by hand")
    span = Span(first=first, last=first + timedelta(days=days - 1), time_zone=zone)

    spend = reports.Spend(question(team, span))

    expected = summed(team, span)
    totals = {name: getattr(spend, name)().total for name in REPORTS} | {"total": spend.total()}
    assert {name: {field: getattr(total, field) for field in expected} for name, total in totals.items()} == dict.fromkeys(totals, expected)
    assert len({*totals.values()}) == 1
    rows = list(reports.charge_rows(question(team, span)))
    assert {
        "charged": sum(row.charged for row in rows),
        "adjusted": sum(row.adjusted for row in rows),
        "held": sum(row.held for row in rows),
        "would_have_cost": sum(row.would_have_cost for row in rows),
    } == {name: value for name, value in expected.items() if name != "jobs"}
    ids = [row.job_id for row in rows if row.job_id]
    assert len(ids) == len(set(ids))


def test_all_time_is_what_the_ledgers_head_says(team_of_three):
    team = team_of_three

    total = figures(team, Span(first=date(2026, 1, 1), last=date(2026, 12, 31), time_zone="UTC"))

    team.ledger_head.refresh_from_db()
    assert (total.settled, total.held) == (team.ledger_head.charged, team.ledger_head.held) == (3 * USD, 2 * USD)


@pytest.fixture
def team_of_three():
    team = TeamFactory()
    spent(team, charge=USD)
    spent(team, charge=2 * USD, state=State.FAILED)
    spent(team, held=2 * USD)
    return team


# --- What belongs where -----------------------------------------------------------------------------------------------


def test_a_charge_belongs_to_the_day_on_which_it_was_settled_in_the_teams_zone():
    team = TeamFactory(time_zone="Asia/Tokyo")
    spent(team, charge=USD, at=datetime(2026, 11, 23, 14, 0, tzinfo=UTC), settled_at=datetime(2026, 11, 23, 15, 30, tzinfo=UTC))
    span = Span(first=date(2026, 11, 22), last=date(2026, 11, 25), time_zone="Asia/Tokyo")

    report = reports.Spend(question(team, span)).by_day()

    assert {row.label: row.figures.settled for row in report.rows} == {"2026-11-22": 0, "2026-11-23": 0, "2026-11-24": USD, "2026-11-25": 0}


def test_what_is_held_belongs_to_the_day_on_which_it_was_set_aside_until_it_is_settled():
    team = TeamFactory()
    job = spent(team, held=3 * USD, at=NOON)

    before = figures(team).held
    billing.settle(job.hold, charge=USD, now=datetime(2026, 12, 2, tzinfo=UTC))

    assert (before, figures(team).held, figures(team).settled) == (3 * USD, 0, 0)
    assert list(reports.charge_rows(question(team))) == []


def test_estimate_hold_and_charge_of_the_settled_jobs_stand_side_by_side():
    team = TeamFactory()
    spent(team, held=4 * USD, charge=USD, estimate_low=USD, estimate_high=2 * USD, billed_seconds=1000)
    spent(team, held=9 * USD, estimate_low=5 * USD, estimate_high=6 * USD)

    total = figures(team)

    assert (total.jobs, total.billed_seconds, total.estimate_low, total.estimate_high) == (1, 1000, USD, 2 * USD)
    assert (total.held_for_them, total.settled, total.jobs_held, total.held) == (4 * USD, USD, 1, 9 * USD)


def test_a_rehearsal_is_in_no_figure_but_its_own():
    team = TeamFactory()
    spent(team, charge=USD, is_rehearsal=True, billed_seconds=50, estimate_low=1, estimate_high=2)

    assert figures(team) == Figures(rehearsals=1, would_have_cost=USD)


def test_what_was_paid_for_failed_runs_is_told_and_can_be_asked_for_alone(team_of_three):
    assert figures(team_of_three).paid_for_failed == 2 * USD
    assert figures(team_of_three, only_failed=True).settled == 2 * USD


def test_a_correction_by_hand_belongs_to_the_job_that_it_names():
    team = TeamFactory()
    job = spent(team, charge=USD, config_name="flux")
    ledger.append(team=team, kind=LineKind.ADJUST, amount=-400_000, at=NOON, reference=job.reference, reason="invoice")

    report = reports.Spend(question(team)).by_preset()
    [row] = reports.charge_rows(question(team))

    assert [(each.key, each.figures.settled) for each in report.rows] == [("flux", 600_000)]
    assert (row.charged, row.adjusted, row.settled) == (USD, -400_000, 600_000)


def test_a_part_of_the_money_is_what_its_row_in_the_report_says(team_of_three):
    person = UserFactory()
    spent(team_of_three, charge=123, submitted_by=person, config_name="", trainer=TrainerFactory(profile="other", label="Other"))

    spend = reports.Spend(question(team_of_three))

    parts = [
        (spend.by_person(), lambda key: {"person_id": key}),
        (spend.by_preset(), lambda key: {"preset": key}),
        (spend.by_hardware(), lambda key: {"hardware": key}),
        (spend.by_token(), lambda key: {"token_id": key}),
    ]
    for report, narrower in parts:
        assert [figures(team_of_three, **narrower(row.key)) for row in report.rows] == [row.figures for row in report.rows]


def test_another_teams_money_of_the_same_person_is_not_mixed_in():
    person = UserFactory()
    team, other = TeamFactory(), TeamFactory()
    spent(team, charge=USD, submitted_by=person)
    spent(other, charge=5 * USD, submitted_by=person)

    assert figures(team, person_id=person.pk).settled == USD


@pytest.mark.parametrize("name", [*REPORTS, "total"])
def test_a_report_asks_as_often_for_many_jobs_as_for_one(name, django_assert_num_queries):
    team = TeamFactory()

    def ask():
        with django_assert_num_queries(2 if name in ("by_day", "by_preset", "total") else 3):
            getattr(reports.Spend(question(team)), name)()

    token, _ = make_token(MembershipFactory(team=team))
    spent(team, charge=USD, token=token)
    ask()
    for number in range(3):
        spent(team, charge=USD, config_name=str(number), token=token)
    ask()
