"""The report of a year's spending: how long it takes with many jobs, beside reading as many lines one by one."""

from datetime import date, datetime, timedelta

import pytest
from django.utils.timezone import make_aware

from billing.models import Hold, LedgerLine, LineKind
from jobs import reports
from jobs.models import Job
from jobs.questions import Question
from jobs.reports import By
from jobs.spans import Span
from jobs.states import State
from tests.factories import MembershipFactory, TeamFactory
from tests.jobs.factories import JobFactory

pytestmark = pytest.mark.django_db

JOBS, TEAMS, LINES = 5000, 4, 3
FIRST = make_aware(datetime(2026, 1, 1))  # noqa: DTZ001 - made aware here


def fill(team, *, jobs):
    """Jobs over a year, each with the three lines of a settled hold. The chain's hashes are none: nobody walks it here."""
    pattern = JobFactory(team=team, state=State.COMPLETED)
    people = [MembershipFactory(team=team).user for _ in range(20)]
    times = [FIRST + timedelta(minutes=100 * number) for number in range(jobs)]
    holds = Hold.objects.bulk_create(
        Hold(
            team=team, user=people[number % 20], reference=f"job:{team.pk}-{number}", what_for="bench", amount=4_000_000, created_at=at,
            settled_at=at, charge=1_000_000, price_line=pattern.price_line,
        )
        for number, at in enumerate(times)
    )  # fmt: skip
    Job.objects.bulk_create(
        Job(
            job_id=f"{team.pk}-{number}", team=team, submitted_by=people[number % 20], config_name=f"config {number % 30}",
            packing_path=pattern.packing_path, trainer=pattern.trainer, destination=pattern.destination, credential=pattern.credential,
            price_line=pattern.price_line, hold=holds[number], estimate_low=1, estimate_high=2, ceiling_seconds=3600,
            stop_after_seconds=3600, billed_seconds=1000, state=State.COMPLETED, submitted_at=at,
        )
        for number, at in enumerate(times)
    )  # fmt: skip
    parts = ((LineKind.HOLD, 4_000_000), (LineKind.CHARGE, 1_000_000), (LineKind.RELEASE, 3_000_000))
    LedgerLine.objects.bulk_create(
        LedgerLine(team=team, sequence=LINES * number + part, at=at, kind=kind, amount=amount, hold=holds[number], hash="x")
        for number, at in enumerate(times)
        for part, (kind, amount) in enumerate(parts)
    )


def test_a_report_of_a_year_takes_no_longer_than_reading_its_lines(median_seconds):
    teams = [TeamFactory() for _ in range(TEAMS)]
    for team in teams:
        fill(team, jobs=JOBS)
    year = Question(team=teams[0], span=Span(first=date(2026, 1, 1), last=date(2026, 12, 31), time_zone="UTC"))
    month = Question(team=teams[0], span=Span(first=date(2026, 5, 1), last=date(2026, 5, 31), time_zone="UTC"))

    def page(question):
        spend = reports.Spend(question)
        return [spend.by(by) for by in By]

    assert page(year)[0].total.jobs == JOBS
    reading = median_seconds(lambda: list(LedgerLine.objects.filter(team=teams[0])), runs=3)
    whole, short = median_seconds(lambda: page(year), runs=3), median_seconds(lambda: page(month), runs=3)
    print(
        f"\nreports: five of {JOBS} jobs, {LINES * JOBS} of {TEAMS * LINES * JOBS} lines: {whole / reading:.2f} of reading the lines once; "
        f"of one month: {short / reading:.2f}"
    )
    assert whole < reading * 5
