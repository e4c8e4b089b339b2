"""Reports as CSV, for spreadsheets and programs: UTF-8, amounts exact and in US dollars, no text that would be taken for a formula."""

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

from accounts.exports import APOSTROPHE, FORMULA
from accounts.models import Team
from billing.prices import as_number
from jobs import reports, spans
from jobs.questions import Question
from jobs.reports import By, Charge, Figures, Report

CONTENT_TYPE = "text/csv; charset=utf-8"
FIGURES = (
    *("jobs", "billed_seconds", "estimate_low_usd", "estimate_high_usd", "held_for_them_usd", "settled_usd", "adjusted_usd"),
    *("paid_for_failed_usd", "jobs_held", "held_usd", "rehearsals", "would_have_cost_usd"),
)
# One row a job: what a company's own books take in.
CHARGES = (
    *("date", "team", "job_id", "person", "token", "preset", "hardware", "state", "billed_seconds", "usd_per_second"),
    *("estimate_low_usd", "estimate_high_usd", "held_for_it_usd", "charged_usd", "adjusted_usd", "still_held_usd"),
    *("is_rehearsal", "would_have_cost_usd", "reference"),
)


# The report that has a row for each job.
CHARGEBACK = "job"


def name_of(question: Question, by: str) -> str:
    """What a report's file is called."""
    what = "chargeback" if by == CHARGEBACK else f"spend-by-{by}"
    return f"{question.team.slug}-{what}-{question.span.first}-{question.span.last}.csv"


def pieces(question: Question, by: str) -> Iterator[bytes]:
    """A report as CSV, piece by piece; `by` is one of By, or CHARGEBACK."""
    if by == CHARGEBACK:
        return charge_rows(question)
    return report_rows(By(by), reports.Spend(question).by(By(by)))


def report_rows(by: By, report: Report) -> Iterator[bytes]:
    """A row for each row of the report; what no job stands behind has no key."""
    heads = [by.value] if by == By.DAY else [by.value, f"{by.value}_key"]
    yield row([*heads, *FIGURES])
    for each in report.rows:
        key = "" if each.key is None else str(each.key)
        yield row([*([key] if by == By.DAY else [each.label, key]), *_figures(each.figures)])


def team_rows(month: date, teams: Iterable[tuple[Team, Figures]]) -> Iterator[bytes]:
    """A row for each team."""
    yield row(["month", "team", "name", "time_zone", *FIGURES])
    for team, figures in teams:
        yield row([f"{month:%Y-%m}", team.slug, team.name, team.time_zone, *_figures(figures)])


def charges_of_teams(month: date, teams: Iterable[Team]) -> Iterator[bytes]:
    """The chargeback of all of them in one file."""
    yield row(CHARGES)
    for team in teams:
        question = Question(team=team, span=spans.month_of(month, team.time_zone))
        yield from _charges(question)


def charge_rows(question: Question) -> Iterator[bytes]:
    """The chargeback: a row for each job, its day that of the team's zone."""
    yield row(CHARGES)
    yield from _charges(question)


def _charges(question: Question) -> Iterator[bytes]:
    for charge in reports.charge_rows(question):
        yield row(_charge(question.team.slug, charge, day=charge.at.astimezone(question.span.zone).date()))


def _charge(team: str, charge: Charge, *, day: date) -> list[Any]:
    """One row of it, by CHARGES."""
    return [
        *(day.isoformat(), team, charge.job_id, charge.person, charge.token, charge.preset, charge.hardware, charge.state),
        *(_plain(charge.billed_seconds), _plain(charge.usd_per_second), usd(charge.estimate_low), usd(charge.estimate_high)),
        *(usd(charge.held_for_it), usd(charge.charged), usd(charge.adjusted), usd(charge.held)),
        *(str(charge.is_rehearsal).lower(), usd(charge.would_have_cost), charge.reference),
    ]


def _figures(figures: Figures) -> list[Any]:
    return [
        *(figures.jobs, _plain(figures.billed_seconds), usd(figures.estimate_low), usd(figures.estimate_high)),
        *(usd(figures.held_for_them), usd(figures.settled), usd(figures.adjusted), usd(figures.paid_for_failed)),
        *(figures.jobs_held, usd(figures.held), figures.rehearsals, usd(figures.would_have_cost)),
    ]


class Number(str):
    """Written as it is: it may begin with a minus, and no spreadsheet takes it for a formula."""


def usd(micros: int | None) -> Number:
    return Number("" if micros is None else f"{as_number(micros):f}")


def _plain(number: Any) -> Number:
    return Number("" if number is None else f"{number:f}")


def row(values: Iterable[Any]) -> bytes:
    """One row. Text that a spreadsheet would take for a formula gets an apostrophe before it."""
    text = io.StringIO()
    csv.writer(text).writerow([_cell(value) for value in values])
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    return APOSTROPHE + value if isinstance(value, str) and not isinstance(value, Number) and value.startswith(FORMULA) else value
